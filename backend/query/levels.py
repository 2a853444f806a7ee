"""Priorities, from the least to the greatest."""

from __future__ import annotations

import operator
from collections.abc import Callable

from query.tree import Comparison, Priority
from rules import PRIORITIES, Level

_COMPARED: dict[Comparison, Callable[[int, int], bool]] = {
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def meant(term: Priority) -> tuple[Level, ...]:
    compared, limit = _COMPARED[term.comparison], PRIORITIES.index(term.level)
    return tuple(level for n, level in enumerate(PRIORITIES) if compared(n, limit))
