"""The HS256 part of docs/tokens.md: which tokens count, what the others are told, and what is
remembered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

import logs
from errors import Unauthorized
from tests import servers
from tests.contract.wire import ask
from tests.people import SECRET, Person, token_for
from tokens import verification
from tokens.keys import Keys
from tokens.verification import MEMORY_ENTRIES, TOKEN_MAX_BYTES, CurrentUser, Verifier

KEY = SECRET.encode()
FRONTEND = "http://localhost:3000"
SESSION_TOKEN = "looks like a Better Auth session token; use GET /api/auth/token"
NOW = int(time.time())
LATER = NOW + 86_400

Json = Mapping[str, Any] | bytes


class Clock:
    """The clocks of auth.py and of its warnings. They stand at NOW unless moved by hand: the tables
    below are older."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0.0
        now = SimpleNamespace(time=lambda: NOW + self.passed, monotonic=lambda: 1000 + self.passed)
        monkeypatch.setattr(verification, "time", now)
        monkeypatch.setattr(logs, "time", now)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def decoded(segment: bytes) -> bytes:
    return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


def text_of(value: Json) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def signed(header: Json, payload: Json, key: bytes = KEY, digest: str = "sha256") -> bytes:
    """A token made by hand: no library checks what goes into it."""
    signing_input = encoded(text_of(header)) + b"." + encoded(text_of(payload))
    return signing_input + b"." + encoded(hmac.digest(key, signing_input, digest))


HS256 = {"alg": "HS256", "typ": "JWT"}


def claiming(**claims: Any) -> bytes:
    return signed(HS256, {"sub": "ada", "exp": LATER, **claims})


def without(claim: str, **claims: Any) -> bytes:
    return signed(
        HS256,
        {
            name: value
            for name, value in {"sub": "ada", "exp": LATER, **claims}.items()
            if name != claim
        },
    )


def headed(**header: Any) -> bytes:
    return signed({**HS256, **header}, {"sub": "ada", "exp": LATER})


def verifier(strict: bool = False, secret: bytes = KEY, previous: bytes = b"") -> Verifier:
    return Verifier(Keys(secret, previous=previous), FRONTEND, FRONTEND, strict)


def user_of(token: bytes, by: Verifier | None = None) -> CurrentUser:
    return asyncio.run((by or verifier()).user_of(token))


def refusal(token: bytes, by: Verifier | None = None) -> Unauthorized:
    with pytest.raises(Unauthorized) as caught:
        user_of(token, by)
    return caught.value


GOOD = claiming(email="ada@example.com")

# --- tokens that count ---

COUNT: dict[str, bytes] = {
    "the plan's": claiming(),
    "no typ": signed({"alg": "HS256"}, {"sub": "ada", "exp": LATER}),
    "typ in small letters": headed(typ="jwt"),
    "a kid, which a shared secret does not need": headed(kid="any"),
    "no exp": without("exp"),
    "our issuer and audience": claiming(iss=FRONTEND, aud=FRONTEND),
    "our audience among others": claiming(aud=["https://other.example", FRONTEND]),
    "times with fractions": claiming(iat=NOW - 0.5, nbf=NOW - 0.5, exp=LATER + 0.5),
    "expired within the leeway": claiming(exp=NOW - 14),
    "issued within the leeway": claiming(iat=NOW + 15, nbf=NOW + 15),
    "unknown claims": claiming(role="admin", id="bob", userId="bob", name=None),
    "headers that point elsewhere": headed(
        jku="http://127.0.0.1:1/", x5u="file:///etc/passwd", jwk={"kty": "oct"}, x5c=["x"]
    ),
    "far in the future": claiming(exp=10**11),
    "a sub of 255 characters": claiming(sub="ada"),
}


@pytest.mark.parametrize("token", COUNT.values(), ids=COUNT)
def test_a_sound_token_counts(token: bytes) -> None:
    assert user_of(token)["id"] == "ada"


