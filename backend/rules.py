"""What a value may be: each rule checks one, and says in a sentence what would be right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from pydantic_core import PydanticCustomError

TITLE_MAX = 200
DESCRIPTION_MAX = 1000

# Unicode's White_Space property. str.strip() would also take U+001C to U+001F, which do not have
# it.
WHITE_SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
# The same and what else is invisible (Cf), of the first 65,536 characters: the inside of a class
# that ECMA-262 reads with and without its flag `u`.
_INVISIBLE = (
    r"\t-\r \x85\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u2064\u2066-\u206f\u3000\ufeff\ufff9-\ufffb"
)
_NOT_NUL = r"[^\u0000]*"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Rule(NamedTuple):
    """`check` returns the value to keep, or raises ValueError with a sentence; `schema` says what it takes."""

    check: Callable[[Any], Any]
    schema: dict[str, Any]  # JSON Schema


def wrong(sentence: str) -> PydanticCustomError:
    """A ValueError that pydantic passes on as it is."""
    return PydanticCustomError("todo", "{sentence}", {"sentence": sentence})


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(f"{name} must be a string")
    if _UNSTORABLE.search(value):
        raise wrong(f"{name} must not contain U+0000 or unpaired surrogates")
    return value


def is_blank(text: str) -> bool:
    return all(char in WHITE_SPACE or unicodedata.category(char) == "Cf" for char in text)


def _title(value: Any) -> str:
    if value is None:
        raise wrong("Title is required")
    title = _text("Title", value).strip(WHITE_SPACE)
    if is_blank(title):
        raise wrong("Title is required")
    if len(title) > TITLE_MAX:
        raise wrong(f"Title must be between 1 and {TITLE_MAX} characters")
    return title


def _description(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong("Description must be a string or null")
    _text("Description", value)
    if len(value) > DESCRIPTION_MAX:
        raise wrong(f"Description must not exceed {DESCRIPTION_MAX} characters")
    return value


def _completed(value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong("Completed must be true or false")
    return value


def uuid(name: str) -> Rule:
    def check(value: Any) -> UUID:
        if not isinstance(value, str) or not _UUID.fullmatch(value):
            raise wrong(f"{name} must be a UUID, such as 3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e")
        return UUID(value)

    return Rule(check, {"type": "string", "format": "uuid"})


TITLE = Rule(
    _title,
    {
        "type": "string",
        "minLength": 1,
        "maxLength": TITLE_MAX,
        "pattern": rf"^{_NOT_NUL}[^\u0000{_INVISIBLE}]{_NOT_NUL}$",
    },
)
DESCRIPTION = Rule(
    _description,
    {"type": ["string", "null"], "maxLength": DESCRIPTION_MAX, "pattern": f"^{_NOT_NUL}$"},
)
COMPLETED = Rule(_completed, {"type": "boolean"})
UID = uuid("Uid")
GROUP = uuid("Group")
