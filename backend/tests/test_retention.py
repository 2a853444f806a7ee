"""What has expired is removed, by any number of servers, in a role that can reach nothing else."""

from __future__ import annotations

import asyncio
import builtins
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
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
LISTS = """
INSERT INTO lists (user_id, name, version, deleted_at, updated_at)
SELECT 'user-' || n % 7, 'Trashed list ' || n, n, CASE WHEN n > 0 THEN now() - 100 * interval '1 day' END,
       now() - n * interval '1 day'
FROM generate_series(0, 60) AS n
"""
COUNTERS = (
    "INSERT INTO change_counters SELECT 'user-' || n, 1000, now() FROM generate_series(0, 6) AS n"
)
LEFT = """
SELECT (SELECT array_agg(seq ORDER BY seq) FROM changes WHERE op = 'update'),
       (SELECT array_agg(key) FROM idempotency_keys),
       (SELECT array_agg(title) FROM (SELECT title FROM tasks UNION ALL SELECT name FROM lists) AS all_of_them)
"""
REMOVED = 200 - 89 + 48 - 23 + 2 * (60 - 29)


@pytest.fixture(scope="module")
def url(cluster: embedded.Server) -> Iterator[str]:
    sql(cluster.url, "CREATE DATABASE retention")
    made = cluster.url.replace("/todo?", "/retention?")
    asyncio.run(migrate.upgrade(dsn.parse(made)))
    yield made
    sql(cluster.url, "DROP DATABASE retention WITH (FORCE)")


def emptied(url: str) -> None:
    for table in reversed(migrate.ISOLATED):  # tasks refer to lists
        sql(url, f"DELETE FROM {table}")


@pytest.fixture
def full(url: str) -> str:
    """A change of each of the last 200 days, an answer of each of the last 48 hours, trash of the
    last 60 days."""
    emptied(url)
    for statement in (CHANGES, ANSWERS, TRASH, LISTS, COUNTERS):
        sql(url, statement)
    return url


def left(url: str) -> tuple[list[int], set[str], set[str]]:
    changes, keys, titles = sql(url, LEFT)[0]
    return changes, set(keys), set(titles)


