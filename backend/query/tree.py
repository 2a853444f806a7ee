"""What a query is once it has been read: a small tree. Everything in it is a value, and nothing
depends on a clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from rules import Level

Field = Literal["due", "start", "created", "updated", "completed"]
When = Literal["on", "before", "after"]
Unit = Literal["day", "week", "month"]
Comparison = Literal["=", ">", ">=", "<", "<="]


# --- days and times that a term names ---


@dataclass(frozen=True)
class At:
    """A day or a time that is written out, as times.py spells it: `2026-12-01`,
    `2026-12-01T09:00:00Z`, …"""

    text: str


@dataclass(frozen=True)
class FromToday:
    """So many days, weeks or months from the reader's today, which is 0 days from it."""

    count: int
    unit: Unit = "day"


@dataclass(frozen=True)
class Weekday:
    """The next one, today included. 0 is Monday."""

    number: int


Day = At | FromToday | Weekday


# --- terms ---


@dataclass(frozen=True)
class Status:
    is_: Literal["open", "completed", "all"]


@dataclass(frozen=True)
class Dated:
    """`due before: +7 days`. `today` alone is `due: today`."""

    field: Field
    when: When
    day: Day


@dataclass(frozen=True)
class Overdue:
    pass


@dataclass(frozen=True)
class NoDate:
    pass


@dataclass(frozen=True)
class NoTime:
    pass


@dataclass(frozen=True)
class NextDays:
    """Due from today on, so many days long."""

    count: int


@dataclass(frozen=True)
class Priority:
    comparison: Comparison
    level: Level


@dataclass(frozen=True)
class Name:
    """Of a list or a label: the parts between its stars. ("wai", "") is `wai*`, ("waiting",) has
    none."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Label:
    name: Name


@dataclass(frozen=True)
class NoLabels:
    pass


@dataclass(frozen=True)
class InList:
    """`#Inbox` is the Inbox, and every list that somebody named so."""

    name: Name


@dataclass(frozen=True)
class Subtask:
    pass


@dataclass(frozen=True)
class NoParent:
    pass


@dataclass(frozen=True)
class Parent:
    id: int | UUID


@dataclass(frozen=True)
class Search:
    """Words as texts.words() makes them: each must begin a word of the title or of the description."""

    words: tuple[str, ...]


Term = (
    Status
    | Dated
    | Overdue
    | NoDate
    | NoTime
    | NextDays
    | Priority
    | Label
    | NoLabels
    | InList
    | Subtask
    | NoParent
    | Parent
    | Search
)


# --- what holds them together ---


@dataclass(frozen=True)
class Not:
    part: Node


@dataclass(frozen=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Node, ...]


Node = Term | Not | And | Or


def terms(node: Node) -> Iterator[Term]:
    """All that hang in the tree, from left to right."""
    match node:
        case Not(part):
            yield from terms(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from terms(part)
        case _:
            yield node
