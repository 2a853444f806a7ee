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
import retention
from database import Database
from postgres import dsn, embedded, migrate
from postgres.pool import Pool
from postgres.sessions import LIMITS
from tests.conftest import sql, waiting_for_locks
from tests.expiry import KEPT, remove_expired

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
TRASH = """
INSERT INTO tasks (user_id, title, version, deleted_at, updated_at)
SELECT 'user-' || n % 7, 'Trashed ' || n, n, CASE WHEN n > 0 THEN now() - 100 * interval '1 day' END,
       now() - n * interval '1 day'
FROM generate_series(0, 60) AS n
"""
COUNTERS = (
    "INSERT INTO change_counters SELECT 'user-' || n, 1000, now() FROM generate_series(0, 6) AS n"
)
LEFT = """
SELECT (SELECT array_agg(seq ORDER BY seq) FROM changes WHERE op = 'update'),
       (SELECT array_agg(key) FROM idempotency_keys), (SELECT array_agg(title::text) FROM tasks)
"""
REMOVED = 200 - 89 + 48 - 23 + 60 - 29


@pytest.fixture(scope="module")
def url(cluster: embedded.Server) -> Iterator[str]:
    sql(cluster.url, "CREATE DATABASE retention")
    made = cluster.url.replace("/todo?", "/retention?")
    asyncio.run(migrate.upgrade(dsn.parse(made)))
    yield made
    sql(cluster.url, "DROP DATABASE retention WITH (FORCE)")


@pytest.fixture
def full(url: str) -> str:
    """A change of each of the last 200 days, an answer of each of the last 48 hours, trash of the last 60 days."""
    for table in migrate.ISOLATED:
        sql(url, f"DELETE FROM {table}")
    for statement in (CHANGES, ANSWERS, TRASH, COUNTERS):
        sql(url, statement)
    return url


def left(url: str) -> tuple[list[int], set[str], set[str]]:
    changes, keys, titles = sql(url, LEFT)[0]
    return changes, set(keys), set(titles)


RECENT = (
    list(range(1, 90)),
    {f"key-{hours}" for hours in range(1, 24)},
    {f"Trashed {days}" for days in range(30)},
)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 25)
    monkeypatch.setattr(retention, "TRASH_BATCH", 10)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_what_has_expired_goes_and_what_has_not_stays(pooled: bool, full: str) -> None:
    assert (remove_expired(full, pooled=pooled), left(full)) == (REMOVED, RECENT)
    assert remove_expired(full) == 0


@pytest.mark.usefixtures("small_batches")
def test_many_servers_at_once_remove_each_row_once(full: str) -> None:
    assert remove_expired(full, servers=6) + remove_expired(full) == REMOVED
    assert left(full) == RECENT


def test_a_task_that_leaves_the_trash_in_time_is_a_change_of_the_systems(full: str) -> None:
    remove_expired(full)
    purges = sql(
        full, "SELECT user_id, seq, actor_kind, actor_id, fields FROM changes WHERE op = 'purge'"
    )
    assert len(purges) == 31
    assert {tuple(purge)[2:] for purge in purges} == {("system", "retention", "{}")}
    for user in range(7):
        numbers = sorted(purge["seq"] for purge in purges if purge["user_id"] == f"user-{user}")
        assert numbers == list(range(1001, 1001 + len(numbers)))
        assert (
            sql(full, f"SELECT seq FROM change_counters WHERE user_id = 'user-{user}'")[0][0]
            == numbers[-1]
        )


@pytest.mark.parametrize(
    ("days", "owner", "changes", "trashed"),
    [
        ("90", "", 111, 0),
        ("30", "", 171, 31),
        ("1", "", 200, 60),
        ("0", "", 0, 0),
        ("-5", "", 0, 0),
        ("", "", 0, 0),
        ("90", "user-1", 111, 0),
    ],
)
def test_without_any_where_clause_the_role_reaches_what_has_expired_alone(
    days: str, owner: str, changes: int, trashed: int, full: str
) -> None:
    """Nor does it reach more by calling itself a user."""

    async def remove_all() -> tuple[Any, Any]:
        session = await asyncpg.connect(full)
        try:
            async with session.transaction():
                await session.execute(retention.BEGIN)
                await session.execute("SELECT set_config('app.changes_kept_days', $1, true)", days)
                await session.execute("SELECT set_config('app.trash_kept_days', $1, true)", days)
                await session.execute("SELECT set_config('app.user_id', $1, true)", owner)
                trash = await session.fetchval("SELECT count(deleted_at) FROM tasks")
                assert trash == trashed
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
        "DELETE FROM tasks",
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
async def held(url: str, title: str) -> AsyncIterator[None]:
    """Meanwhile nobody else can change or delete the task of this title."""
    session = await asyncpg.connect(url)
    try:
        async with session.transaction():
            await session.execute("SELECT FROM tasks WHERE title = $1 FOR UPDATE", title)
            yield
    finally:
        await session.close()


def test_a_task_that_is_busy_stays_for_the_next_time_and_the_others_go(
    full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "TRASH_BATCH", 1)
    monkeypatch.setitem(LIMITS, "lock_timeout", "100ms")

    async def run() -> int:
        used = Pool(dsn.parse(full), migrate.ROLE)
        try:
            async with held(full, "Trashed 60"), asyncio.timeout(10):  # the one that would be first
                return await retention.remove_expired(used, KEPT)
        finally:
            await used.close()

    assert asyncio.run(run()) == REMOVED - 1
    changes, keys, titles = RECENT
    assert left(full) == (changes, keys, titles | {"Trashed 60"})
    assert remove_expired(full) == 1


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """A database that nobody has used yet, and the job beside it."""
    variables: dict[str, Any] = {
        "_env_file": None,
        "NEON_DATABASE_URL": url,
        "changes_kept_days": KEPT.changes_days,
    }
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


CUT_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'todo-api'
"""


def test_the_job_survives_that_all_sessions_are_cut_in_the_middle_of_its_work(
    full: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "CHECK_SECONDS", 0.01)

    async def run() -> None:
        async with opened(full) as used:
            async with held(full, "Trashed 45"):
                await used.pool.read("SELECT 1")
                await eventually(lambda: waiting_for_locks(full) > 0)
                await asyncio.to_thread(sql, full, CUT_ALL)
            await eventually(lambda: "retention: what has expired is still there" in caplog.text)
            used.pool.used_at += retention.EVERY_SECONDS
            await eventually(lambda: left(full) == RECENT)

    asyncio.run(run())
