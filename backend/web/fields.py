"""Header fields with rules of their own: conditional requests (RFC 9110 section 13) and
`Idempotency-Key`."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

from storage import Versions

KEY_MAX = 255

_TAG = rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'  # RFC 9110 section 8.8.3
_TAGS = re.compile(rb"[ \t,]*" + _TAG + rb"(?:[ \t]*,[ \t,]*" + _TAG + rb")*[ \t,]*")
_VALIDATOR = re.compile(r'"(0|[1-9][0-9]{0,18})(?:-(0|[1-9a-z][0-9a-z]{0,12})-([a-z2-7]{6}))?"')
_QUOTED = re.compile(r'"((?:[!#-\[\]-~]|\\["\\])*)"')  # RFC 9651 section 3.3.3, without the space
_VISIBLE = re.compile("[!-~]+")
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_BEYOND = 2**63  # what no bigint of the database holds

# The same for OpenAPI, as patterns that ECMA-262 and Python read alike.
ENTITY_TAGS_SCHEMA = {
    "anyOf": [
        {"type": "string", "enum": ["*"]},
        {"type": "string", "pattern": f"^{_TAGS.pattern.decode()}$"},
    ]
}
KEY_PATTERN = rf'^([!#-~][!-~]{{0,{KEY_MAX - 1}}}|"([!#-\[\]-~]|\\["\\]){{1,{KEY_MAX}}}")$'


def entity_tag(owner: str, number: int, at: datetime) -> bytes:
    """The strong validator of what `owner` has at the change `number`, made `at` this time.

    The number alone comes again in another life of the database, and for another user. A browser
    keeps by the address alone, so that at one that names no user it asks with what somebody else
    was given.
    """
    return f'"{number}-{_base36((at - _EPOCH) // _MICROSECOND)}-{_mark(owner)}"'.encode()


def task_tag(task: Mapping[str, Any]) -> bytes:
    return entity_tag(task["user_id"], task["version"], task["updated_at"])


def _base36(number: int) -> str:
    digits = ""
    while number:
        digits = _PAIRS[number % 1296] + digits
        number //= 1296
    return digits.lstrip("0") or "0"


@lru_cache(4096)
def _mark(user_id: str) -> str:
    return base64.b32encode(sha256(user_id.encode()).digest())[:6].decode().lower()


def entity_tags(lines: list[bytes], name: str) -> list[bytes] | None:
    """The tags that a conditional field lists; None for `*`. ValueError for anything else."""
    text = b", ".join(lines).strip(b" \t")
    if text == b"*":
        return None
    if not _TAGS.fullmatch(text):
        raise ValueError(f'{name} must be * or a list of entity tags, such as "7"')
    return re.findall(_TAG, text)


def if_match(lines: list[bytes], owner: str) -> Versions:
    """The versions that a write of `owner` may meet, each with the microseconds of its change if
    they were sent too.

    None where any will do. Weak tags, other users' and whatever is no validator of ours never
    match.
    """
    tags = entity_tags(lines, "If-Match") if lines else None
    if tags is None:
        return None
    parts = [
        found.groups() for tag in tags if (found := _VALIDATOR.fullmatch(tag.decode("latin-1")))
    ]
    versions = [
        (int(number), int(at, 36) if at else None)
        for number, at, mark in parts
        if mark in (None, _mark(owner))
    ]
    return [[number, at] for number, at in versions if number < _BEYOND and (at or 0) < _BEYOND]


def if_none_match(lines: list[bytes]) -> list[bytes] | None:
    """The tags of what the client has, `*` for whatever there is; None where it does not say. Weak
    tags count too."""
    if not lines:
        return None
    tags = entity_tags(lines, "If-None-Match")
    return [b"*"] if tags is None else [tag.removeprefix(b"W/") for tag in tags]


def is_known(tag: bytes, known: list[bytes] | None) -> bool:
    """Whether the client has what `tag` is of, by its If-None-Match."""
    return known is not None and (known == [b"*"] or tag in known)


def idempotency_key(lines: list[bytes]) -> str | None:
    """The key, which is the same bare or as a quoted string. ValueError where it is malformed or
    given twice."""
    if not lines:
        return None
    key = lines[0].decode("latin-1").strip(" \t")
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if len(lines) > 1 or len(key) > KEY_MAX or not _VISIBLE.fullmatch(key):
        raise ValueError(
            f"Idempotency-Key must be given once, as 1 to {KEY_MAX} visible ASCII characters"
        )
    return key
