"""Whether what callers were told, each at its own time, could have come from one queue of callers.

Wing and Gong's search ("Testing and verifying concurrent objects", 1993): of the operations that
are left, any that began before the first of them ended may have been next. Lowe's memory of what
was tried keeps it short.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple


class Operation(NamedTuple):
    """What was called, what was answered, and when, on one clock: it took effect at some moment
    between the two."""

    call: Any
    answer: Any
    began: float
    ended: float


Step = Callable[
    [Any, Any], tuple[Any, Hashable]
]  # of a state and a call: the only right answer, and the next state


def is_linearizable(history: Sequence[Operation], state: Hashable, step: Step) -> bool:
    """Whether some order that keeps to the clock explains every answer, by `step`, beginning with
    `state`."""
    operations = sorted(history, key=lambda operation: operation.ended)
    tried = {
        ((1 << len(operations)) - 1, state)
    }  # those left, one bit each, and the state that they meet
    untried = list(tried)
    while untried:
        left, state = untried.pop()
        if not left:
            return True
        first_end = operations[_lowest(left)].ended
        for number, (call, answer, began, _) in enumerate(operations):
            if left >> number & 1 and began <= first_end:
                right, after = step(state, call)
                reached = (left & ~(1 << number), after)
                if answer == right and reached not in tried:
                    tried.add(reached)
                    untried.append(reached)
    return False


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
