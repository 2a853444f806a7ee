"""Removes what has expired: changes after CHANGES_KEPT_DAYS, answers kept for retries after 24 hours.

Any number of servers may do it: one at a time works, the others pass by. It runs as a role of its own, whose policies
admit only rows that have expired, and which sees nothing of them but their keys and times.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import asyncpg

from database import Database
from dsn import Address
from migrate import RETENTION_ROLE
from pool import OUT_OF_REACH, Session, connect

log = logging.getLogger("todo.retention")

CHECK_SECONDS = 60.0
EVERY_SECONDS = 3600.0
BATCH = 5_000  # rows of one statement, so that each ends in time
LOCK = 0x70D0_A92  # any number that nobody else takes

BEGIN = f"""
SET LOCAL ROLE {RETENTION_ROLE};
SET LOCAL statement_timeout = '10s';
SET LOCAL lock_timeout = '1500ms'
"""

# `at < $2` is leakproof, so PostgreSQL may look it up in the index before it asks the policies.

REMOVE_CHANGES = """
DELETE FROM changes WHERE (user_id, seq) IN (
    SELECT user_id, seq FROM changes WHERE at < $2 ORDER BY at LIMIT $1
)
"""

REMOVE_ANSWERS = """
DELETE FROM idempotency_keys WHERE (user_id, key) IN (
    SELECT user_id, key FROM idempotency_keys WHERE at < $2 ORDER BY at LIMIT $1
)
"""


async def keep_clean(database: Database) -> None:
    """Work once an hour for as long as the process lives, but never wake a database that nobody uses."""
    worked = -EVERY_SECONDS
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if database.used_at > worked + EVERY_SECONDS:
            worked = time.monotonic()
            try:
                await remove_expired(database.pool.address, database.settings.changes_kept_days)
            except (asyncpg.PostgresError, *OUT_OF_REACH) as error:
                log.warning("retention: what has expired is still there (%s: %s)", type(error).__name__, error)


async def remove_expired(address: Address, changes_kept_days: int) -> int:
    """How many rows were removed; 0 where another server is at it."""
    session = await connect(address)
    try:
        removed = await _remove(session, REMOVE_CHANGES, timedelta(days=changes_kept_days))
        removed += await _remove(session, REMOVE_ANSWERS, timedelta(hours=24))
    finally:
        await session.close()
    if removed:
        log.info("retention: %d rows that had expired were removed", removed)
    return removed


async def _remove(session: Session, sql: str, kept: timedelta) -> int:
    removed, batch = 0, BATCH
    while batch == BATCH:
        async with session.transaction():
            await session.execute(BEGIN)
            await session.execute("SELECT set_config('app.changes_kept_days', $1, true)", str(kept.days))
            if not await session.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK):
                return removed
            expired_before = await session.fetchval("SELECT now() - $1::interval", kept)
            batch = int((await session.execute(sql, BATCH, expired_before)).split()[1])  # of "DELETE 5000"
        removed += batch
    return removed
