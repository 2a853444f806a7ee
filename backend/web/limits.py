"""How many requests one user may make, in this process."""

from __future__ import annotations

import math
import time

from allowance import Allowance
from errors import RateLimited

MAX_USERS = 10_000


class RateLimiter:
    """`per_minute` requests a minute and user; the burst is a sixth of it (and at least one)."""

    def __init__(self, per_minute: int) -> None:
        self.per_second = per_minute / 60
        self.burst = max(1.0, per_minute / 6)
        self._allowances: dict[str, Allowance] = {}  # the one used last is at the end

    def take(self, user_id: str, now: float | None = None) -> None:
        """Count one request of `user_id`, or raise RateLimited with the seconds until there is room
        for one."""
        now = time.monotonic() if now is None else now
        allowance = self._allowances.pop(user_id, None) or Allowance(
            self.burst, self.per_second, now
        )
        self._allowances[user_id] = allowance
        if len(self._allowances) > MAX_USERS:
            del self._allowances[
                next(iter(self._allowances))
            ]  # unused for longest: full again by now, or nearly
        if wait := allowance.take(now):
            raise RateLimited(math.ceil(wait))
