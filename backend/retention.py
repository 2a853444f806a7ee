"""Removes what has expired: changes and trash after their days, answers kept for retries after 24 hours.

Any number of servers may do it: one at a time works, the others pass by. It runs as a role of its own, whose policies
admit only rows that have expired, and which sees nothing of them but their keys and times.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

import trash
from database import Actor, Database, OwnerDatabase
from errors import NotFound, Unavailable
from migrate import RETENTION_ROLE
from pool import OUT_OF_REACH, Pool, Session, connect

log = logging.getLogger("todo.retention")

CHECK_SECONDS = 60.0
EVERY_SECONDS = 3600.0
BATCH = 5_000  # rows of one statement, so that each ends in time
TRASH_BATCH = 500
LOCK = 0x70D0_A92  # any number that nobody else takes


class Kept(NamedTuple):
    """For how many days."""

    changes_days: int
    trash_days: int


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


EXPIRED_TRASH = """
SELECT user_id, id FROM tasks WHERE deleted_at < $2 ORDER BY deleted_at LIMIT $1
"""

PURGER = Actor("system", "retention")


async def keep_clean(database: Database) -> None:
    """Work once an hour for as long as the process lives, but never wake a database that nobody uses."""
    worked = -EVERY_SECONDS
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if database.used_at > worked + EVERY_SECONDS:
            worked = time.monotonic()
            kept = Kept(database.settings.changes_kept_days, database.settings.trash_kept_days)
            try:
                await remove_expired(database.pool, kept)
            except (Unavailable, asyncpg.PostgresError, *OUT_OF_REACH) as error:
                log.warning("retention: what has expired is still there (%s: %s)", type(error).__name__, error)


async def remove_expired(pool: Pool, kept: Kept) -> int:
    """How many changes, answers and tasks were removed; fewer where another server is at it."""
    session = await connect(pool.address)
    try:
        removed = await _remove(session, REMOVE_CHANGES, timedelta(days=kept.changes_days), kept)
        removed += await _remove(session, REMOVE_ANSWERS, timedelta(hours=24), kept)
        removed += await _empty_trash(session, pool, kept)
    finally:
        await session.close()
    if removed:
        log.info("retention: %d rows that had expired were removed", removed)
    return removed


async def _remove(session: Session, sql: str, age: timedelta, kept: Kept) -> int:
    removed, batch = 0, BATCH
    while batch == BATCH:
        async with _alone(session, kept, age) as expired_before:
            if expired_before is None:
                return removed
            batch = int((await session.execute(sql, BATCH, expired_before)).split()[1])  # of "DELETE 5000"
        removed += batch
    return removed


async def _empty_trash(session: Session, pool: Pool, kept: Kept) -> int:
    """Each task is deleted by the ordinary operation, as its owner's: a change like others, and no text is left."""
    removed, batch = 0, TRASH_BATCH
    while batch == TRASH_BATCH:
        async with _alone(session, kept, timedelta(days=kept.trash_days)) as expired_before:
            if expired_before is None:
                return removed
            found = await session.fetch(EXPIRED_TRASH, TRASH_BATCH, expired_before)
        batch = len(found)
        for user_id, id in found:
            with suppress(NotFound):  # restored since, or purged by its owner
                await trash.purge(OwnerDatabase(pool, user_id, PURGER), id, deleted_before=expired_before)
                removed += 1
    return removed


@asynccontextmanager
async def _alone(session: Session, kept: Kept, age: timedelta) -> AsyncIterator[datetime | None]:
    """A transaction in the role; the time before which things of that age have expired, or None if another works."""
    async with session.transaction():
        await session.execute(BEGIN)
        for name, days in zip(("changes", "trash"), kept, strict=True):
            await session.execute(f"SELECT set_config('app.{name}_kept_days', $1, true)", str(days))
        free = await session.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK)
        yield await session.fetchval("SELECT now() - $1::interval", age) if free else None
