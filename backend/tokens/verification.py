"""Whether a bearer token is one of ours, and whose it is (docs/tokens.md)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import math
import random
import re
import time
from dataclasses import dataclass
from typing import Any, TypedDict

import config
import logs
import strict_json
from errors import Unauthorized
from logs import quotable
from tokens.jwks import Key
from tokens.keys import PUBLISHED_ALGORITHMS, SHARED_ALGORITHM, Keys, PublishedKeys

log = logging.getLogger("todo.auth")

TOKEN_MAX_BYTES = 8 * 1024
SUBJECT_MAX = 255
LEEWAY_SECONDS = 15
MEMORY_ENTRIES = 4096
MEMORY_SECONDS = 60
SECONDS_MAX = 10**11  # the year 5138; in milliseconds it was 1973

_SAME_URL = "is BETTER_AUTH_URL the same on both sides?"
_USERS_ELSEWHERE = (
    "id",
    "userId",
    "user_id",
    "uid",
    "user",
    "session",
    "email",
)  # claims that own routes use
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class CurrentUser(TypedDict):
    """`id` is the token's `sub`: opaque, never cast. `email` is what the token says, unchecked."""

    id: str
    email: str | None


def bearer_token(headers: list[tuple[bytes, bytes]]) -> bytes:
    sent = [value for name, value in headers if name == b"authorization"]
    if len(sent) > 1:
        raise Unauthorized("malformed_token", "more than one Authorization header was sent")
    scheme, _, token = sent[0].strip(b" \t").partition(b" ") if sent else (b"", b"", b"")
    token = token.strip(b" \t")
    if scheme.lower() != b"bearer" or not token:
        raise Unauthorized("missing_token", "")
    return token


@dataclass(frozen=True)
class Verified:
    """A token that was verified: whose it is, until when it counts (epoch seconds), and by which
    key."""

    user: CurrentUser
    expires_at: float
    key: Key
    forget_at: float  # monotonic seconds

    def counts(self) -> bool:
        return time.monotonic() < self.forget_at and time.time() < self.expires_at + LEEWAY_SECONDS


def verifier(settings: config.Settings) -> Verifier:
    """As configured: the shared secret, where there is one, and the frontend's published keys."""
    keys = Keys(settings.secret, PublishedKeys(settings.jwks_url), settings.previous_secret)
    return Verifier(keys, settings.issuer, settings.audience, settings.auth_strict)


