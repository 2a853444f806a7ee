"""What a value may be: each rule checks one, and says in a sentence what would be right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

from pydantic_core import PydanticCustomError

import positions
import texts
import times

TITLE_MAX = 200
DESCRIPTION_MAX = 1000
NAME_MAX = 100
LABEL_MAX = 50
LABELS_MAX = 20
Level = Literal["none", "low", "medium", "high"]  # of a priority
PRIORITIES: tuple[Level, ...] = get_args(Level)
ID_MAX = 2**63 - 1
NO_SUCH_ID = 0  # ids start at 1, so nothing is ever found under it

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
_LINE_BREAKS = r"\n-\r\x85\u2028\u2029"
_BREAKS_A_LABEL = re.compile(f"[,{_LINE_BREAKS}]")
_COLOR = re.compile("#[0-9A-Fa-f]{6}")
_DAY = r"[0-9]{4}-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?"
_OFFSET = r"([zZ]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
TIME = rf"^{_DAY}([tT]{_CLOCK}{_OFFSET}?(\[!?[A-Za-z][\w+/-]*\])?)?(\[u-ca=\w+\])?$"  # times.py reads it
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Rule(NamedTuple):
    """`check` returns the value to keep, or raises ValueError with a sentence; `schema` says what
    it takes."""

    check: Callable[[Any], Any]
    schema: dict[str, Any]  # JSON Schema


def wrong(sentence: str, **about: Any) -> PydanticCustomError:
    """A ValueError that pydantic passes on as it is."""
    return PydanticCustomError("todo", "{sentence}", {"sentence": sentence, **about})


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(f"{name} must be a string")
    if _UNSTORABLE.search(value):
        raise wrong(f"{name} must not contain U+0000 or unpaired surrogates")
    return value


def is_blank(text: str) -> bool:
    return all(char in WHITE_SPACE or unicodedata.category(char) == "Cf" for char in text)


def _line(name: str, most: int, value: Any) -> str:
    """A text that must be there, without the white space around it."""
    if value is None:
        raise wrong(f"{name} is required")
    line = _text(name, value).strip(WHITE_SPACE)
    if is_blank(line):
        raise wrong(f"{name} is required")
    if len(line) > most:
        raise wrong(f"{name} must be between 1 and {most} characters")
    return line


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


def _priority(value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in PRIORITIES:
        raise wrong(f"Priority must be one of: {', '.join(PRIORITIES)}")
    return value.lower()


def _labels(value: Any) -> list[str]:
    """Of labels that differ only in upper and lower case, the first is kept."""
    refused = wrong(f"Labels must be a list of at most {LABELS_MAX} strings")
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise refused
    kept: dict[str, str] = {}
    for label in map(_label, value):
        kept.setdefault(texts.fold(label), label)
    if len(kept) > LABELS_MAX:
        raise refused
    return list(kept.values())


def _label(value: str) -> str:
    label = _text("A label", value).strip(WHITE_SPACE)
    if is_blank(label) or len(label) > LABEL_MAX or _BREAKS_A_LABEL.search(label):
        raise wrong(
            f"A label must be between 1 and {LABEL_MAX} characters, without commas or line breaks"
        )
    return label


def _color(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and _COLOR.fullmatch(value)):
        raise wrong("Color must be #rrggbb or null")
    return value


def uuid(name: str) -> Rule:
    def check(value: Any) -> UUID:
        if not isinstance(value, str) or not _UUID.fullmatch(value):
            raise wrong(f"{name} must be a UUID, such as 3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e")
        return UUID(value)

    return Rule(check, {"type": "string", "format": "uuid"})


def _time(name: str) -> Rule:
    def check(value: Any) -> str | None:
        if value is None:
            return None
        try:
            return times.read(value).text
        except (TypeError, ValueError):
            raise wrong(
                f"{name} must be a date, a local time, or a time with an offset or zone, "
                "such as 2026-12-01T09:00[Europe/Berlin]"
            ) from None

    return Rule(check, {"type": ["string", "null"], "pattern": TIME})


class Place(NamedTuple):
    """Where among its siblings something is to stand. The server makes the key."""

    where: Literal["first", "last", "before", "after"]
    sibling: int | UUID = NO_SUCH_ID  # that it stands before or after


def _id(value: Any, takes_uid: bool) -> int | UUID | None:
    """An id, or a `uid` where that is taken. None is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 < value <= ID_MAX else NO_SUCH_ID
    if takes_uid and isinstance(value, str) and _UUID.fullmatch(value):
        return UUID(value)
    return None