@pytest.mark.parametrize(
    "sub", ["a", "0042", "Ünï cödé", "a b", "\U0001f600", "a" * 255, " ", "null"]
)
def test_the_user_is_the_sub_exactly(sub: str) -> None:
    assert user_of(claiming(sub=sub))["id"] == sub


@pytest.mark.parametrize(
    ("email", "expected"), [("ada@example.com", "ada@example.com"), (None, None)]
)
def test_an_email_may_be_absent(email: str | None, expected: str | None) -> None:
    assert user_of(claiming(**({"email": email} if email else {}))) == {
        "id": "ada",
        "email": expected,
    }


# --- tokens that do not ---

HEADER, PAYLOAD, SIGNATURE = GOOD.split(b".")
BASE = {"sub": "ada", "exp": LATER}
RS_KEY = (
    b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----"
)


def spare_bits(segment: bytes) -> bytes:
    """The same bytes, with another last character: 32 bytes leave two bits of it unused."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return segment[:-1] + bytes([alphabet[alphabet.index(segment[-1]) ^ 1]])


MALFORMED: dict[str, bytes] = {
    "a word": b"x",
    "a session token": b"s" * 32,
    "a signed session token": b"a" * 32 + b"." + b"b" * 43,
    "four segments": GOOD + b".x",
    "five segments, as if encrypted": b"a.b.c.d.e",
    "empty segments": b"..",
    "an empty header": b"." + PAYLOAD + b"." + SIGNATURE,
    "an empty payload": HEADER + b".." + SIGNATURE,
    "an empty signature": HEADER + b"." + PAYLOAD + b".",
    "an inner blank": HEADER + b" ." + PAYLOAD + b"." + SIGNATURE,
    "two tokens": GOOD + b" " + GOOD,
    "two tokens with a comma": GOOD + b", Bearer " + GOOD,
    "quoted": b'"' + GOOD + b'"',
    "padding": HEADER + b"." + PAYLOAD + b"." + SIGNATURE + b"=",
    "spare bits": HEADER + b"." + PAYLOAD + b"." + spare_bits(SIGNATURE),
    "the other base64": signed(HS256, b'{"sub":"\xc3\xbf\xc3\xbe???"}')
    .replace(b"-", b"+")
    .replace(b"_", b"/")
    + b"+",
    "a byte beyond ASCII": HEADER + b"\xff." + PAYLOAD + b"." + SIGNATURE,
    "a length that no base64 has": HEADER + b"." + PAYLOAD + b"." + SIGNATURE[:41],
    "over 8 KiB": signed(HS256, {**BASE, "x": "a" * TOKEN_MAX_BYTES}),
    "over 8 KiB of nothing": b"a" * (TOKEN_MAX_BYTES + 1),
    "a header that is no JSON": signed(b"alg", BASE),
    "a header that is a list": signed(b'["HS256"]', BASE),
    "a header with alg twice": signed(b'{"alg":"none","alg":"HS256"}', BASE),
    "a header that is nested 3,000 deep": signed(
        b'{"alg":"HS256","x":%s%s}' % (b"[" * 1500, b"]" * 1500), BASE
    ),
    "a header with a lone surrogate": signed(b'{"alg":"HS256","kid":"\\ud800"}', BASE),
    "a header with a byte order mark": signed(b'\xef\xbb\xbf{"alg":"HS256"}', BASE),
    "a header in UTF-16": signed('{"alg":"HS256"}'.encode("utf-16-le"), BASE),
    "a kid that is a number": headed(kid=1),
    "a kid that is null": headed(kid=None),
    "a payload that is no JSON": signed(HS256, b"sub"),
    "a payload that is a string": signed(HS256, b'"ada"'),
    "a payload that is null": signed(HS256, b"null"),
    "sub twice": signed(HS256, b'{"sub":"bob","sub":"ada"}'),
    "sub twice, once escaped": signed(HS256, b'{"sub":"bob","\\u0073ub":"ada"}'),
    "an unknown claim twice": signed(HS256, b'{"sub":"ada","x":1,"x":1}'),
    "a lone surrogate in sub": signed(HS256, b'{"sub":"\\ud800"}'),
    "a lone surrogate elsewhere": signed(HS256, b'{"sub":"ada","x":"\\udfff"}'),
    "a lone surrogate in a name": signed(HS256, b'{"sub":"ada","\\udfff":1}'),
    "exp NaN": signed(HS256, b'{"sub":"ada","exp":NaN}'),
    "exp Infinity": signed(HS256, b'{"sub":"ada","exp":Infinity}'),
    "exp beyond a double": signed(HS256, b'{"sub":"ada","exp":1e999}'),
    "exp of thousands of digits": signed(HS256, b'{"sub":"ada","exp":%s}' % (b"9" * 5000)),
    "exp null": claiming(exp=None),
    "exp a string": claiming(exp=str(LATER)),
    "exp true": claiming(exp=True),
    "exp a list": claiming(exp=[LATER]),
    "nbf null": claiming(nbf=None),
    "nbf a string": claiming(nbf="0"),
    "iat false": claiming(iat=False),
    "iat an object": claiming(iat={}),
    "iss empty": claiming(iss=""),
    "iss null": claiming(iss=None),
    "iss a list": claiming(iss=[FRONTEND]),
    "aud empty": claiming(aud=""),
    "aud null": claiming(aud=None),
    "aud an empty list": claiming(aud=[]),
    "aud a list with an empty string": claiming(aud=[FRONTEND, ""]),
    "aud a list with a number": claiming(aud=[FRONTEND, 1]),
    "aud an object": claiming(aud={FRONTEND: 1}),
    "crit": headed(crit=["exp"]),
    "crit, empty": headed(crit=[]),
    "crit with b64": headed(crit=["b64"], b64=False),
    "crit, and an algorithm that is none of ours": headed(alg="HS384", crit=["exp"]),
    "crit, unsigned": encoded(b'{"alg":"none","crit":["exp"]}') + b"." + PAYLOAD + b".",
    "none, unsigned, with a payload that is not base64url": encoded(b'{"alg":"none"}') + b".a=.",
    "none, with a signature that is not base64url": encoded(b'{"alg":"none"}')
    + b"."
    + PAYLOAD
    + b".a=",
    "HS384, unsigned": encoded(b'{"alg":"HS384"}') + b"." + PAYLOAD + b".",
    "exp in milliseconds": claiming(exp=LATER * 1000),
    "exp in milliseconds, with a fraction": claiming(exp=LATER * 1000 + 0.5),
    "exp in milliseconds, and long past": claiming(exp=(NOW - 86_400) * 1000),
    "exp in microseconds": claiming(exp=LATER * 1_000_000),
    "exp beyond all time": claiming(exp=10**300),
}
UNSUPPORTED_ALGORITHM: dict[str, bytes] = {
    **{
        f"alg {name}": headed(alg=name)
        for name in ("none", "None", "NONE", "", "hs256", "HS-256", "HS1", "dir", "A256KW")
    },
    **{f"alg {kind!r}": headed(alg=kind) for kind in (None, 0, True, [], ["HS256"], {"HS256": 1})},
    "no alg": signed({"typ": "JWT"}, BASE),
    "none, unsigned": encoded(b'{"alg":"none"}') + b"." + PAYLOAD + b".AA",
    "HS384, well signed": signed({"alg": "HS384"}, BASE, digest="sha384"),
    "HS512, well signed": signed({"alg": "HS512"}, BASE, digest="sha512"),
    **{
        f"{name}, unsecured": encoded(text_of({"alg": name})) + b"." + PAYLOAD + b"."
        for name in ("none", "None", "NONE", "nOnE")
    },
    "none, unsecured, of type JWT": encoded(b'{"typ":"JWT","alg":"none"}') + b"." + PAYLOAD + b".",
    "b64": headed(b64=False),
    "b64, true": headed(b64=True),
}
OF_PUBLISHED_KEYS = {
    "RS256 with the secret": headed(alg="RS256"),
    "ES256 with the secret": headed(alg="ES256", kid="any"),
    "EdDSA with the secret": headed(alg="EdDSA"),
}
UNSUPPORTED_TYPE = {
    f"typ {kind!r}": headed(typ=kind)
    for kind in ("at+jwt", "dpop+jwt", "JWE", "", "JWT ", None, 1, ["JWT"])
}
BAD_SIGNATURE: dict[str, bytes] = {
    "another secret": signed(HS256, BASE, b"b" * 32),
    "an empty secret": signed(HS256, BASE, b""),
    "a longer secret": signed(HS256, BASE, KEY + b"\n"),
    "the secret decoded from base64": signed(HS256, BASE, base64.b64encode(KEY)),
    "a public key as the secret": signed(HS256, BASE, RS_KEY),
    "a longer hash": signed(HS256, BASE, digest="sha512"),
    "another payload": HEADER + b"." + encoded(b'{"sub":"bob"}') + b"." + SIGNATURE,
    "another header": encoded(b'{"alg":"HS256"}') + b"." + PAYLOAD + b"." + SIGNATURE,
    "half a signature": HEADER + b"." + PAYLOAD + b"." + encoded(decoded(SIGNATURE)[:16]),
    "a longer signature": HEADER + b"." + PAYLOAD + b"." + encoded(decoded(SIGNATURE) + b"\0"),
    "zeros": HEADER + b"." + PAYLOAD + b"." + encoded(bytes(32)),
    "one byte": HEADER + b"." + PAYLOAD + b".AA",
    "a payload that is no JSON, unsigned": HEADER + b"." + encoded(b"{") + b"." + SIGNATURE,
    "expired, and signed by another": signed(HS256, {"sub": "ada", "exp": 1}, b"b" * 32),
}
EXPIRED = {
    "an hour ago": claiming(exp=NOW - 3600),
    "at the leeway's end": claiming(exp=NOW - 15),
    "at the epoch": claiming(exp=0),
    "before it": claiming(exp=-(10**300)),
    "in milliseconds long past": claiming(exp=-1.5),
}
NOT_YET = {
    "nbf": claiming(nbf=NOW + 86_400),
    "iat": claiming(iat=NOW + 86_400),
    "iat in milliseconds": claiming(iat=NOW * 1000),
    "nbf far away": claiming(nbf=10**300),
    "one of the two": claiming(nbf=NOW + 86_400, iat=NOW),
}
WRONG_ISSUER = {
    name: claiming(iss=name)
    for name in (
        "https://evil.example",
        f"{FRONTEND}/",
        "HTTP://LOCALHOST:3000",
        " ",
        "localhost:3000",
    )
}
WRONG_AUDIENCE: dict[str, bytes] = {
    "another": claiming(aud="https://evil.example"),
    "with a slash": claiming(aud=f"{FRONTEND}/"),
    "others": claiming(aud=["https://a.example", "https://b.example"]),
    "a part of ours": claiming(aud="http://localhost"),
    "a session cookie's": claiming(aud="better-auth-session"),
}
MISSING_SUBJECT: dict[str, bytes] = {
    "absent": without("sub"),
    "an e-mail verification token": signed(HS256, {"email": "ada@example.com", "exp": LATER}),
    "a session cookie": signed(
        HS256, {"session": {"userId": "ada"}, "user": {"id": "ada"}, "exp": LATER}
    ),
    "id and userId instead": without(
        "sub", id="ada", userId="ada", user_id="ada", email="ada@example.com"
    ),
    "Sub": without("sub", Sub="ada"),
    **{
        repr(sub)[:20]: claiming(sub=sub)
        for sub in (None, "", 7, 0, True, ["ada"], {"id": "ada"}, "a" * 256)
    },
    **{
        ascii(char): claiming(sub=f"a{char}b")
        for char in ("\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\x9f")
    },
}
HOSTILE: dict[str, dict[str, bytes]] = {
    "malformed_token": MALFORMED,
    "unsupported_algorithm": UNSUPPORTED_ALGORITHM,
    "unsupported_type": UNSUPPORTED_TYPE,
    "bad_signature": BAD_SIGNATURE,
    "token_expired": EXPIRED,
    "token_not_yet_valid": NOT_YET,
    "wrong_issuer": WRONG_ISSUER,
    "wrong_audience": WRONG_AUDIENCE,
    "missing_subject": MISSING_SUBJECT,
}
CASES = [(reason, name) for reason, tokens in HOSTILE.items() for name in tokens]


@pytest.mark.parametrize(("reason", "name"), CASES)
def test_a_hostile_token_is_refused_for_its_reason(reason: str, name: str) -> None:
    assert refusal(HOSTILE[reason][name]).reason == reason


MILLISECONDS = {
    "exp": claiming(exp=LATER * 1000),
    "nbf": claiming(nbf=NOW * 1000),
    "iat": claiming(iat=NOW * 1000.0),
}


@pytest.mark.parametrize("claim", MILLISECONDS)
def test_a_time_in_milliseconds_is_called_so_in_the_answer_and_the_log(
    claim: str, ada: Person, caplog: pytest.LogCaptureFixture
) -> None:
    sentence = f"{claim} looks like milliseconds; it must be seconds since 1970"
    token = MILLISECONDS[claim]
    assert refusal(token).hint == sentence
    assert sentence in caplog.text
    reply = ada.request("GET", ada.tasks, headers={"Authorization": b"Bearer " + token})
    assert reply.status_code == 401
    assert f'error_description="{sentence}"' in reply.headers["WWW-Authenticate"]


def test_a_time_in_milliseconds_is_said_although_another_refusal_of_its_reason_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    by = verifier()
    for token in (b"x", claiming(exp=LATER * 1000), claiming(exp=LATER * 1000)):
        refusal(token, by)
    assert len(caplog.records) == 2
    assert "milliseconds" in caplog.text


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (without("sub"), "sub is missing; it must be the user's id"),
        (
            without("sub", userId="ada-canary"),
            "sub is missing; it must be the user's id (the token has userId)",
        ),
        (
            without(
                "sub",
                user={"id": "ada-canary"},
                email="ada-canary@example.com",
                id="ada-canary",
                ada="canary",
            ),
            "sub is missing; it must be the user's id (the token has id, user, email)",
        ),
        (claiming(sub=7), "sub is not a string; it must be the user's id"),
        (claiming(sub=None), "sub is not a string; it must be the user's id"),
        (claiming(sub=""), "sub is empty; it must be the user's id"),
        (claiming(sub="a" * 256), "sub is longer than 255 characters; it must be the user's id"),
        (claiming(sub="a\nb"), "sub has control characters; it must be the user's id"),
    ],
)
def test_the_log_says_what_is_wrong_with_sub(
    token: bytes, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = refusal(token)
    assert (refused.reason, refused.hint) == ("missing_subject", sentence)
    assert sentence in caplog.text
    assert "canary" not in caplog.text
    assert refused.description == sentence.partition(" (")[0], "public: nothing of the token"


@pytest.mark.parametrize("token", [b"s" * 32, b"a" * 32 + b"." + b"b" * 43, b"x.y"])
def test_a_session_token_is_told_where_tokens_are(token: bytes) -> None:
    assert refusal(token).description == SESSION_TOKEN


def test_a_token_of_exactly_8_kib_is_read() -> None:
    short = len(claiming(x=""))
    room = (TOKEN_MAX_BYTES - short) * 3 // 4
    token = max(
        (claiming(x="a" * (room + more)) for more in range(-3, 4)),
        key=lambda one: (len(one) <= 8192, len(one)),
    )
    assert TOKEN_MAX_BYTES - 3 <= len(token) <= TOKEN_MAX_BYTES == 8192
    assert user_of(token)["id"] == "ada"


def test_every_flipped_bit_of_a_signature_is_refused() -> None:
    raw, by = decoded(SIGNATURE), verifier()
    assert user_of(GOOD, by)["id"] == "ada"
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        assert (
            refusal(HEADER + b"." + PAYLOAD + b"." + encoded(bytes(flipped)), by).reason
            == "bad_signature"
        )


def test_every_flipped_bit_of_a_token_is_refused() -> None:
    by = verifier()
    for bit in range(len(GOOD) * 8):
        flipped = bytearray(GOOD)
        flipped[bit // 8] ^= 1 << bit % 8
        refusal(bytes(flipped), by)


@pytest.mark.parametrize("more", [0, 0.001, 1])
def test_the_leeway_is_15_seconds(more: float) -> None:
    assert user_of(claiming(exp=NOW - 14.999))["id"] == "ada"
    assert refusal(claiming(exp=NOW - 15 - more)).reason == "token_expired"
    for claim in ("nbf", "iat"):
        assert user_of(claiming(**{claim: NOW + 15}))["id"] == "ada"
        assert refusal(claiming(**{claim: NOW + 15.001 + more})).reason == "token_not_yet_valid"


def test_without_a_secret_no_hs256_token_counts() -> None:
    for key in (b"", b"x", KEY):
        assert refusal(signed(HS256, BASE, key), verifier(secret=b"")).status == 401


def test_the_secret_is_raw_bytes() -> None:
    for secret in (
        "schlüssel-" * 4,
        "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA==",
        "0x" + "ab" * 20,
    ):
        token = signed(HS256, BASE, secret.encode())
        assert user_of(token, verifier(secret=secret.encode()))["id"] == "ada"


# --- two secrets, while one is replaced by another ---

NEW_KEY = b"the secret after a rotation, of 32 bytes and more"


def test_while_secrets_are_rotated_tokens_of_both_count(verifications: list[bytes]) -> None:
    by = verifier(secret=NEW_KEY, previous=KEY)
    for token in (signed(HS256, BASE, NEW_KEY), signed(HS256, BASE, KEY)):
        assert user_of(token, by)["id"] == "ada"
        assert user_of(token, by)["id"] == "ada"
    assert len(verifications) == 2, "both are remembered"
    assert refusal(signed(HS256, BASE, b"b" * 32), by).reason == "bad_signature"
    assert refusal(signed(HS256, BASE, b""), by).reason == "bad_signature"
    assert refusal(signed({"alg": "RS256"}, BASE, KEY), by).reason == "unsupported_algorithm"


def test_a_token_of_the_previous_secret_is_checked_like_any_other() -> None:
    by = verifier(secret=NEW_KEY, previous=KEY)
    for reason, tokens in HOSTILE.items():
        for token in tokens.values():
            assert refusal(token, by).reason == reason


def test_after_the_rotation_the_previous_secret_counts_no_more() -> None:
    by = verifier(secret=NEW_KEY, previous=KEY)
    old = signed(HS256, BASE, KEY)
    assert user_of(old, by)["id"] == "ada"
    by.keys = Keys(NEW_KEY)
    assert refusal(old, by).reason == "bad_signature", "not even a token that is remembered"


# --- AUTH_STRICT ---


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("iss", "wrong_issuer"), ("aud", "wrong_audience"), ("exp", "malformed_token")],
)
def test_strict_requires_what_may_else_be_missing(missing: str, reason: str) -> None:
    token = without(missing, iss=FRONTEND, aud=FRONTEND)
    assert user_of(token)["id"] == "ada"
    assert refusal(token, verifier(strict=True)).reason == reason
    assert user_of(claiming(iss=FRONTEND, aud=FRONTEND), verifier(strict=True))["id"] == "ada"


# --- what is remembered ---


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The tokens that were verified and not only remembered."""
    seen: list[bytes] = []
    verify: Callable[..., Any] = Verifier.verify

    async def noted(self: Verifier, token: bytes) -> Any:
        seen.append(token)
        return await verify(self, token)

    monkeypatch.setattr(Verifier, "verify", noted)
    return seen