RECENT = (
    list(range(1, 90)),
    {f"key-{hours}" for hours in range(1, 24)},
    {f"Trashed {what}{days}" for what in ("", "list ") for days in range(30)},
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
    assert len(purges) == 2 * 31
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
                for table in ("tasks", "lists"):
                    seen = await session.fetch(f"SELECT deleted_at FROM {table}")
                    assert [row["deleted_at"] is not None for row in seen] == [True] * trashed
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
        "SELECT list_id, parent_id FROM tasks",
        "SELECT title_words FROM tasks",
        "DELETE FROM tasks",
        "SELECT name FROM lists",
        "SELECT position FROM lists",
        "DELETE FROM lists",
        "UPDATE lists SET deleted_at = NULL",
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


# --- lists and trees ---

DEEP = 5  # levels
TREES = 4
OWNER = "user-1"

A_LIST = """
INSERT INTO lists (user_id, name, version, deleted_at, updated_at)
VALUES ($1, 'Secret', 1, $2::timestamptz, $2) RETURNING id
"""
A_TASK = """
INSERT INTO tasks (user_id, title, labels, version, list_id, parent_id, deleted_at, updated_at)
VALUES ($1, 'Secret', '{Secret}', 1, $2, $3, $4::timestamptz, coalesce($4, now())) RETURNING id
"""
A_CHANGE = """
INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
SELECT $1, 1 + max(seq), now(), 'user', $1, gen_random_uuid(), $2, $3, 'create', '{"title": [null, "Secret"]}'
FROM (SELECT seq FROM changes WHERE user_id = $1 UNION ALL SELECT 0) AS earlier
"""
AN_ANSWER = """
INSERT INTO idempotency_keys (user_id, key, at, fingerprint, status, headers, body, entity_id)
VALUES ($1, $2::bigint::text, now(), '', 201, '{}', '{"data": "Secret"}', $2)
"""


class Forest:
    """What somebody has in the trash; all of it says `Secret`, in the log and in kept answers, too."""

    def __init__(self, url: str) -> None:
        self.url = url
        emptied(url)
        sql(url, "INSERT INTO change_counters VALUES ($1, 1000, now())", OWNER)

    def list(self, days: float) -> int:
        return self._noted("list", sql(self.url, A_LIST, OWNER, ago(days)))

    def task(self, list_id: int | None, parent_id: int | None, days: float | None) -> int:
        at = None if days is None else ago(days)
        return self._noted("task", sql(self.url, A_TASK, OWNER, list_id, parent_id, at))

    def tree(self, list_id: int | None, days: float) -> builtins.list[int]:
        ids: builtins.list[int] = []
        for _ in range(DEEP):
            ids.append(self.task(list_id, ids[-1] if ids else None, days))
        return ids

    def rows(self) -> builtins.list[str]:
        return [
            row[0]
            for table in ("tasks", "lists")
            for row in sql(self.url, f"SELECT t::text FROM {table} AS t ORDER BY id")
        ]

    def purged(self) -> builtins.list[int]:
        """In the order in which they went."""
        log = sql(self.url, "SELECT entity_id FROM changes WHERE op = 'purge' ORDER BY seq")
        return [row["entity_id"] for row in log]

    def says_secret(self) -> bool:
        return any(
            "Secret" in row[0]
            for table in migrate.ISOLATED
            for row in sql(self.url, f"SELECT t::text FROM {table} AS t")
        )

    def _noted(self, entity: str, made: Any) -> int:
        id: int = made[0]["id"]
        sql(self.url, A_CHANGE, OWNER, entity, id)
        sql(self.url, AN_ANSWER, OWNER, id)
        return id


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


@pytest.mark.parametrize("batch", [1, 3, 500])
def test_lists_and_trees_go_from_the_leaves_up_and_no_text_is_left(
    batch: int, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "TRASH_BATCH", batch)
    forest = Forest(url)
    lists = [forest.list(days) for days in (40, 50)]
    trees = [forest.tree(lists[n % 2], days=40 + n) for n in range(TREES)]
    assert forest.says_secret()
    assert remove_expired(url) == TREES * DEEP + len(lists)
    gone = {id: place for place, id in enumerate(forest.purged())}
    for tree in trees:
        assert [gone[id] for id in tree] == sorted((gone[id] for id in tree), reverse=True)
    assert max(gone[id] for tree in trees for id in tree) < min(gone[id] for id in lists)
    assert (forest.rows(), forest.says_secret()) == ([], False)
    assert remove_expired(url) == 0


def test_what_has_not_expired_is_left_as_it_is_and_what_it_refers_to_waits(url: str) -> None:
    forest = Forest(url)
    home = forest.list(days=40)
    parent = forest.task(home, None, days=40)
    younger = forest.task(home, parent, days=10)  # deleted, and restored, and deleted again
    gone = forest.task(home, younger, days=40)
    young_list = forest.list(days=10)
    gone_too = forest.task(young_list, None, days=40)
    before = forest.rows()
    assert remove_expired(url) == 2
    assert set(forest.purged()) == {gone, gone_too}
    left = forest.rows()
    assert set(left) < set(before)  # each byte for byte: the others were not told to let go
    assert len(left) == 4

    expired = "UPDATE {} SET deleted_at = deleted_at - interval '30 days', updated_at = updated_at - interval '30 days'"
    for table in ("tasks", "lists"):
        sql(url, expired.format(table))
    assert remove_expired(url) == 4
    assert forest.purged()[2:] == [younger, parent, home, young_list]
    assert (forest.rows(), forest.says_secret()) == ([], False)


def test_what_something_living_refers_to_is_not_taken_from_it(url: str) -> None:
    """An older server leaves living tasks below one that it deletes. They keep it until they are
    moved."""
    forest = Forest(url)
    parent = forest.task(None, None, days=40)
    forest.task(None, parent, days=None)
    before = forest.rows()
    assert (remove_expired(url), forest.rows()) == (0, before)
    sql(url, "UPDATE tasks SET parent_id = NULL")
    assert remove_expired(url) == 1


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
