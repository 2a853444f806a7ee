"""The Better Auth that the other tests get tokens from is a real one, and does what they ask of it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest

from tests.better_auth_server import Issuer, running_issuer
from tests.people import SECRET

ALGORITHMS = ["EdDSA", "ES256", "ES512", "RS256", "PS256"]


@pytest.fixture
def issuer(tmp_path: Path, empty_database: Callable[[], str]) -> Iterator[Issuer]:
    with running_issuer(tmp_path, empty_database()) as started:
        yield started


def header(token: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(decoded(token.partition(".")[0]))
    return said


def decoded(base64url: str) -> bytes:
    return base64.urlsafe_b64decode(base64url + "==")


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def kids(issuer: Issuer) -> set[str]:
    return {key["kid"] for key in issuer.keys()}


def verified(issuer: Issuer, token: str) -> dict[str, Any]:
    key = next(key for key in issuer.keys() if key["kid"] == header(token)["kid"])
    origin = issuer.base_url
    return jwt.decode(token, jwt.PyJWK(key), [header(token)["alg"]], audience=origin, issuer=origin)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_verifies_with_the_published_keys(
    tmp_path: Path, empty_database: Callable[[], str], algorithm: str
) -> None:
    with running_issuer(tmp_path, empty_database(), ALGORITHM=algorithm) as issuer:
        ada = issuer.sign_up("ada@example.com", "a long password", "Ada Lovelace")
        token = issuer.token(ada)

        assert header(token) == {"alg": algorithm, "kid": next(iter(kids(issuer)))}
        said = verified(issuer, token)
        assert said["sub"] == said["id"] == ada.user_id
        assert said["iss"] == said["aud"] == issuer.url
        assert said["exp"] - said["iat"] == 15 * 60
        assert (said["email"], said["name"]) == ("ada@example.com", "Ada Lovelace")

        signature = token.rpartition(".")[2]
        forged = token.removesuffix(signature) + ("B" if signature[0] == "A" else "A") + signature[1:]
        with pytest.raises(jwt.InvalidSignatureError):
            verified(issuer, forged)


@pytest.mark.parametrize(
    ("kind", "is_such"),
    [
        ("text", lambda id: re.fullmatch("[A-Za-z0-9]{32}", id)),
        ("uuid", lambda id: str(UUID(id)) == id),
        ("serial", lambda id: re.fullmatch("[1-9][0-9]*", id)),
    ],
)
def test_ids_of_each_kind_are_strings(
    tmp_path: Path, empty_database: Callable[[], str], kind: str, is_such: Callable[[str], Any]
) -> None:
    with running_issuer(tmp_path, empty_database(), ID_KIND=kind) as issuer:
        ada = issuer.sign_up()
        token = issuer.token(ada)
        assert verified(issuer, token)["sub"] == ada.user_id
        assert is_such(ada.user_id)
        assert is_such(header(token)["kid"])
        issuer.withdraw(header(token)["kid"])
        assert header(token)["kid"] not in kids(issuer)


def test_rotation_changes_the_key_and_withdrawal_removes_it(issuer: Issuer) -> None:
    ada = issuer.sign_up()
    old = issuer.token(ada)
    assert header(issuer.token(ada)) == header(old)

    issuer.rotate()
    assert kids(issuer) == {header(old)["kid"]}, "a new key is not published before its first use"
    new = issuer.token(ada)
    assert kids(issuer) == {header(old)["kid"], header(new)["kid"]}
    assert verified(issuer, old)["sub"] == verified(issuer, new)["sub"] == ada.user_id

    issuer.withdraw(header(old)["kid"])
    assert kids(issuer) == {header(new)["kid"]}


def test_a_restart_keeps_users_and_keys_and_takes_other_settings(issuer: Issuer) -> None:
    ada = issuer.sign_up()
    before = header(issuer.token(ada))

    issuer.restart(PAYLOAD="minimal", ALGORITHM="ES256", GRACE_SECONDS="0")
    minimal = issuer.token(ada)
    assert header(minimal) == before, "another algorithm waits for the next rotation"
    assert set(verified(issuer, minimal)) == {"iat", "exp", "iss", "aud", "sub"}

    issuer.rotate()
    assert issuer.keys() == [], "without grace, nothing is published until somebody signs"
    after = issuer.token(ada)
    assert header(after)["alg"] == "ES256"
    assert kids(issuer) == {header(after)["kid"]}


def test_keys_that_rotate_by_themselves_expire(tmp_path: Path, empty_database: Callable[[], str]) -> None:
    with running_issuer(tmp_path, empty_database(), ROTATION_SECONDS="1") as issuer:
        ada = issuer.sign_up()
        first = header(issuer.token(ada))["kid"]
        assert any(header(issuer.token(ada))["kid"] != first for _ in range(1000))
        assert first in kids(issuer)


def test_an_email_verification_token_is_signed_with_the_secret_and_has_no_sub(issuer: Issuer) -> None:
    ada = issuer.sign_up()
    token = issuer.email_verification_token(ada)
    assert header(token) == {"alg": "HS256"}
    said = jwt.decode(token, SECRET, ["HS256"])
    assert (said["email"], said["userId"]) == ("ada@example.com", ada.user_id)
    assert not {"sub", "iss", "aud"} & set(said)
    assert httpx.get(f"{issuer.url}/api/auth/verify-email", params={"token": token}).json()["status"] is True


def test_session_tokens_and_cookies_are_not_tokens(issuer: Issuer) -> None:
    ada = issuer.sign_up()
    assert re.fullmatch("[A-Za-z0-9]{32}", ada.session_token)
    assert re.fullmatch("[A-Za-z0-9]{32}[.][A-Za-z0-9+/]{43}=", ada.signed_session_token)

    issuer.restart(COOKIE_STRATEGY="compact")
    compact = issuer.sign_up("compact@example.com").session_cookie
    assert "." not in compact
    assert "signature" in json.loads(decoded(compact))

    issuer.restart(COOKIE_STRATEGY="jwe")
    encrypted = issuer.sign_up("jwe@example.com").session_cookie
    assert header(encrypted)["alg"] == "dir"
    assert encrypted.count(".") == 4

    issuer.restart(COOKIE_STRATEGY="jwt")
    shared = issuer.sign_up("jwt@example.com").session_cookie
    assert header(shared) == {"alg": "HS256"}
    assert not {"sub", "iss", "aud"} & set(jwt.decode(shared, SECRET, ["HS256"]))

    issuer.restart(COOKIE_STRATEGY="published")
    eve = issuer.sign_up("published@example.com")
    cookie = eve.session_cookie
    assert header(cookie) == {
        "alg": "EdDSA",
        "kid": header(issuer.token(eve))["kid"],
        "typ": "better-auth.session-cache+jwt",
    }
    with pytest.raises(jwt.InvalidAudienceError):
        verified(issuer, cookie)
    assert (claims(cookie)["sub"], claims(cookie)["iss"]) == (eve.user_id, issuer.url)


def test_in_production_the_key_set_is_rate_limited(issuer: Issuer) -> None:
    issuer.restart(NODE_ENV="production")
    with httpx.Client() as client:
        answers = [client.get(issuer.jwks_url) for _ in range(101)]
    assert [answer.status_code for answer in answers] == [200] * 100 + [429]
    assert int(answers[-1].headers["x-retry-after"]) > 0


def test_it_ends_with_whoever_started_it(issuer: Issuer) -> None:
    process = issuer._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0


def test_a_wrong_setting_is_refused(tmp_path: Path, database_url: str) -> None:
    with (
        pytest.raises(AssertionError, match="ALGORITHM is HS256; it must be one of EdDSA, ES256"),
        running_issuer(tmp_path, database_url, ALGORITHM="HS256"),
    ):
        pass
