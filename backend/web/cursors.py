"""Cursors: where a page ended, sealed for the user and the filter it was made for."""

from __future__ import annotations

import base64
import hmac
import struct
from datetime import UTC, datetime, timedelta

from starlette.requests import HTTPConnection

from errors import Invalid, Problem

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEAL_BYTES = 16
_INVALID = Problem("cursor", "Cursor is not valid")


class Cursors:
    """Makes and opens cursors. `key` is shared by all servers of one deployment."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def make(self, created_at: datetime, id: int, *bound_to: str) -> str:
        place = struct.pack(">qq", (created_at - _EPOCH) // timedelta(microseconds=1), id)
        return _text(place + self._seal(place, bound_to))

    def open(self, cursor: str, *bound_to: str) -> tuple[datetime, int]:
        """The place `cursor` names. Invalid where it was not made here for the same user and filter."""
        try:
            sealed = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
            place = sealed[:-_SEAL_BYTES]
            microseconds, id = struct.unpack(">qq", place)
        except (ValueError, struct.error):
            raise Invalid([_INVALID]) from None
        if _text(sealed) != cursor or not hmac.compare_digest(sealed[-_SEAL_BYTES:], self._seal(place, bound_to)):
            raise Invalid([_INVALID])
        return _EPOCH + timedelta(microseconds=microseconds), id

    def _seal(self, place: bytes, bound_to: tuple[str, ...]) -> bytes:
        text = place + b"".join(struct.pack(">I", len(part.encode())) + part.encode() for part in bound_to)
        return hmac.digest(self.key, text, "sha256")[:_SEAL_BYTES]


def _text(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def get_cursors(request: HTTPConnection) -> Cursors:
    cursors: Cursors = request.scope["state"]["cursors"]
    return cursors