class Verifier:
    """Verifies tokens as docs/tokens.md says, and remembers by hash those that passed."""

    def __init__(self, keys: Keys, issuer: str, audience: str, strict: bool = False) -> None:
        self.keys = keys
        self.issuer = issuer
        self.audience = audience
        self.strict = strict
        self._memory: dict[bytes, Verified] = {}
        self._places: list[bytes] = []  # the keys of the memory, to choose one from
        self._warnings = logs.OnceAMinute()

    async def user_of(self, token: bytes) -> CurrentUser:
        digest = hashlib.sha256(token).digest()
        known = self._memory.get(digest)
        if known is not None and known.counts() and self.keys.current(known.key):
            return known.user
        try:
            verified = await self.verify(token)
        except Unauthorized as refusal:
            self._warn(refusal, digest)
            raise
        self._remember(digest, verified)
        return verified.user

    def _remember(self, digest: bytes, verified: Verified) -> None:
        """Where no place is free, one is taken at random.

        With 5,000 people who ask in turn and 4,096 places, two of three are then known. Were it the
        place of who came first, or of who asked longest ago, each would be forgotten just before
        asking again.
        """
        if digest not in self._memory:
            if len(self._places) < MEMORY_ENTRIES:
                self._places.append(digest)
            else:
                place = random.randrange(MEMORY_ENTRIES)  # noqa: S311
                del self._memory[self._places[place]]
                self._places[place] = digest
        self._memory[digest] = verified

    async def verify(self, token: bytes) -> Verified:
        """Check everything, remember nothing. Raises Unauthorized with the reason."""
        header, payload, signature = split(token)
        algorithm = _algorithm(header)
        signed = token.rpartition(b".")[0]
        key = await self.keys.find(algorithm, header.get("kid"), lambda: self._vet(payload))
        if not key.verifies(signed, signature):
            key = await self._another(key, payload)
            if not key.verifies(signed, signature):
                raise _bad_signature(key)
        claims = _claims(payload)
        required = self.strict or algorithm != SHARED_ALGORITHM
        _check_times(claims, required, time.time())
        self._check_origin(claims, required)
        user = CurrentUser(id=_subject(claims), email=_text_or_none(claims.get("email")))
        return Verified(user, claims.get("exp", math.inf), key, time.monotonic() + MEMORY_SECONDS)

    async def _another(self, key: Key, payload: bytes) -> Key:
        another = await self.keys.find_another(key, lambda: self._vet(payload))
        if another is None:
            raise _bad_signature(key)
        return another

    def _vet(self, payload: bytes) -> None:
        """Refuse a token whose key is not known for what else is wrong with it: only one of ours
        merits a fetch."""
        claims = _claims(payload)
        _check_times(claims, required=True, now=time.time())
        self._check_origin(claims, required=True)

    def _check_origin(self, claims: dict[str, Any], required: bool) -> None:
        issuer, audience = claims.get("iss"), claims.get("aud")
        if not _names(issuer, self.issuer, required):
            hint = f"iss is {quotable(issuer)}, expected {self.issuer}; {_SAME_URL}"
            raise Unauthorized(
                "wrong_issuer",
                "the token was issued by another issuer than the one configured",
                hint,
            )
        if not _names(audience, self.audience, required):
            hint = f"aud is {quotable(audience)}, expected {self.audience}; {_SAME_URL}"
            raise Unauthorized(
                "wrong_audience", "the token is for another audience than the one configured", hint
            )

    def _warn(self, refusal: Unauthorized, digest: bytes) -> None:
        """At most one line a minute and cause; never anything of the token but a part of its hash."""
        if self._warnings.allows(refusal.description):
            log.warning("token %s refused: %s (%s)", digest.hex()[:8], refusal.reason, refusal.hint)


def _malformed(description: str) -> Unauthorized:
    return Unauthorized("malformed_token", description)


def _bad_signature(key: Key) -> Unauthorized:
    hint = f"kid {quotable(key.id)}"
    if key.algorithm == SHARED_ALGORITHM:
        hint = "is BETTER_AUTH_SECRET the same on both sides?"
    return Unauthorized("bad_signature", "the signature does not verify", hint)


def _names(claimed: Any, expected: str, required: bool) -> bool:
    """Whether an `iss` or `aud` names what is expected. One that is absent does, unless it is
    required."""
    if claimed is None:
        return not required
    return expected in claimed if isinstance(claimed, list) else claimed == expected


