"""A query evaluated over one task, as tasks.py reads it. It selects the same as sql.py, by other
means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import texts
import times
from query import levels, names
from query.reader import Reader, is_time
from query.tree import (
    And,
    Dated,
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
    When,
)

Task = Mapping[str, Any]


def selects(node: Node, task: Task, reader: Reader) -> bool:
    match node:
        case Not(part):
            return not selects(part, task, reader)
        case And(parts):
            return all(selects(part, task, reader) for part in parts)
        case Or(parts):
            return any(selects(part, task, reader) for part in parts)
        case _:
            return _has(node, task, reader)


def _has(term: Term, task: Task, reader: Reader) -> bool:
    match term:
        case Status(status):
            return status == "all" or task["completed"] == (status == "completed")
        case Dated():
            return _is_dated(term, task, reader)
        case Overdue():
            return task["due"] is not None and reader.moment(task["due"]) < reader.now
        case NextDays(count):
            return task["due"] is not None and 0 <= _day(task["due"], reader) - reader.today < count
        case NoDate():
            return task["due"] is None
        case NoTime():
            return task["due"] is not None and times.kind(task["due"]) == "date"
        case Priority():
            return task["priority"] in levels.meant(term)
        case Label(name):
            return any(names.matches(name, texts.fold(label)) for label in task["labels"])
        case NoLabels():
            return not task["labels"]
        case InList(name):
            return _is_in_list(name, task["list_id"], reader)
        case Subtask():
            return task["parent_id"] is not None
        case NoParent():
            return task["parent_id"] is None
        case Parent(id):
            number = reader.parents.get(id) if isinstance(id, UUID) else id
            return number is not None and task["parent_id"] == number
        case Search(words):
            found = texts.words(task["title"]) + texts.words(task["description"] or "")
            return all(any(each.startswith(word) for each in found) for word in words)


def _is_dated(term: Dated, task: Task, reader: Reader) -> bool:
    kept = task[term.field if term.field in ("due", "start") else f"{term.field}_at"]
    if kept is None:
        return False
    if is_time(term.day):
        return _compares(term.when, _moment(kept, reader), reader.moment(term.day.text))
    return _compares(term.when, _day(kept, reader), reader.day(term.day))


def _compares(when: When, kept: Any, wanted: Any) -> bool:
    if when == "before":
        return bool(kept < wanted)
    return bool(kept > wanted if when == "after" else kept == wanted)


def _moment(kept: str | datetime, reader: Reader) -> datetime:
    return kept if isinstance(kept, datetime) else reader.moment(kept)


def _day(kept: str | datetime, reader: Reader) -> int:
    """The day of a local time is the one that it names, even where the reader's clock skips it."""
    if isinstance(kept, str) and not times.is_moment(kept):
        return datetime.fromisoformat(kept).toordinal()
    return reader.day_of(_moment(kept, reader))


def _is_in_list(name: Name, list_id: int | None, reader: Reader) -> bool:
    if list_id is None:
        return names.matches(name, names.INBOX)
    return any(
        id == list_id and names.matches(name, texts.fold(known)) for id, known in reader.lists
    )