def _reference(name: str, entity: str, takes_uid: bool = False) -> Rule:
    def check(value: Any) -> int | UUID | None:
        id = _id(value, takes_uid)
        if id is None and value is not None:
            raise wrong(f"{name} must be the id of a {entity} or null")
        return id

    return Rule(check, {"anyOf": [*_id_schemas(takes_uid), {"type": "null"}]})


def _position(takes_uid: bool = False) -> Rule:
    def check(value: Any) -> str | Place:
        if value in ("first", "last"):
            return Place(value)
        try:
            return _beside(value, takes_uid) or positions.check(value)
        except (TypeError, ValueError):
            raise wrong(
                'Position must be a key, "first", "last", or {"before": id} or {"after": id}'
            ) from None

    key = {"type": "string", "pattern": "^[0-9A-Za-z]+$", "minLength": 1, "maxLength": 128}
    beside = [
        {
            "type": "object",
            "properties": {where: {"anyOf": _id_schemas(takes_uid)}},
            "required": [where],
            "additionalProperties": False,
        }
        for where in ("before", "after")
    ]
    return Rule(check, {"anyOf": [{"enum": ["first", "last"]}, key, *beside]})


def _beside(value: Any, takes_uid: bool) -> Place | None:
    """`{"before": 7}`. None if it is no object, ValueError if it is another one."""
    if not isinstance(value, dict):
        return None
    [(where, sibling)] = value.items()
    id = _id(sibling, takes_uid)
    if where not in ("before", "after") or id is None:
        raise ValueError
    return Place(where, id)


def _id_schemas(takes_uid: bool) -> list[dict[str, Any]]:
    integer = {"type": "integer", "minimum": 1, "maximum": ID_MAX}
    return [integer, {"type": "string", "format": "uuid"}] if takes_uid else [integer]


def _required_line(name: str, most: int) -> Rule:
    schema = {
        "type": "string",
        "minLength": 1,
        "maxLength": most,
        "pattern": rf"^{_NOT_NUL}[^\u0000{_INVISIBLE}]{_NOT_NUL}$",
    }
    return Rule(partial(_line, name, most), schema)


TITLE = _required_line("Title", TITLE_MAX)
NAME = _required_line("Name", NAME_MAX)
DESCRIPTION = Rule(
    _description,
    {"type": ["string", "null"], "maxLength": DESCRIPTION_MAX, "pattern": f"^{_NOT_NUL}$"},
)
COMPLETED = Rule(_completed, {"type": "boolean"})
PRIORITY = Rule(_priority, {"type": "string", "enum": list(PRIORITIES)})
LABELS = Rule(
    _labels,
    {
        "type": "array",
        "maxItems": LABELS_MAX,
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": LABEL_MAX,
            "pattern": rf"^[^\u0000,{_LINE_BREAKS}]*[^\u0000,{_INVISIBLE}][^\u0000,{_LINE_BREAKS}]*$",
        },
    },
)
COLOR = Rule(_color, {"type": ["string", "null"], "pattern": "^#[0-9A-Fa-f]{6}$"})
START = _time("Start")
DUE = _time("Due")
LIST_ID, LIST_ID_OF_V1 = _reference("List", "list"), _reference("List", "list", takes_uid=True)
PARENT_ID, PARENT_ID_OF_V1 = (
    _reference("Parent", "task"),
    _reference("Parent", "task", takes_uid=True),
)
POSITION, POSITION_OF_V1 = _position(), _position(takes_uid=True)
UID = uuid("Uid")
GROUP = uuid("Group")
KINDS_OF_TIME = (
    "All day `2026-12-01`, floating `2026-12-01T09:00:00`, an instant `2026-12-01T09:00:00Z`, "
    "or in a zone `2026-12-01T09:00:00+01:00[Europe/Berlin]` (RFC 9557)"
)
