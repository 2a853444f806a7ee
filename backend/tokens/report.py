"""Why a token would or would not be accepted, line by line. Prints claims of the token, never the
secret."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from errors import Unauthorized, Unavailable
from tokens import verification
from tokens.keys import SHARED_ALGORITHM

SHOWN_CLAIMS = ("sub", "iss", "aud", "iat", "nbf", "exp")


async def explain(token: bytes, verifier: verification.Verifier) -> AsyncIterator[str]:
    """What the token says of itself, then the verdict, then what to do."""
    try:
        header, payload, _ = verification.split(token)
    except Unauthorized as refusal:
        yield _verdict(refusal)
        return
    for name in ("alg", "typ", "kid"):
        yield f"{name:9} {_printable(header.get(name, '(none)'))}"
    for line in _claims(payload):
        yield line
    yield f"expected  iss {verifier.issuer}, aud {verifier.audience}"
    if header.get("alg") != SHARED_ALGORITHM and verifier.keys.published:
        yield f"keys      {verifier.keys.published.url}"
    try:
        verified = await verifier.verify(token)
    except Unauthorized as refusal:
        yield _verdict(refusal)
    except Unavailable as trouble:
        yield f"UNKNOWN   {trouble}: {verifier.keys.check().detail}"
    else:
        yield f"accepted  as user {_printable(verified.user['id'])}"


def _claims(payload: bytes) -> list[str]:
    try:
        claims = verification.parse_object(payload)
    except Unauthorized as refusal:
        return [f"claims    {refusal.description}"]
    lines = [f"{name:9} {_shown(name, claims[name])}" for name in SHOWN_CLAIMS if name in claims]
    others = sorted(set(claims) - set(SHOWN_CLAIMS))
    return [*lines, f"others    {', '.join(map(_printable, others))}"] if others else lines


def _shown(name: str, value: Any) -> str:
    if (
        name not in ("iat", "nbf", "exp")
        or isinstance(value, bool)
        or not isinstance(value, int | float)
    ):
        return _printable(value)
    if value > verification.SECONDS_MAX:
        return f"{value} (milliseconds; in seconds it is {int(value) // 1000})"
    if value >= 0:
        seconds = value - time.time()
        distance = f"in {seconds:.0f} s" if seconds > 0 else f"{-seconds:.0f} s ago"
        return f"{value} ({datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC, {distance})"
    return _printable(value)


def _printable(value: Any) -> str:
    """On one line, and without what a terminal would obey."""
    text = str(value)
    return text if text.isprintable() else ascii(text)


def _verdict(refusal: Unauthorized) -> str:
    return f"REFUSED   {refusal.reason}: {refusal.description}\n          {refusal.advice}"
