"""What has expired is removed, by any number of servers, in a role that can reach nothing else."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

import config
import dsn
import embedded
import migrate
import retention
from database import Database
from tests.conftest import sql

DAYS = 90

CHANGES = """
INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
SELECT 'user-' || n % 7, n, now() - n * interval '1 day', 'user', 'ada', gen_random_uuid(), 'task', n, 'update', '{}'
FROM generate_series(1, 200) AS n
"""
ANSWERS = """
INSERT INTO idempotency_keys (user_id, key, at, fingerprint, status, headers, body)
SELECT 'user-' || n % 7, 'key-' || n, now() - n * interval '1 hour', '', 200, '{}', '{}'
FROM generate_series(1, 48) AS n
"""
LEFT = "SELECT (SELECT array_agg(seq ORDER BY seq) FROM changes), (SELECT array_agg(key) FROM idempotency_keys)"


@pytest.fixture(scope="module")
def url(cluster: embedded.Server) -> Iterator[str]:
    sql(cluster.url, "CREATE DATABASE retention")
    made = cluster.url.replace("/todo?", "/retention?")
    asyncio.run(migrate.upgrade(dsn.parse(made)))
    yield made
    sql(cluster.url, "DROP DATABASE retention WITH (FORCE)")


@pytest.fixture
def full(url: str) -> str:
    """A change of each of the last 200 days, an answer of each of the last 48 hours."""
    for statement in ("DELETE FROM changes", "DELETE FROM idempotency_keys", CHANGES, ANSWERS):
        sql(url, statement)
    return url


def left(url: str) -> tuple[list[int], set[str]]:
    changes, keys = sql(url, LEFT)[0]
    return changes, set(keys)


RECENT = (list(range(1, DAYS)), {f"key-{hours}" for hours in range(1, 24)})


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_what_has_expired_goes_and_what_has_not_stays(pooled: bool, full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 25)  # so that it takes several
    removed = asyncio.run(retention.remove_expired(dsn.parse(full, pooled=pooled), DAYS))
    assert (removed, left(full)) == (200 - 89 + 48 - 23, RECENT)
    assert asyncio.run(retention.remove_expired(dsn.parse(full), DAYS)) == 0


def test_many_servers_at_once_remove_each_row_once(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 5)

    async def race() -> int:
        return sum(await asyncio.gather(*(retention.remove_expired(dsn.parse(full), DAYS) for _ in range(6))))

    removed = asyncio.run(race()) + asyncio.run(retention.remove_expired(dsn.parse(full), DAYS))
    assert (removed, left(full)) == (200 - 89 + 48 - 23, RECENT)


@pytest.mark.parametrize(
    ("days", "owner", "changes"),
    [("90", "", 111), ("1", "", 200), ("0", "", 0), ("-5", "", 0), ("", "", 0), ("90", "user-1", 111)],
)
def test_without_any_where_clause_the_role_reaches_what_has_expired_alone(
    days: str, owner: str, changes: int, full: str
) -> None:
    """Nor does it reach more by calling itself a user."""

    async def remove_all() -> tuple[Any, Any]:
        session = await asyncpg.connect(full)
        try:
            async with session.transaction():
                await session.execute(retention.BEGIN)
                await session.execute("SELECT set_config('app.changes_kept_days', $1, true)", days)
                await session.execute("SELECT set_config('app.user_id', $1, true)", owner)
                return await session.execute("DELETE FROM changes"), await session.execute(
                    "DELETE FROM idempotency_keys"
                )
        finally:
            await session.close()

    assert asyncio.run(remove_all()) == (f"DELETE {changes}", "DELETE 25")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT fields FROM changes",
        "SELECT body FROM idempotency_keys",
        "SELECT title FROM tasks",
        "UPDATE changes SET at = now()",
        "SELECT seq FROM change_counters",
    ],
)
def test_the_role_cannot_read_what_anybody_wrote(statement: str, full: str) -> None:
    async def ask() -> None:
        session = await asyncpg.connect(full)
        try:
            async with session.transaction():
                await session.execute(retention.BEGIN)
                await session.execute(statement)
        finally:
            await session.close()

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(ask())


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """A database that nobody has used yet, and the job beside it."""
    variables: dict[str, Any] = {"_env_file": None, "NEON_DATABASE_URL": url, "changes_kept_days": DAYS}
    used = Database(config.Settings(**variables))
    await used.open()
    used.pool.used_at = -math.inf
    job = asyncio.create_task(retention.keep_clean(used))
    yield used
    assert not job.done()
    job.cancel()
    await used.close()


def test_the_job_works_when_the_database_is_used_and_lets_it_sleep_else(
    full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHECK_SECONDS", 0.01)
    untouched = left(full)

    async def run() -> tuple[Any, int]:
        async with opened(full) as used:
            await asyncio.sleep(0.1)
            asleep = await asyncio.to_thread(left, full)
            await used.pool.read("SELECT 1")
            await eventually(lambda: left(full) == RECENT)
            await asyncio.to_thread(sql, full, ANSWERS.replace("'key-'", "'later-'"))
            await used.pool.read("SELECT 1")
            await asyncio.sleep(0.1)
            within_the_hour = len((await asyncio.to_thread(left, full))[1])
            used.pool.used_at += retention.EVERY_SECONDS
            await eventually(lambda: len(left(full)[1]) == 46)
            return asleep, within_the_hour

    assert asyncio.run(run()) == (untouched, 23 + 48)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110  # the database tells nobody
            await asyncio.sleep(0.02)


def test_a_failure_is_said_and_tried_again(
    full: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(retention, "BEGIN", "SET LOCAL ROLE nobody_has_made_this_one")

    async def run() -> None:
        async with opened(full) as used:
            await used.pool.read("SELECT 1")
            await eventually(lambda: "nobody_has_made_this_one" in caplog.text)

    asyncio.run(run())
    assert "retention: what has expired is still there (InvalidParameterValueError" in caplog.text
