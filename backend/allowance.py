"""How often something may happen: a token bucket."""

from __future__ import annotations

import time


class Allowance:
    """`burst` at once, then `per_second`."""

    __slots__ = ("_counted_at", "_left", "burst", "per_second")

    def __init__(self, burst: float, per_second: float, now: float | None = None) -> None:
        self.burst = burst
        self.per_second = per_second
        self._left = burst
        self._counted_at = time.monotonic() if now is None else now

    def take(self, now: float | None = None) -> float:
        """Take one and return 0; where none is left, return the seconds until there is one."""
        now = time.monotonic() if now is None else now
        self._left = min(self.burst, self._left + (now - self._counted_at) * self.per_second)
        self._counted_at = now
        if self._left < 1:
            return (1 - self._left) / self.per_second
        self._left -= 1
        return 0.0
