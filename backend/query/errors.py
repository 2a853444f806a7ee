"""What is wrong with a query, where, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN_MAX = 40  # characters of what was typed that a sentence repeats


class QueryError(ValueError):
    """`column` counts code points from 1: where the wrong word begins, or one past the end."""

    def __init__(self, column: int, wrong: str) -> None:
        self.column = column
        self.sentence = f"query, column {column}: {wrong}"
        super().__init__(self.sentence)


def quoted(text: str) -> str:
    """What was typed, as a sentence shows it: in one pair of quotes, and cut where it is long."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return f'"{text}"' if len(text) <= _SHOWN_MAX else f'"{text[:_SHOWN_MAX]}…"'


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """The end of a sentence; nothing if no known word is near."""
    near = get_close_matches(typed, known, n=1)
    return f"; did you mean {quoted(near[0])}?" if near else ""
