"""The words, names and signs of a query, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from query.errors import QueryError

Kind = Literal["start", "word", "quoted", "label", "list", "sign", "end"]

SIGNS = (">=", "<=", ">", "<", ":", "|", "&", "!", "(", ")")
_KINDS: dict[str, Kind] = {'"': "quoted", "@": "label", "#": "list"}


@dataclass(frozen=True)
class Token:
    """`parts` is what it says between its stars, without quotes and escapes; `column` counts from
    1."""

    kind: Kind
    text: str  # as it was typed
    column: int
    parts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """For comparing it with the words of the language, whose case does not matter."""
        return self.text.lower()

    @property
    def plain(self) -> str:
        """What it says; its stars are only stars."""
        return "*".join(self.parts)


def is_number(text: str) -> bool:
    """Of ASCII digits: others are no number in this language."""
    return text.isascii() and text.isdigit()


def tokens(query: str) -> Iterator[Token]:
    """The last one is of the kind `end`, one past the end."""
    _check_characters(query)
    start = 0
    while start < len(query):
        if query[start].isspace():
            start += 1
            continue
        token = _token(query, start)
        yield token
        start += len(token.text)
    yield Token("end", "", len(query) + 1)


def _check_characters(query: str) -> None:
    for column, char in enumerate(query, 1):
        if char == "\0" or "\ud800" <= char <= "\udfff":
            raise QueryError(column, f"the character U+{ord(char):04X} cannot be in a query")


def _token(query: str, start: int) -> Token:
    for sign in SIGNS:
        if query.startswith(sign, start):
            return Token("sign", sign, start + 1)
    kind = _KINDS.get(query[start], "word")
    content = start + 1 if kind in ("label", "list") else start
    if query.startswith('"', content):
        return _quoted(query, kind, start, content + 1)
    end = _end(query, content, _ends_word if kind == "word" else _ends_name)
    return Token(kind, query[start:end], start + 1, _parts(query[content:end]))


def _quoted(query: str, kind: Kind, start: int, content: int) -> Token:
    end = _end(query, content, _ends_quotes)
    if end == len(query):
        raise QueryError(content, "the quotes that open here are not closed")
    return Token(kind, query[start : end + 1], start + 1, _parts(query[content:end]))


def _end(query: str, start: int, ends: Callable[[str, int], bool]) -> int:
    """The first place from `start` on that `ends`, or the end of the query. What is escaped ends
    nothing."""
    at = start
    while at < len(query) and not ends(query, at):
        at += 2 if query[at] == "\\" else 1
    if at > len(query):
        raise QueryError(at, 'after "\\" a character is missing')
    return at


def _ends_quotes(query: str, at: int) -> bool:
    return query[at] == '"'


def _ends_name(query: str, at: int) -> bool:
    return query[at].isspace() or query[at] in '|&!()"'


def _ends_word(query: str, at: int) -> bool:
    """A time is one word: a colon between digits belongs to it, and so does the `!` of
    `[!Europe/Berlin]`."""
    if query[at] == ":":
        return not (is_number(query[at - 1]) and is_number(query[at + 1 : at + 2]))
    if query[at] == "!":
        return query[at - 1] != "["
    return _ends_name(query, at) or query[at] in "<>"


def _parts(typed: str) -> tuple[str, ...]:
    """A star divides; a character after a backslash stands for itself."""
    parts = [""]
    escaped = False
    for char in typed:
        if char == "\\" and not escaped:
            escaped = True
            continue
        if char == "*" and not escaped:
            parts.append("")
        else:
            parts[-1] += char
        escaped = False
    return tuple(parts)
