"""What verifying a token costs: the first time, a known one again, and a forged one, per algorithm; how many are known.

.venv/bin/python benchmarks/verify_token.py [rounds]
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "backend"))
from tokens import verification  # noqa: E402  (the flat source root is beside this folder)
from tokens import jwks  # noqa: E402
from errors import Unauthorized  # noqa: E402
from tokens.keys import Keys, PublishedKeys  # noqa: E402
from tests.people import SECRET, token_for  # noqa: E402
from tests.signers import ALGORITHMS, ORIGIN, Signer, key_set  # noqa: E402

FIRST_TOKENS = 200
REPETITIONS = 20_000
REQUESTS = 60_000


async def measure(mint: Callable[[str], str], verifier: verification.Verifier) -> tuple[float, float, float]:
    """Microseconds: first, again, forged."""
    tokens = [mint(f"user-{number}").encode() for number in range(FIRST_TOKENS)]
    await verifier.user_of(mint("warm").encode())
    began = time.perf_counter()
    for token in tokens:
        await verifier.user_of(token)
    first = (time.perf_counter() - began) / FIRST_TOKENS

    began = time.perf_counter()
    for _ in range(REPETITIONS):
        await verifier.user_of(tokens[0])
    again = (time.perf_counter() - began) / REPETITIONS

    forged = [token[:-20] + b"A" * 20 for token in tokens]
    began = time.perf_counter()
    for token in forged:
        try:
            await verifier.user_of(token)
        except Unauthorized:
            continue
        raise SystemExit("a forged token was accepted")
    return first * 1e6, again * 1e6, (time.perf_counter() - began) / FIRST_TOKENS * 1e6


async def known(people: int, asking: list[int]) -> float:
    """The share of the second half of the requests whose token is still remembered."""
    verifier = verification.Verifier(Keys(SECRET.encode()), ORIGIN, ORIGIN)
    tokens = [token_for(f"user-{number}").encode() for number in range(people)]
    verified = 0
    verify = verifier.verify

    async def counting(token: bytes) -> verification.Verified:
        nonlocal verified
        verified += 1
        return await verify(token)

    verifier.verify = counting  # type: ignore[method-assign]
    half = len(asking) // 2
    for number in asking[:half]:
        await verifier.user_of(tokens[number])
    verified = 0
    for number in asking[half:]:
        await verifier.user_of(tokens[number])
    return 1 - verified / (len(asking) - half)


def in_turn(people: int) -> list[int]:
    return list(itertools.islice(itertools.cycle(range(people)), REQUESTS))


def some_more_often(people: int) -> list[int]:
    """Zipf's law: the n-th asks 1/n as often as the first."""
    return random.choices(range(people), [1 / (n + 1) for n in range(people)], k=REQUESTS)  # noqa: S311


def main(rounds: int = 5) -> None:
    logging.disable()  # of forged tokens
    print("algorithm   first   again  forged   µs, median of the rounds")
    for algorithm in ("HS256", *ALGORITHMS):
        signer = Signer("EdDSA" if algorithm == "HS256" else algorithm)
        mint = token_for if algorithm == "HS256" else signer.token
        costs = []
        for _ in range(rounds):
            store = PublishedKeys("http://keys.invalid", lambda _: jwks.parse(key_set(signer)))  # noqa: B023
            verifier = verification.Verifier(Keys(SECRET.encode(), store), ORIGIN, ORIGIN)
            costs.append(asyncio.run(measure(mint, verifier)))
        first, again, forged = map(statistics.median, zip(*costs, strict=True))
        print(f"{algorithm:9} {first:7.1f} {again:7.2f} {forged:7.1f}")
    print(f"\nof these people's requests are known with {verification.MEMORY_ENTRIES} places")
    for people, order in itertools.product((5_000, 8_000), (in_turn, some_more_often)):
        share = asyncio.run(known(people, order(people)))
        print(f"{people} people, {order.__name__.replace('_', ' '):16} {share:4.0%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
