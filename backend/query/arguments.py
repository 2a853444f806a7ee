"""The arguments of a statement. A value never becomes a part of its text."""

from __future__ import annotations

Value = str | int | tuple[str, ...]


class Arguments:
    """Numbered from `first` on; those before it are the caller's."""

    def __init__(self, first: int = 2) -> None:
        self._first = first
        self.values: list[Value] = []

    def add(self, value: Value, type: str) -> str:
        self.values.append(value)
        return f"${self._first + len(self.values) - 1}::{type}"

    def add_once(self, text: str, type: str) -> str:
        """One that PostgreSQL reads from a text, and only once: without SELECT it would do so for
        every row."""
        return f"(SELECT {self.add(text, 'text')}::{type})"
