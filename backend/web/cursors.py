"""Cursors: where a page ended, sealed for the user and the request that it was made for."""

from __future__ import annotations

import base64
import hmac
import struct
from datetime import UTC, datetime, timedelta

from starlette.requests import HTTPConnection

from errors import Invalid, Problem

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SEAL_BYTES = 16
_INVALID = Problem("cursor", "Cursor is not valid")


class Cursors:
    """Makes and opens cursors. The keys are the same on all servers; the first seals new cursors."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = keys

    def make(self, created_at: datetime, id: int, *bound_to: str) -> str:
        return self.seal(struct.pack(">qq", (created_at - _EPOCH) // _MICROSECOND, id), *bound_to)

    def open(self, cursor: str, *bound_to: str) -> tuple[datetime, int]:
        """The place that `cursor` names. Invalid if it was not made here, bound to the same texts."""
        try:
            microseconds, id = struct.unpack(">qq", self.unseal(cursor, *bound_to))
        except struct.error:
            raise Invalid([_INVALID]) from None
        return _EPOCH + microseconds * _MICROSECOND, id

    def seal(self, place: bytes, *bound_to: str) -> str:
        return _text(place + _seal(self.keys[0], place, bound_to))

    def unseal(self, cursor: str, *bound_to: str) -> bytes:
        """What `cursor` seals. Invalid if it was not sealed here, bound to the same texts."""
        try:
            sealed = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError:
            raise Invalid([_INVALID]) from None
        place, seal = sealed[:-_SEAL_BYTES], sealed[-_SEAL_BYTES:]
        seals = [_seal(key, place, bound_to) for key in self.keys]
        if _text(sealed) != cursor or not any(hmac.compare_digest(seal, ours) for ours in seals):
            raise Invalid([_INVALID])
        return place


def _seal(key: bytes, place: bytes, bound_to: tuple[str, ...]) -> bytes:
    text = place + b"".join(
        struct.pack(">I", len(part.encode())) + part.encode() for part in bound_to
    )
    return hmac.digest(key, text, "sha256")[:_SEAL_BYTES]


def _text(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def get_cursors(request: HTTPConnection) -> Cursors:
    cursors: Cursors = request.scope["state"]["cursors"]
    return cursors
