"""One term of a query, such as `due before: +7 days`: a function for each that is more than one
word."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from uuid import UUID

import texts
from query import days
from query.cursor import Cursor
from query.errors import QueryError, did_you_mean, quoted
from query.spelling import spell
from query.tokens import Token, is_number
from query.tree import (
    Dated,
    Field,
    InList,
    Label,
    Name,
    NextDays,
    Parent,
    Priority,
    Search,
    Status,
    Term,
)
from query.vocabulary import AFTER_NO, COMPARISONS, EXAMPLES, LEVELS, MEANT, TERMS, WHENS
from rules import ID_MAX

_UID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def term(cursor: Cursor) -> Term:
    token = cursor.take()
    match token.kind:
        case "quoted":
            return _search_words(token)
        case "label":
            return Label(_name(token))
        case "list":
            return InList(_name(token))
        case _:
            return _of_words(token, cursor)


def _of_words(token: Token, cursor: Cursor) -> Term:
    if token.key in LONGER:
        return LONGER[token.key](cursor)
    if token.key in TERMS:
        return TERMS[token.key]
    if is_number(token.text):
        return _next_days(token, cursor)
    raise QueryError(token.column, f"{quoted(token.text)} is not a term{_advice(token)}")


def _advice(token: Token) -> str:
    if token.key in MEANT:
        return f"; did you mean {quoted(MEANT[token.key])}?"
    if near := did_you_mean(token.key, EXAMPLES):
        return near
    words = texts.words(token.plain)
    return f"; to search for it, write {spell(Search(tuple(words)))}" if words else ""


# --- what is more than one word; the first one is taken ---


def _dated(field: Field, cursor: Cursor) -> Dated:
    has_word = cursor.here.text != ":"
    when = cursor.choose(WHENS, '":", "before:" or "after:"')
    if has_word:
        cursor.require(":")
    return Dated(field, when, days.day(cursor))


def _completed(cursor: Cursor) -> Term:
    """Alone it is a status; with `:`, `on:`, `before:` or `after:` it is a day."""
    if cursor.here.key in WHENS:
        return _dated("completed", cursor)
    return Status("completed")


def _next(cursor: Cursor) -> NextDays:
    if not is_number(cursor.here.text):
        raise cursor.expected("a number of days")
    return _next_days(cursor.take(), cursor)


def _next_days(token: Token, cursor: Cursor) -> NextDays:
    cursor.require("days", "day")
    count = days.count(token, "day")
    if count == 0:
        raise QueryError(token.column, '"0 days" is no time at all; write "1 day" for today')
    return NextDays(count)


def _no(cursor: Cursor) -> Term:
    return cursor.choose(AFTER_NO, "date, time, labels or parent")


def _priority(cursor: Cursor) -> Priority:
    comparison = cursor.choose(COMPARISONS, '":", ">", ">=", "<" or "<="')
    level = cursor.choose(LEVELS, "high, medium, low or none, or p1 to p4")
    return Priority(comparison, level)


def _parent(cursor: Cursor) -> Parent:
    cursor.require(":")
    token = cursor.take_value("the id of a task")
    if is_number(token.text) and 1 <= int(token.text) <= ID_MAX:
        return Parent(int(token.text))
    if _UID.fullmatch(token.key):
        return Parent(UUID(token.key))
    raise QueryError(
        token.column,
        f"{quoted(token.text)} is not the id of a task; write its number, such as 42, or its uid",
    )


def _search(cursor: Cursor) -> Search:
    cursor.require(":")
    found = _search_words(cursor.take_value('a word, or several as in "two words"'))
    if cursor.is_at_value:
        raise _lacks_quotes(cursor.here)
    return found


LONGER: dict[str, Callable[[Cursor], Term]] = {
    "due": partial(_dated, "due"),
    "start": partial(_dated, "start"),
    "created": partial(_dated, "created"),
    "updated": partial(_dated, "updated"),
    "completed": _completed,
    "next": _next,
    "no": _no,
    "priority": _priority,
    "parent": _parent,
    "search": _search,
}


# --- names, and words to search for ---


def _name(token: Token) -> Name:
    if not token.plain.strip():
        raise QueryError(token.column, f'after "{token.text[0]}" a name is missing')
    return Name(token.parts)


def _search_words(token: Token) -> Search:
    found = texts.words(token.plain)
    if not found:
        raise QueryError(token.column, f"{quoted(token.text)} has no letter or digit to search for")
    if len(found) > 1 and token.kind != "quoted":
        raise _lacks_quotes(token)
    return Search(tuple(found))


def _lacks_quotes(token: Token) -> QueryError:
    return QueryError(
        token.column, 'several words to search for need quotes, as in search: "two words"'
    )
