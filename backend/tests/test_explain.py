"""`todo token` mints a token that counts; `todo token --inspect` says line by line why one does or
does not."""

from __future__ import annotations

import asyncio
import io
import sys
import time

import jwt
import pytest

import cli
from errors import ADVICE, SettingError
from tests.people import SECRET, token_for
from tests.servers import BACKEND, free_port
from tests.signers import ORIGIN, Signer, key_set
from tokens import jwks, report, verification
from tokens.keys import Keys, PublishedKeys

ADA = Signer("EdDSA", "ada-key")


def lines(token: str, secret: str = SECRET, url: str | None = None) -> list[str]:
    published = (
        PublishedKeys(url)
        if url
        else PublishedKeys("http://keys.invalid", lambda _: jwks.parse(key_set(ADA)))
    )
    checked = verification.Verifier(Keys(secret.encode(), published), ORIGIN, ORIGIN)

    async def told() -> list[str]:
        return [line async for line in report.explain(token.encode(), checked)]

    return asyncio.run(told())


def test_a_token_that_counts_says_what_it_says() -> None:
    told = lines(ADA.token("ada", email="ada@example.com"))
    assert told[:3] == ["alg       EdDSA", "typ       (none)", "kid       ada-key"]
    assert "sub       ada" in told
    assert f"expected  iss {ORIGIN}, aud {ORIGIN}" in told
    assert "keys      http://keys.invalid" in told
    assert "others    email" in told, "named, and not shown"
    assert any(line.startswith("exp ") and "UTC, in " in line for line in told)
    assert told[-1] == "accepted  as user ada"


@pytest.mark.parametrize(
    ("token", "reason", "advice"),
    [
        ("a" * 32, "malformed_token", "GET /api/auth/token"),
        ("token.signature", "malformed_token", "GET /api/auth/token"),
        (ADA.token(header={"alg": "none"}), "unsupported_algorithm", "jwt() plugin"),
        (ADA.token(header={"typ": "at+jwt"}), "unsupported_type", "another kind"),
        (ADA.token(header={"kid": "other"}), "unknown_key", "AUTH_JWKS_URL"),
        (Signer("EdDSA", "ada-key").token(), "bad_signature", ""),
        (
            token_for("ada", secret="another secret, and one of 32 bytes"),
            "bad_signature",
            "to the last character",
        ),
        (
            f"{ADA.token(header={'alg': 'none'}).rpartition('.')[0]}.",
            "unsupported_algorithm",
            "jwt() plugin",
        ),
        (ADA.token(header={"crit": ["exp"]}), "malformed_token", ""),
        (ADA.token(exp=3600), "token_expired", '"15m"'),
        (
            ADA.token(exp=int(time.time() + 900) * 1000),
            "malformed_token",
            "Math.floor(Date.now() / 1000)",
        ),
        (
            ADA.token(iat=int(time.time()) * 1000),
            "token_not_yet_valid",
            "Math.floor(Date.now() / 1000)",
        ),
        (ADA.token(nbf=time.time() * 1000), "token_not_yet_valid", "Math.floor(Date.now() / 1000)"),
        (ADA.token(iat=int(time.time()) + 3600), "token_not_yet_valid", "clocks"),
        (ADA.token(iss="http://localhost:3001"), "wrong_issuer", "BETTER_AUTH_URL"),
        (ADA.token(aud="http://localhost:3001"), "wrong_audience", "BETTER_AUTH_URL"),
        (jwt.encode({"email": "ada@example.com"}, SECRET), "missing_subject", "E-mail links"),
    ],
)
def test_a_refusal_comes_with_advice(token: str, reason: str, advice: str) -> None:
    verdict = lines(token)[-1]
    assert verdict.startswith(f"REFUSED   {reason}: ")
    assert advice in verdict
    assert SECRET not in "\n".join(lines(token))


def test_a_time_in_milliseconds_is_shown_as_what_it_means() -> None:
    told = lines(ADA.token(exp=1_795_332_154_000, iat=1_795_331_254_500.5, nbf=10**300))
    assert "exp       1795332154000 (milliseconds; in seconds it is 1795332154)" in told
    assert "iat       1795331254500.5 (milliseconds; in seconds it is 1795331254)" in told
    assert any(line.startswith("nbf       1000") and "milliseconds" in line for line in told)


def test_every_reason_has_advice() -> None:
    page = (BACKEND.parent / "docs" / "tokens.md").read_text()
    table = page.partition("## You see a 401")[2].partition("|---|")[2]
    reasons = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert set(ADVICE) == reasons


def test_a_token_cannot_write_lines_of_its_own() -> None:
    hostile = "x\naccepted  as user ada\x1b[2J"
    for told in [
        lines(ADA.token(header={"kid": hostile, "typ": hostile})),
        lines(ADA.token(hostile, None, iss=hostile, **{hostile: 1})),
        lines(jwt.encode({"sub": "ada\u202e\u2028", hostile: hostile}, SECRET)),
    ]:
        shown = "\n".join(told).split("\n")
        assert "\x1b" not in "".join(shown)
        assert len([line for line in shown if line.startswith("accepted")]) <= 1
        assert all(line.isprintable() for line in shown)


def test_without_the_keys_it_says_so() -> None:
    told = lines(ADA.token(), url=f"http://127.0.0.1:{free_port()}/jwks")
    assert told[-1].startswith("UNKNOWN   The signing keys are out of reach")
    assert "ConnectionRefusedError" in told[-1]


def test_the_command_mints_and_inspects_and_never_prints_the_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def todo_token(*arguments: str, secret: str = SECRET) -> str:
        monkeypatch.setenv("BETTER_AUTH_SECRET", secret)
        assert cli.main(["token", *arguments]) == 0
        printed = capsys.readouterr()
        assert secret not in printed.out + printed.err
        return printed.out.strip()

    token = todo_token("--user", "ada", "--email", "ada@example.com", "--hours", "1")
    claims = jwt.decode(
        token, SECRET, ["HS256"], audience="http://localhost:3000", issuer="http://localhost:3000"
    )
    assert (claims["sub"], claims["email"], claims["exp"] - claims["iat"]) == (
        "ada",
        "ada@example.com",
        3600,
    )

    monkeypatch.setattr(sys, "stdin", io.StringIO(f"Bearer {token}\n"))
    assert todo_token("--inspect", "-").splitlines()[-1] == "accepted  as user ada"
    foreign = todo_token("--inspect", token, secret="another secret, and one of 32 bytes")
    assert "REFUSED   bad_signature" in foreign


def test_a_setting_that_cannot_be_a_secret_is_refused() -> None:
    with pytest.raises(SettingError, match="must be the frontend's random secret"):
        Keys(b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA")
