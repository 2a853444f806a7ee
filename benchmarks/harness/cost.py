"""What one request costs under load: the two processors' time, and the waiting."""

from __future__ import annotations

from typing import NamedTuple

from harness.contenders import Contender, Postgres, cpu, spent
from harness.load import Load

WARM_UP_SHARE = 0.2  # of the seconds


class Cost(NamedTuple):
    rate: float
    p50_ms: float
    p99_ms: float
    server: float  # CPU µs per request
    database: float

    @property
    def cpu(self) -> float:
        return self.server + self.database

    def __str__(self) -> str:
        return (
            f"{self.rate:6.0f}/s  cpu {self.cpu:5.0f} µs (server {self.server:4.0f}, database {self.database:4.0f})  "
            f"p99 {self.p99_ms:.1f} ms"
        )


async def measure(load: Load, contender: Contender, database: Postgres, seconds: float) -> Cost:
    await database.quiet(contender.database)
    await load.open(contender.port)
    await load.run(seconds * WARM_UP_SHARE)
    own, theirs = cpu(contender.process), cpu(database.process)
    run = await load.run(seconds)
    own_spent, theirs_spent = spent(own, cpu(contender.process)), spent(theirs, cpu(database.process))
    load.close()
    number = len(run.took)
    return Cost(
        run.rate, run.percentile(0.5) * 1e3, run.percentile(0.99) * 1e3, own_spent / number, theirs_spent / number
    )
