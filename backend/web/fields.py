"""Header fields with rules of their own: conditional requests (RFC 9110 section 13) and `Idempotency-Key`."""

from __future__ import annotations

import re

from starlette.types import Scope

KEY_MAX = 255

_TAG = rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'  # RFC 9110 section 8.8.3
_TAGS = re.compile(rb"[ \t,]*" + _TAG + rb"(?:[ \t]*,[ \t,]*" + _TAG + rb")*[ \t,]*")
_VERSION = re.compile(rb'"(0|[1-9][0-9]{0,18})"')
_QUOTED = re.compile(r'"((?:[!#-\[\]-~]|\\["\\])*)"')  # RFC 9651 section 3.3.3, without the space
_VISIBLE = re.compile("[!-~]+")

# The same for OpenAPI, as patterns that ECMA-262 and Python read alike.
ENTITY_TAGS_SCHEMA = {
    "anyOf": [{"type": "string", "enum": ["*"]}, {"type": "string", "pattern": f"^{_TAGS.pattern.decode()}$"}]
}
KEY_PATTERN = rf'^([!#-~][!-~]{{0,{KEY_MAX - 1}}}|"([!#-\[\]-~]|\\["\\]){{1,{KEY_MAX}}}")$'


def values(scope: Scope, name: bytes) -> list[bytes]:
    """Every line of the field `name`; most requests have none."""
    if name not in scope["headers_by_name"]:
        return []
    return [value for other, value in scope["headers"] if other == name]


def entity_tag(version: int) -> bytes:
    """The strong validator of what is at `version`."""
    return b'"%d"' % version


def entity_tags(lines: list[bytes], name: str) -> list[bytes] | None:
    """The tags that a conditional field lists; None for `*`. ValueError for anything else."""
    text = b", ".join(lines).strip(b" \t")
    if text == b"*":
        return None
    if not _TAGS.fullmatch(text):
        raise ValueError(f'{name} must be * or a list of entity tags, such as "7"')
    return re.findall(_TAG, text)


def if_match(lines: list[bytes]) -> list[int] | None:
    """The versions that a write may meet; None where any will do. A weak or a foreign tag is none of them."""
    tags = entity_tags(lines, "If-Match") if lines else None
    if tags is None:
        return None
    versions = [int(found[1]) for tag in tags if (found := _VERSION.fullmatch(tag))]
    return [version for version in versions if version < 2**63]


def if_none_match(lines: list[bytes]) -> list[bytes] | None:
    """The tags of what the client has, `*` for whatever there is; None where it does not say. Weak tags count too."""
    if not lines:
        return None
    tags = entity_tags(lines, "If-None-Match")
    return [b"*"] if tags is None else [tag.removeprefix(b"W/") for tag in tags]


def is_known(version: int, known: list[bytes] | None) -> bool:
    """Whether the client has what is at `version`, by its If-None-Match."""
    return known is not None and (known == [b"*"] or entity_tag(version) in known)


def idempotency_key(lines: list[bytes]) -> str | None:
    """The key, which is the same bare or as a quoted string. ValueError where it is malformed or given twice."""
    if not lines:
        return None
    key = lines[0].decode("latin-1").strip(" \t")
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if len(lines) > 1 or len(key) > KEY_MAX or not _VISIBLE.fullmatch(key):
        raise ValueError(f"Idempotency-Key must be given once, as 1 to {KEY_MAX} visible ASCII characters")
    return key
