"""Removes what has expired: changes and trash after their days, answers kept for retries after 24
hours.

Any number of servers may do it: one at a time works, the others pass by. It runs as a role of its
own, whose policies admit only rows that have expired, and which sees nothing of them but their keys
and times.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import trash
from database import Actor, Database, OwnerDatabase
from entities import ENTITIES, LIST, TASK, Entity
from errors import NotFound, Unavailable
from postgres.migrate import RETENTION_ROLE
from postgres.pool import Pool
from postgres.sessions import Session, Terms, close, connect

log = logging.getLogger("todo.retention")

CHECK_SECONDS = 60.0
EVERY_SECONDS = 3600.0
LONGEST_SECONDS = 900.0  # of one run; a database that stalls would else keep it waiting for ever
BATCH = 5_000  # rows of one statement, so that each ends in time
TRASH_BATCH = 500
LOCK = 0x70D0_A92  # any number that nobody else takes


class Periods(NamedTuple):
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

EXPIRED_TRASH = {
    entity.name: f"""
SELECT deleted_at, id, user_id FROM {entity.table}
WHERE deleted_at IS NOT NULL AND deleted_at < $2 AND updated_at < $2 AND (deleted_at, id) > ($3, $4)
ORDER BY deleted_at, id LIMIT $1
"""  # noqa: S608  # of constants only
    for entity in ENTITIES
}

READ = ("changes", "idempotency_keys", *(entity.table for entity in ENTITIES))
FIRST = (datetime.min.replace(tzinfo=UTC), 0)
PURGER = Actor("system", "retention")


async def keep_clean(database: Database) -> None:
    """Work once an hour for as long as the process lives, but never wake a database that nobody
    uses."""
    worked = -EVERY_SECONDS
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if database.used_at > worked + EVERY_SECONDS:
            worked = time.monotonic()
            kept = Periods(database.settings.changes_kept_days, database.settings.trash_kept_days)
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    await remove_expired(database.pool, kept)
            except Exception as error:  # whatever it was, the next hour may be better
                log.warning(
                    "retention: what has expired is still there (%s: %s)",
                    type(error).__name__,
                    error,
                )


async def remove_expired(pool: Pool, kept: Periods) -> int:
    """How many changes, answers, tasks and lists were removed; fewer where another server is at it."""
    session = await connect(
        pool.address, Terms(RETENTION_ROLE, pool.terms.schema, READ if pool.terms.isolated else ())
    )
    try:
        removed = await _remove(session, REMOVE_CHANGES, timedelta(days=kept.changes_days), kept)
        removed += await _remove(session, REMOVE_ANSWERS, timedelta(hours=24), kept)
        removed += await _empty_trash(session, pool, kept)
    finally:
        await close(session)
    if removed:
        log.info("retention: %d rows that had expired were removed", removed)
    return removed


async def _remove(session: Session, sql: str, age: timedelta, kept: Periods) -> int:
    removed, batch = 0, BATCH
    while batch == BATCH:
        async with _alone(session, kept, age) as expired_before:
            if expired_before is None:
                return removed
            done = await session.execute(sql, BATCH, expired_before)
            batch = int(done.removeprefix("DELETE "))
        removed += batch
    return removed


async def _empty_trash(session: Session, pool: Pool, kept: Periods) -> int:
    """Tasks before lists, and what is below a task before that one.

    What something in the trash still refers to waits for that, which was deleted with it or before
    it.
    """
    removed = 0
    for entity in (TASK, LIST):
        while purged := await _purge_expired(entity, session, pool, kept):
            removed += purged
    return removed


async def _purge_expired(entity: Entity, session: Session, pool: Pool, kept: Periods) -> int:
    """Each is deleted by the ordinary operation, as its owner's: a change like others, and no text
    is left."""
    removed, last = 0, FIRST
    while True:
        async with _alone(session, kept, timedelta(days=kept.trash_days)) as expired_before:
            if expired_before is None:
                return removed
            sql = EXPIRED_TRASH[entity.name]
            found = await session.fetch(sql, TRASH_BATCH, expired_before, *last)
        if not found:
            return removed
        for row in found:
            owner = OwnerDatabase(pool, row["user_id"], PURGER)
            removed += await _purge(owner, entity, row["id"], expired_before)
        last = (found[-1]["deleted_at"], found[-1]["id"])


async def _purge(owner: OwnerDatabase, entity: Entity, id: int, expired_before: datetime) -> bool:
    try:
        return await trash.purge(owner, entity, id, untouched_since=expired_before)
    except NotFound:  # restored since, or purged by its owner
        return False
    except Unavailable as error:  # busy; the others are not to wait for it
        log.warning("retention: %s %d is still in the trash (%s)", entity.name, id, error)
        return False


@asynccontextmanager
async def _alone(session: Session, kept: Periods, age: timedelta) -> AsyncIterator[datetime | None]:
    """A transaction in the role; the time before which things of that age have expired, or None if
    another works."""
    async with session.transaction():
        await session.execute(BEGIN)
        for name, days in zip(("changes", "trash"), kept, strict=True):
            await session.execute(f"SELECT set_config('app.{name}_kept_days', $1, true)", str(days))
        free = await session.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK)
        yield await session.fetchval("SELECT now() - $1::interval", age) if free else None
