"""How many requests one user may make: a token bucket each, in this process."""

from __future__ import annotations

import math
import time

from errors import RateLimited

MAX_BUCKETS = 10_000


class RateLimiter:
    """`per_minute` requests a minute and user; the burst is a sixth of it (and at least one)."""

    def __init__(self, per_minute: int) -> None:
        self.per_second = per_minute / 60
        self.burst = max(1.0, per_minute / 6)
        self._buckets: dict[str, tuple[float, float]] = {}  # user -> (tokens, when counted)

    def take(self, user_id: str, now: float | None = None) -> None:
        """Count one request of `user_id`, or raise RateLimited with the seconds until there is room for one."""
        now = time.monotonic() if now is None else now
        tokens, counted = self._buckets.pop(user_id, (self.burst, now))
        tokens = min(self.burst, tokens + (now - counted) * self.per_second)
        if tokens < 1:
            self._buckets[user_id] = (tokens, now)
            raise RateLimited(math.ceil((1 - tokens) / self.per_second))
        self._buckets[user_id] = (tokens - 1, now)
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]  # the one that asked longest ago: full again by now, or nearly
