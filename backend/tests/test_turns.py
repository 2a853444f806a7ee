"""Two of one user's writes are at work at a time. Others wait for their turn, but not for ever."""

from __future__ import annotations

import asyncio
import gc

import pytest

from errors import Unavailable
from postgres.turns import AT_WORK, Turns

SENTENCE = "Your other writes are still under way; try again shortly"


def test_who_gets_no_turn_in_time_is_told_so_and_takes_none_from_others() -> None:
    async def run() -> None:
        turns = Turns(wait_seconds=0.02)
        at_work = [turns.of("ada") for _ in range(AT_WORK)]
        for turn in at_work:
            await turn.__aenter__()
        for _ in range(2):  # who is refused gives back nothing that they did not have
            with pytest.raises(Unavailable, match=SENTENCE):
                async with turns.of("ada"):
                    raise AssertionError("there was no turn left")
        await at_work[0].__aexit__()
        async with turns.of("ada"):
            pass

    asyncio.run(run())


def test_a_turn_that_ends_is_the_next_ones() -> None:
    async def run() -> list[str]:
        turns, said = Turns(wait_seconds=5), list[str]()

        async def write(name: str) -> None:
            async with turns.of("ada"):
                said.append(f"{name} begins")
                await asyncio.sleep(0.001)
                said.append(f"{name} ends")

        await asyncio.gather(*(write(str(number)) for number in range(6)))
        return said

    said = asyncio.run(run())
    assert len(said) == 12
    at_work = 0
    for line in said:
        at_work += 1 if line.endswith("begins") else -1
        assert at_work <= AT_WORK


def test_others_do_not_wait_and_nothing_is_kept_of_who_has_written() -> None:
    async def run() -> int:
        turns = Turns(wait_seconds=0.02)
        async with turns.of("ada"), turns.of("ada"), turns.of("bob"):
            assert len(turns._taken) == 2
        gc.collect()
        return len(turns._taken)

    assert asyncio.run(run()) == 0
