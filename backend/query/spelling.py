"""The text of a tree, which is read back as the same tree, if it has not become too long."""

from __future__ import annotations

from query.tree import (
    And,
    At,
    Dated,
    Day,
    FromToday,
    InList,
    Label,
    Name,
    NextDays,
    NoDate,
    Node,
    NoLabels,
    NoParent,
    Not,
    NoTime,
    Or,
    Overdue,
    Parent,
    Priority,
    Search,
    Status,
    Subtask,
    Term,
    Weekday,
)
from query.vocabulary import WEEKDAYS

_FIXED: dict[type[Term], str] = {
    Overdue: "overdue",
    NoDate: "no date",
    NoTime: "no time",
    NoLabels: "no labels",
    Subtask: "subtask",
    NoParent: "no parent",
}
_NEAR = {0: "today", 1: "tomorrow", -1: "yesterday"}  # days


def spell(node: Node) -> str:
    match node:
        case Or(parts):
            return " | ".join(_in_brackets_if(part, Or) for part in parts)
        case And(parts):
            return " & ".join(_in_brackets_if(part, Or, And) for part in parts)
        case Not(part):
            return f"!{_in_brackets_if(part, Or, And, Not)}"
        case _:
            return _term(node)


def _in_brackets_if(node: Node, *kinds: type[Node]) -> str:
    return f"({spell(node)})" if isinstance(node, kinds) else spell(node)


def _term(term: Term) -> str:
    match term:
        case Status(is_):
            return is_
        case Dated(field, when, day):
            return f"{field}{'' if when == 'on' else f' {when}'}: {_day(day)}"
        case NextDays(count):
            return _counted(count, "day")
        case Priority(comparison, level):
            return f"priority{':' if comparison == '=' else f' {comparison}'} {level}"
        case Label(name):
            return f"@{_name(name)}"
        case InList(name):
            return f"#{_name(name)}"
        case Parent(id):
            return f"parent: {id}"
        case Search(words):
            return f"search: {_name(Name((' '.join(words),)))}"
        case _:
            return _FIXED[type(term)]


def _day(day: Day) -> str:
    match day:
        case At(text):
            return text
        case Weekday(number):
            return WEEKDAYS[number]
        case FromToday(count, "day") if count in _NEAR:
            return _NEAR[count]
        case FromToday(count, unit):
            return f"{'+' if count >= 0 else '-'}{_counted(abs(count), unit)}"


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _name(name: Name) -> str:
    """In quotes, unless all of it is letters and digits."""
    text = "*".join(_escaped(part) for part in name.parts)
    return text if text.replace("*", "").isalnum() else f'"{text}"'


def _escaped(part: str) -> str:
    return part.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
