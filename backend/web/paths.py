"""Paths: split raw, then each segment percent-decoded once, so that an encoded slash never makes a
new segment."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes
from uuid import UUID

from starlette.types import Scope

import rules
from errors import BadRequest
from rules import ID_MAX, NO_SUCH_ID

_CANONICAL_INTEGER = re.compile(r"0|-?[1-9][0-9]*", re.ASCII)
NAME_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": ID_MAX},
        {"type": "string", "format": "uuid"},
    ]
}


def segments(scope: Scope) -> tuple[str, ...]:
    """`/api/a%2Fb/tasks/` → ("api", "a/b", "tasks"). One trailing slash is the same resource; a
    doubled one stays."""
    raw: bytes = scope["raw_path"] if scope.get("raw_path") is not None else scope["path"].encode()
    path = raw.removeprefix(scope.get("root_path", "").encode())
    if path and not path.startswith(b"/"):
        raise BadRequest("The path of a request must start with '/'")
    parts = path[1:].split(b"/")
    if parts[-1] == b"":
        parts.pop()
    return tuple([_decode(part) for part in parts])


def _decode(segment: bytes) -> str:
    if b"%" in segment:
        segment = unquote_to_bytes(segment)
    return segment.decode("utf-8", "surrogateescape")


def number(segment: str) -> int | None:
    """An id or a `seq`: NO_SUCH_ID for one that cannot exist, None for what is no canonical decimal
    integer."""
    if not _CANONICAL_INTEGER.fullmatch(segment):
        return None
    if segment[0] == "-" or len(segment) > 19 or int(segment) > ID_MAX:
        return NO_SUCH_ID
    return int(segment)


def name(segment: str) -> int | UUID | None:
    """An id, or a uid in any case."""
    try:
        uid: UUID = rules.UID.check(segment)
    except ValueError:
        return number(segment)
    return uid
