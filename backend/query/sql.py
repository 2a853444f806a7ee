"""A query as one condition of SQL. It is never NULL, so that NOT means what it says."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import texts
from query import levels, limits, names
from query.arguments import Arguments
from query.limits import EVER, Limit
from query.reader import Reader
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
)
from rules import ID_MAX, NO_SUCH_ID

ALL, NOTHING = "true", "false"
STAMPS = {"created": "created_at", "updated": "updated_at", "completed": "completed_at"}

# The words of a row that an older server has written: runs without blanks and signs of ASCII.
ROUGH_WORDS = r"' ' || regexp_replace(lower({text}), '[[:space:]!-/:-@\[-`{{-~]+', ' ', 'g')"
TITLE_WORDS = f"coalesce(title_words, {ROUGH_WORDS.format(text='title')})"
DESCRIPTION_WORDS = f"coalesce(description_words, {ROUGH_WORDS.format(text='description')}, '')"


def condition(node: Node, reader: Reader, arguments: Arguments) -> str:
    """Over the columns of `tasks`, by their bare names. What they are compared with goes to
    `arguments`."""
    return _Compiler(reader, arguments).node(node)


def is_moment(column: str) -> str:
    """As times.is_moment() says it."""
    return f"right({column}, 1) IN ('Z', ']')"


class _Compiler:
    def __init__(self, reader: Reader, arguments: Arguments) -> None:
        self.reader = reader
        self.add = arguments.add
        self.add_once = arguments.add_once

    def node(self, node: Node) -> str:
        match node:
            case Not(part):
                return f"(NOT {self.node(part)})"
            case And(parts):
                return _all(self.node(part) for part in parts)
            case Or(parts):
                return _any(self.node(part) for part in parts)
            case _:
                return self.term(node)

    def term(self, term: Term) -> str:
        match term:
            case Status(status):
                return {"all": ALL, "open": "(NOT completed)", "completed": "completed"}[status]
            case Dated():
                return self.dated(term)
            case Overdue():
                return self.time("due", None, limits.of_moment(self.reader.now, self.reader))
            case NextDays(count):
                first, end = self.reader.today, self.reader.today + count
                return self.time(
                    "due", limits.of_day(first, self.reader), limits.of_day(end, self.reader)
                )
            case NoDate():
                return "(due IS NULL)"
            case NoTime():
                return "coalesce(length(due) = 10, false)"
            case Priority():
                return f"(priority = ANY ({self.add(levels.meant(term), 'text[]')}))"
            case Label(name):
                return self.label(name)
            case NoLabels():
                return "(labels = '{}')"
            case InList(name):
                return self.in_list(name)
            case Subtask():
                return "(parent_id IS NOT NULL)"
            case NoParent():
                return "(parent_id IS NULL)"
            case Parent(id):
                return self.parent(id)
            case Search(words):
                # Each once: one letter can stand for four words, and a statement of thousands takes seconds.
                return _all(self.word(word) for word in dict.fromkeys(words))

    def dated(self, term: Dated) -> str:
        start, end = limits.span(term.day, self.reader)
        since, until = {"before": (None, start), "on": (start, end), "after": (end, None)}[
            term.when
        ]
        if term.field in STAMPS:
            return self.stamp(STAMPS[term.field], since, until)
        return self.time(term.field, since, until)

    def stamp(self, column: str, since: Limit | None, until: Limit | None) -> str:
        bounds = self.bounds(f"({column} AT TIME ZONE 'UTC')", since, until)
        return f"coalesce({bounds}, false)"

    def time(self, column: str, since: Limit | None, until: Limit | None) -> str:
        """Whether `column` is not before `since`, but before `until`."""
        key = f"{column}_key"
        moments = self.bounds(key, since, until)
        locals = [f"NOT {self.local_before(key, since)}"] if since else []
        locals += [self.local_before(key, until)] if until else []
        return (
            f"coalesce(CASE WHEN {is_moment(column)} THEN {moments} ELSE {_all(locals)} END, false)"
        )

    def bounds(self, key: str, since: Limit | None, until: Limit | None) -> str:
        bounds = [f"{key} >= {self.timestamp(since.at)}"] if since else []
        bounds += [f"{key} < {self.timestamp(until.at)}"] if until else []
        return _all(bounds)

    def local_before(self, key: str, limit: Limit) -> str:
        return _any(self.local_within(key, start, end) for start, end in limit.locals)

    def local_within(self, key: str, start: str, end: str) -> str:
        before = f"{key} < {self.timestamp(end)}"
        return before if start == EVER else f"{before} AND {key} >= {self.timestamp(start)}"

    def timestamp(self, text: str) -> str:
        return self.add_once(text, "timestamp")

    def label(self, name: Name) -> str:
        if len(name.parts) == 1:
            key = self.add(names.folded(name)[0], "text")
            return f"coalesce({key} = ANY (label_keys), false)"
        pattern = self.add(names.pattern(name), "text")
        return f"EXISTS (SELECT FROM unnest(label_keys) AS label WHERE label LIKE {pattern})"

    def in_list(self, name: Name) -> str:
        found = [id for id, known in self.reader.lists if names.matches(name, texts.fold(known))]
        ids = self.add_once(f"{{{','.join(map(str, found))}}}", "bigint[]")
        inbox = "true" if names.matches(name, names.INBOX) else "false"
        # NULL = ANY of nothing is false, not NULL
        return f"CASE WHEN list_id IS NULL THEN {inbox} ELSE list_id = ANY ({ids}::bigint[]) END"

    def parent(self, id: int | UUID) -> str:
        number = self.reader.parents.get(id, NO_SUCH_ID) if isinstance(id, UUID) else id
        if number > ID_MAX:
            return NOTHING
        return f"coalesce(parent_id = {self.add(number, 'bigint')}, false)"

    def word(self, word: str) -> str:
        begins = self.add(f" {word}", "text")
        return f"(strpos({TITLE_WORDS}, {begins}) > 0 OR strpos({DESCRIPTION_WORDS}, {begins}) > 0)"


def _all(conditions: Iterable[str]) -> str:
    return f"({' AND '.join(conditions) or ALL})"


def _any(conditions: Iterable[str]) -> str:
    return f"({' OR '.join(conditions) or NOTHING})"
