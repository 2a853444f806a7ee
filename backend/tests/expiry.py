"""What every server does once an hour: what has expired is removed."""

from __future__ import annotations

import asyncio

import retention
from postgres import dsn, migrate
from postgres.pool import Pool

KEPT = retention.Periods(changes_days=90, trash_days=30)


def remove_expired(url: str, servers: int = 1, pooled: bool = False) -> int:
    """How much that many servers at once removed together."""

    async def run() -> int:
        pools = [Pool(dsn.parse(url, pooled=pooled), migrate.ROLE) for _ in range(servers)]
        removed = await asyncio.gather(*(retention.remove_expired(pool, KEPT) for pool in pools))
        for pool in pools:
            await pool.close()
        return sum(removed)

    return asyncio.run(run())
