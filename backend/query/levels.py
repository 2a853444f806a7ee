"""Priorities, from the least to the greatest."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import get_args

from query.tree import Comparison, Level, Priority

LEVELS: tuple[Level, ...] = get_args(Level)

_COMPARED: dict[Comparison, Callable[[int, int], bool]] = {
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def meant(term: Priority) -> tuple[Level, ...]:
    compared, limit = _COMPARED[term.comparison], LEVELS.index(term.level)
    return tuple(level for n, level in enumerate(LEVELS) if compared(n, limit))
