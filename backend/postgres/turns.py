"""Turns: few of one user's writes are at work at a time, the others wait in this process."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from errors import Unavailable
from postgres.outages import OWN_WRITES

AT_WORK = 2  # one works, and the next is there when it has committed


class Turns:
    """Those of all users. Nothing is kept of one who has no write under way."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._taken: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, owner: str) -> Turn:
        taken = self._taken.get(owner)
        if taken is None:
            taken = self._taken[owner] = asyncio.Semaphore(AT_WORK)
        return Turn(taken, self._wait_seconds)


class Turn:
    """Among the writes of one user. Unavailable if it does not come in time."""

    __slots__ = ("_taken", "_wait_seconds")

    def __init__(self, taken: asyncio.Semaphore, wait_seconds: float) -> None:
        self._taken = taken
        self._wait_seconds = wait_seconds

    async def __aenter__(self) -> None:
        if not self._taken.locked():
            await self._taken.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._taken.acquire()
        except TimeoutError:
            raise Unavailable(OWN_WRITES) from None

    async def __aexit__(self, *_: object) -> None:
        self._taken.release()
