"""In which order tasks are listed, and how a page begins where the one before has ended."""

from __future__ import annotations

import json
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import rules
import times
from query.arguments import Arguments
from query.sql import is_moment

KEYS_MAX = 3


class Kind(NamedTuple):
    """What is compared: an expression, its type, and, if it can be NULL, the column that then is
    NULL too."""

    sql: str
    type: str
    nullable: str = ""


NAMES = (
    "created_at",
    "updated_at",
    "completed_at",
    "due",
    "start",
    "priority",
    "title",
    "position",
)
RANK = f"array_position('{{{','.join(rules.PRIORITIES)}}}'::text[], priority::text)"
KINDS = {
    "created_at": Kind("created_at", "timestamptz"),
    "updated_at": Kind("updated_at", "timestamptz"),
    "completed_at": Kind("completed_at", "timestamptz", nullable="completed_at"),
    "priority": Kind(RANK, "integer"),
    "title": Kind('coalesce(title_key, lower(title)) COLLATE "C"', "text"),
    "position": Kind('position COLLATE "C"', "text"),
}

# Of `due` and `start`: a local time is compared as a moment of the reader's. PostgreSQL knows other
# rules of zones than Python, so it is told what to subtract between which local times.
MOMENT = (
    f"CASE WHEN {is_moment('{time}')} THEN {{time}}_key "
    "ELSE {time}_key - ({offsets})[width_bucket({time}_key, {changes}) + 1] END"
)

_NAME = f"(?:{'|'.join(NAMES)})"
_NONE_TWICE = rf"(?!.*\b({_NAME}),(?:.*,)?-?\1\b)"
PATTERN = f"^{_NONE_TWICE}-?{_NAME}(?:,-?{_NAME}){{0,{KEYS_MAX - 1}}}$"


class Key(NamedTuple):
    name: str
    descending: bool = False

    def __str__(self) -> str:
        return f"-{self.name}" if self.descending else self.name

    @property
    def direction(self) -> str:
        return "DESC" if self.descending else "ASC"

    @property
    def beyond(self) -> str:
        return "<" if self.descending else ">"


DEFAULT = (Key("created_at", descending=True),)


def read(text: str) -> tuple[Key, ...]:
    """`-due,title` as its keys. ValueError with a sentence if it is no sort."""
    keys = tuple(Key(part.removeprefix("-"), part.startswith("-")) for part in text.split(","))
    names = {key.name for key in keys}
    if len(keys) > KEYS_MAX or len(names) < len(keys) or not names <= set(NAMES):
        raise rules.wrong(f"Sort must name up to three of: {', '.join(NAMES)}")
    return keys


class Order:
    """The parts of a statement that lists tasks by `keys`, then by id.

        SELECT ..., {order.place} AS place
        FROM (
            SELECT ..., id, {order.columns}
            FROM tasks
            WHERE ... AND {order.after(place)}
            ORDER BY {order.by}
            LIMIT ...
        ) AS page

    A place is a JSON text. It says where a task stands, also when that task is somewhere else by
    now.
    """

    def __init__(self, keys: tuple[Key, ...], zone: ZoneInfo, arguments: Arguments) -> None:
        self.keys = keys
        self.arguments = arguments
        self.compared = [KINDS.get(key.name) or self._moment(key.name, zone) for key in keys]

    @property
    def columns(self) -> str:
        return ", ".join(f"{kind.sql} AS sort_{n}" for n, kind in enumerate(self.compared, 1))

    @property
    def by(self) -> str:
        """Without NULLS LAST where there are none: only then PostgreSQL can follow an index."""
        parts = [
            f"sort_{n} {key.direction}{' NULLS LAST' if kind.nullable else ''}"
            for n, (key, kind) in enumerate(zip(self.keys, self.compared, strict=True), 1)
        ]
        return ", ".join([*parts, f"id {self.keys[-1].direction}"])

    @property
    def place(self) -> str:
        names = [f"page.sort_{n}" for n, _ in enumerate(self.keys, 1)]
        return f"json_build_array({', '.join([*names, 'page.id'])})::text"

    def after(self, place: str) -> str:
        """Whether a task comes after `place`."""
        *values, id = json.loads(place)
        last = self.arguments.add(id, "bigint")
        if self._is_one_way():
            return self._row_after(values, last)
        after = f"id {self.keys[-1].beyond} {last}"
        for key, kind, value in reversed(list(zip(self.keys, self.compared, values, strict=True))):
            after = self._key_after(key, kind, value, after)
        return after

    def _moment(self, time: str, zone: ZoneInfo) -> Kind:
        changes, offsets = _clock(zone)
        sql = MOMENT.format(
            time=time,
            changes=self.arguments.add_once(changes, "timestamp[]"),
            offsets=self.arguments.add_once(offsets, "interval[]"),
        )
        return Kind(sql, "timestamp", nullable=f"{time}_key")

    def _is_one_way(self) -> bool:
        return len({key.descending for key in self.keys}) == 1

    def _row_after(self, values: list[str | int | None], last: str) -> str:
        """One comparison of rows, which PostgreSQL finds in an index, and for which it works out
        each key once."""
        pairs = list(zip(self.compared, values, strict=True))
        kept = ", ".join(self._never_null(kind) for kind, _ in pairs)
        given = ", ".join(
            self._given(self._last if value is None else value, kind) for kind, value in pairs
        )
        return f"({kept}, id) {self.keys[-1].beyond} ({given}, {last})"

    @property
    def _last(self) -> str:
        """What comes after all times there are, as a task without one does."""
        return "-infinity" if self.keys[-1].descending else "infinity"

    def _never_null(self, kind: Kind) -> str:
        return f"coalesce({kind.sql}, '{self._last}')" if kind.nullable else kind.sql

    def _key_after(self, key: Key, kind: Kind, value: str | int | None, rest: str) -> str:
        if value is None:
            return f"({kind.nullable} IS NULL AND {rest})"
        given = self._given(value, kind)
        nulls = f"{kind.nullable} IS NULL OR " if kind.nullable else ""
        return f"({nulls}{kind.sql} {key.beyond} {given} OR ({kind.sql} = {given} AND {rest}))"

    def _given(self, value: str | int, kind: Kind) -> str:
        return self.arguments.add_once(str(value), kind.type)


@cache
def _clock(zone: ZoneInfo) -> tuple[str, str]:
    """Arrays of PostgreSQL: the local times at which the offset changes, and the offsets between
    them."""
    changes, seconds = times.offsets(zone)
    return (
        f"{{{','.join(change.isoformat() for change in changes)}}}",
        f"{{{','.join(f'{each} seconds' for each in seconds)}}}",
    )