def test_a_token_is_verified_once_a_minute(clock: Clock, verifications: list[bytes]) -> None:
    by = verifier()
    for clock.passed in (0, 1, 59, 61, 62):
        assert user_of(GOOD, by)["id"] == "ada"
    assert len(verifications) == 2


def test_exp_is_checked_on_every_hit(clock: Clock) -> None:
    by, token = verifier(), claiming(exp=NOW + 10)
    for clock.passed in (0.0, 24.0):
        assert user_of(token, by)["id"] == "ada"
    clock.passed = 26
    assert refusal(token, by).reason == "token_expired"


def test_at_most_4096_tokens_are_remembered() -> None:
    by = verifier()

    async def meet_many() -> int:
        largest = 0
        for number in range(MEMORY_ENTRIES + 200):
            await by.user_of(claiming(sub=f"user-{number}"))
            largest = max(largest, len(by._memory))
        return largest

    assert MEMORY_ENTRIES == 4096
    assert asyncio.run(meet_many()) == 4096


def test_with_more_people_than_places_not_everybody_is_verified_each_time(
    verifications: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000 people in turn and 4,096 places, each ten times less."""
    monkeypatch.setattr(verification, "MEMORY_ENTRIES", 410)
    by = verifier()
    tokens = [claiming(sub=f"user-{number}") for number in range(500)]

    async def ask_in_turn(rounds: int) -> None:
        for _ in range(rounds):
            for token in tokens:
                await by.user_of(token)

    asyncio.run(ask_in_turn(4))
    warmed_up = len(verifications)
    asyncio.run(ask_in_turn(2))
    assert len(verifications) - warmed_up < 500, "of 1,000 requests: two thirds are remembered"
    assert len(by._memory) == 410


def test_a_token_that_is_verified_again_takes_nobodys_place(
    clock: Clock, verifications: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "MEMORY_ENTRIES", 50)
    by = verifier()
    tokens = [claiming(sub=f"user-{number}") for number in range(50)]
    for clock.passed in (0, 61, 62):
        for token in tokens:
            user_of(token, by)
    assert len(verifications) == 100


def test_what_is_remembered_is_the_hash_and_not_the_token() -> None:
    by = verifier()
    user_of(GOOD, by)
    assert list(by._memory) == [hashlib.sha256(GOOD).digest()]
    kept = repr(by._memory).encode()
    assert SIGNATURE not in kept
    assert PAYLOAD not in kept
    assert KEY not in kept


def test_a_token_is_forgotten_when_its_key_goes(verifications: list[bytes]) -> None:
    by = verifier()
    user_of(GOOD, by)
    by.keys = Keys(b"another-secret-of-more-than-32-bytes")
    assert refusal(GOOD, by).reason == "bad_signature"


@pytest.mark.parametrize("name", OF_PUBLISHED_KEYS)
def test_without_published_keys_only_hs256_is_accepted(name: str) -> None:
    assert refusal(OF_PUBLISHED_KEYS[name], verifier()).reason == "unsupported_algorithm"


def test_a_refused_token_is_not_remembered() -> None:
    by = verifier()
    for token in [*MALFORMED.values(), *BAD_SIGNATURE.values(), *EXPIRED.values()]:
        refusal(token, by)
    assert by._memory == {}


# --- through the front door ---

CHALLENGE = re.compile(
    r'Bearer realm="todo", error="invalid_token", error_description="([\x20\x21\x23-\x5b\x5d-\x7e]+)"'
)


@pytest.mark.parametrize("reason", HOSTILE)
def test_the_answer_gives_the_reason_and_a_challenge_of_fixed_words(
    ada: Person, reason: str
) -> None:
    bodies = set()
    for token in HOSTILE[reason].values():
        if len(token) > 30_000 or not token.isascii():
            continue
        reply = ada.request("GET", ada.tasks, headers={"Authorization": b"Bearer " + token})
        assert reply.status_code == 401
        body = reply.json()
        assert (body["code"], body["error"], body["reason"]) == (
            "UNAUTHORIZED",
            "Invalid token",
            reason,
        )
        if "milliseconds" not in reply.headers["WWW-Authenticate"]:  # which has advice of its own
            bodies.add(reply.content)
        challenge = reply.headers["WWW-Authenticate"]
        assert CHALLENGE.fullmatch(challenge)
        assert not any(
            part and part in challenge.encode() for part in token.split(b".") if len(part) > 6
        )
    assert len(bodies) == 1


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token x", "bearer\t", "Bearerx"]
)
def test_no_token_is_told_only_the_realm(server: servers.Running, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = ask(server.url, "GET", "/api/ada/tasks", None, headers)
    assert (reply.status, reply.json()["reason"], reply.error) == (
        401,
        "missing_token",
        "Missing token",
    )
    assert reply.headers["www-authenticate"] == 'Bearer realm="todo"'


def test_two_authorization_headers_are_malformed(ada: Person) -> None:
    del ada.client.headers["Authorization"]
    twice = [("Authorization", f"Bearer {ada.token}")] * 2
    reply = ada.client.get(ada.tasks, headers=twice)
    assert (reply.status_code, reply.json()["reason"]) == (401, "malformed_token")


def test_a_token_at_the_door_counts_for_its_own_path_only(ada: Person, bob: Person) -> None:
    assert ada.get().status_code == 200
    assert ada.request("GET", bob.tasks).status_code == 403


def test_flipped_signatures_are_refused_at_the_door_after_the_token_was_remembered(
    ada: Person,
) -> None:
    assert ada.get().status_code == 200
    head, _, signature = ada.token.encode().rpartition(b".")
    for bit in range(0, 256, 23):
        flipped = bytearray(decoded(signature))
        flipped[bit // 8] ^= 1 << bit % 8
        token = (head + b"." + encoded(bytes(flipped))).decode()
        reply = ada.request("GET", ada.tasks, headers={"Authorization": f"Bearer {token}"})
        assert reply.json()["reason"] == "bad_signature"


def test_the_log_names_no_token_secret_or_address(ada: Person, server: servers.Running) -> None:
    canary = f"canary-{ada.id}"
    address = f"{canary}@example.com"
    tokens = [
        token_for(ada.id, email=address, name=canary),
        token_for(ada.id, secret=f"{canary}-of-more-than-thirty-two-bytes", email=address),
        token_for(ada.id, email=address, exp=1),
        token_for(ada.id, email=address, aud=canary),
        token_for("", email=address),
        signed(
            {**HS256, "kid": f"{canary}\r\nforged line"},
            {"sub": "ada", "email": address},
            b"b" * 32,
        ).decode(),
        signed({"alg": canary}, {"sub": canary}).decode(),
        f"{canary}.{canary}",
        canary,
    ]
    for token in tokens:
        ada.request("GET", ada.tasks, headers={"Authorization": f"Bearer {token}"})
        ada.request(
            "GET",
            f"{ada.tasks}?access_token={token}&email={address}",
            headers={"Authorization": "Bearer x"},
        )
        ada.post(
            {"title": canary, "description": token}, headers={"Authorization": f"Bearer {token}"}
        )
    printed = server.printed()
    assert " 401 " in printed  # the requests are there
    assert canary not in printed
    assert SECRET not in printed
    for token in [*tokens[:7], ada.token]:
        assert not any(part in printed for part in token.split(".") if len(part) > 20)


def test_a_refusal_is_logged_by_reason_and_hash_once_a_minute(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    by = verifier()
    with caplog.at_level(logging.WARNING, "todo.auth"):
        for _ in range(3):
            refusal(BAD_SIGNATURE["zeros"], by)
        refusal(EXPIRED["an hour ago"], by)
        clock.passed = 61
        refusal(BAD_SIGNATURE["one byte"], by)
    hashes = [
        hashlib.sha256(token).hexdigest()[:8]
        for token in (BAD_SIGNATURE["zeros"], EXPIRED["an hour ago"], BAD_SIGNATURE["one byte"])
    ]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    for line, digest, reason in zip(
        lines, hashes, ("bad_signature", "token_expired", "bad_signature"), strict=True
    ):
        assert re.search(rf"\b{digest}\b", line)
        assert reason in line