def split(token: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """Header, still unparsed payload, and signature of a compact JWS (RFC 7515 section 3.1)."""
    if len(token) > TOKEN_MAX_BYTES:
        raise _malformed("the token is longer than 8 KiB")
    parts = token.split(b".")
    if len(parts) == 2 or (len(parts) == 1 and len(token) == 32):
        raise _malformed("looks like a Better Auth session token; use GET /api/auth/token")
    if len(parts) != 3:
        raise _malformed("a token has three segments")
    header = parse_object(_base64url(parts[0]))
    payload = _base64url(parts[1])
    signature = b"" if _is_unsecured(header) and not parts[2] else _base64url(parts[2])
    return header, payload, signature


def _is_unsecured(header: dict[str, Any]) -> bool:
    """RFC 7515 appendix A.5: `alg` is `none` (in whatever case, where somebody tries), and the
    signature empty."""
    algorithm = header.get("alg")
    return isinstance(algorithm, str) and algorithm.lower() == "none"


def _base64url(segment: bytes) -> bytes:
    """RFC 7515 section 2, canonical: no padding, no other alphabet, no spare bits."""
    if not segment or not re.fullmatch(rb"[A-Za-z0-9_-]+", segment):
        raise _malformed("a segment is not base64url")
    try:
        decoded = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except binascii.Error:
        raise _malformed("a segment is not base64url") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment:
        raise _malformed("a segment is not base64url")
    return decoded


def parse_object(text: bytes) -> dict[str, Any]:
    try:
        value = strict_json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
    except ValueError:
        raise _malformed("a segment is not valid JSON") from None
    if not isinstance(value, dict):
        raise _malformed("a segment is not a JSON object")
    return value


def _algorithm(header: dict[str, Any]) -> str:
    algorithm = header.get("alg")
    if (
        "crit" in header
    ):  # RFC 7515 section 4.1.11: whoever does not understand one must refuse the token
        raise _malformed("crit names extensions that are not understood here")
    if "b64" in header or algorithm not in (SHARED_ALGORITHM, *PUBLISHED_ALGORITHMS):
        raise Unauthorized("unsupported_algorithm", "the token's algorithm is not accepted here")
    token_type = header.get("typ", "JWT")
    if not isinstance(token_type, str) or token_type.upper() != "JWT":
        raise Unauthorized("unsupported_type", "the token's typ is not JWT")
    if not isinstance(header.get("kid", ""), str):
        raise _malformed("kid is not a string")
    return str(algorithm)


def _claims(payload: bytes) -> dict[str, Any]:
    """The claims, each of the type that RFC 7519 section 4.1 gives it."""
    claims = parse_object(payload)
    for name in ("exp", "nbf", "iat"):
        if name in claims and (
            isinstance(claims[name], bool) or not isinstance(claims[name], int | float)
        ):
            raise _malformed(f"{name} is not a number")
    if claims.get("exp", 0) > SECONDS_MAX:
        raise _malformed(_milliseconds("exp"))
    if "iss" in claims and not _is_text(claims["iss"]):
        raise _malformed("iss is not a string")
    audience = claims.get("aud", "none")
    if not _is_text(audience) and not (
        isinstance(audience, list) and audience and all(map(_is_text, audience))
    ):
        raise _malformed("aud is neither a string nor a list of strings")
    return claims


def _check_times(claims: dict[str, Any], required: bool, now: float) -> None:
    if "exp" not in claims and required:
        raise _malformed("exp is missing")
    if now >= claims.get("exp", math.inf) + LEEWAY_SECONDS:
        raise Unauthorized("token_expired", "the token has expired")
    for name in ("nbf", "iat"):
        if claims.get(name, 0) > SECONDS_MAX:
            raise Unauthorized("token_not_yet_valid", _milliseconds(name))
        if claims.get(name, 0) > now + LEEWAY_SECONDS:
            raise Unauthorized(
                "token_not_yet_valid", "the token is not valid yet; are both clocks right?"
            )


def _milliseconds(claim: str) -> str:
    return f"{claim} looks like milliseconds; it must be seconds since 1970"


def _subject(claims: dict[str, Any]) -> str:
    """`sub`, and nothing else: neighbours signed with the same secret name their user in other
    claims."""
    flaw = _flaw(claims["sub"]) if "sub" in claims else "is missing"
    if flaw is None:
        return str(claims["sub"])
    description = f"sub {flaw}; it must be the user's id"
    instead = ", ".join(name for name in _USERS_ELSEWHERE if name in claims)
    hint = f"{description} (the token has {instead})" if instead and flaw == "is missing" else ""
    raise Unauthorized("missing_subject", description, hint)


def _flaw(subject: Any) -> str | None:
    if not isinstance(subject, str):
        return "is not a string"
    if not subject:
        return "is empty"
    if len(subject) > SUBJECT_MAX:
        return f"is longer than {SUBJECT_MAX} characters"
    return "has control characters" if _CONTROL.search(subject) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
