"""From every past version of the schema to this one, with what was in it; and the servers of the last release go on."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import changes
import storage
import tasks
import trash
import undo
from database import OwnerDatabase
from entities import TASK
from postgres import dsn, embedded, migrate
from postgres.pool import Pool
from tests.conftest import sql
from tests.test_database import catalogue, own_database

PAST = migrate.versions()[:-1]
RELEASES = Path(__file__).parent / "releases"
LAST_RELEASE = "0004"
OWNER = "versions_owner"  # owns the tables, and FORCE binds it
WRITES = 60
WRITERS = 3

# --- what was in it ---

TASKS_ALONE = """
INSERT INTO tasks (user_id, title, description, completed, created_at, updated_at)
SELECT 'user-' || n % 3, 'Task ' || n, CASE WHEN n % 2 = 0 THEN 'More' END, n % 4 = 0,
       '2026-01-01'::timestamptz + n * interval '1 day', '2026-02-01'::timestamptz + n * interval '1 second'
FROM generate_series(1, 21) AS n
"""
TASKS_AND_LOG = """
INSERT INTO tasks (user_id, title, description, completed, completed_at, version, created_at, updated_at)
SELECT 'user-' || n % 3, 'Task ' || n, CASE WHEN n % 2 = 0 THEN 'More' END, n % 4 = 0,
       CASE WHEN n % 4 = 0 THEN '2026-01-01'::timestamptz + n * interval '1 day' END, (n + 2) / 3,
       '2026-01-01'::timestamptz + n * interval '1 day', '2026-01-01'::timestamptz + n * interval '1 day'
FROM generate_series(1, 21) AS n;
INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
SELECT user_id, version, created_at, 'user', user_id, gen_random_uuid(), 'task', id, 'create',
       jsonb_build_object('title', jsonb_build_array(NULL, title)) FROM tasks;
INSERT INTO change_counters (user_id, seq, at)
SELECT user_id, max(version), max(updated_at) FROM tasks GROUP BY user_id;
"""
ANSWERS = """
INSERT INTO idempotency_keys (user_id, key, at, fingerprint, status, headers, body)
SELECT user_id, 'one-' || id, now(), '', 201, '{}', json_build_object('data', json_build_object('id', id))
FROM tasks;
INSERT INTO idempotency_keys (user_id, key, at, fingerprint, status, headers, body)
SELECT user_id, 'all', now(), '', 200, '{}', json_build_object('data', json_agg(json_build_object('entity_id', id)))
FROM tasks GROUP BY user_id;
INSERT INTO idempotency_keys (user_id, key, at, fingerprint, status, headers, body)
SELECT user_id, 'none', now(), '', 200, '{}', '{"data": null}' FROM tasks GROUP BY user_id;
"""
IN_TRASH = """
UPDATE tasks SET deleted_at = updated_at WHERE version = 2;
UPDATE idempotency_keys SET entity_id = (body #>> '{data,id}')::bigint WHERE key LIKE 'one-%';
UPDATE idempotency_keys SET entity_id = 0 WHERE key = 'none';
"""
FILLED = {
    "0001": TASKS_ALONE,
    "0002": TASKS_AND_LOG + ANSWERS,
    "0003": TASKS_AND_LOG + ANSWERS + IN_TRASH,
    "0004": TASKS_AND_LOG + ANSWERS + IN_TRASH,
}
USERS = ("user-0", "user-1", "user-2")


def made_by(version: str) -> str:
    """The SQL that makes the schema of that version. Of the last release it is what that release ran."""
    return released() if version == LAST_RELEASE else migrate.script(None, version)


def released() -> str:
    return (RELEASES / f"{LAST_RELEASE}.sql").read_text()


@pytest.fixture(scope="module")
def owner(cluster: embedded.Server) -> Iterator[str]:
    for role in (migrate.ROLE, migrate.RETENTION_ROLE):
        sql(
            cluster.url,
            f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN; EXCEPTION WHEN duplicate_object THEN END $$",
        )
    sql(cluster.url, f"CREATE ROLE {OWNER} LOGIN IN ROLE {migrate.ROLE}, {migrate.RETENTION_ROLE}")
    yield OWNER
    sql(cluster.url, f"DROP ROLE {OWNER}")


def as_owner(url: str) -> str:
    return re.sub(r"//postgres\b", f"//{OWNER}", url, count=1)


async def run_script(url: str, script: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(script)
    await connection.close()


def filled(url: str, version: str) -> None:
    """A database of that version, made by a login that is no superuser, as the servers of then left it."""
    sql(url, f"GRANT ALL ON SCHEMA public TO {OWNER}")
    asyncio.run(run_script(as_owner(url), made_by(version)))
    asyncio.run(run_script(url, FILLED[version]))


def upgrade(url: str) -> None:
    asyncio.run(migrate.upgrade(dsn.parse(as_owner(url))))


KEYS = {"tasks": "id", "changes": "seq", "change_counters": "user_id", "idempotency_keys": "key"}


def rows(url: str, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in sql(url, f"SELECT * FROM {table} ORDER BY user_id, {KEYS[table]}")]


def without_gaps(url: str, user: str) -> bool:
    logged = [
        row["seq"]
        for row in sql(url, "SELECT seq FROM changes WHERE user_id = $1 ORDER BY seq", user)
    ]
    [[last]] = sql(url, "SELECT seq FROM change_counters WHERE user_id = $1", user)
    return logged == list(range(1, last + 1))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Pool]:
    pool = Pool(dsn.parse(as_owner(url)), migrate.ROLE)
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture(scope="module", params=PAST)
def upgraded(request: pytest.FixtureRequest, cluster: embedded.Server, owner: str) -> Iterator[Any]:
    """Where it is, what its version was, and the rows of then."""
    version = request.param
    with own_database(cluster, f"version_{version}") as url:
        filled(url, version)
        before = {table: rows(url, table) for table in KEYS if version > "0001" or table == "tasks"}
        upgrade(url)
        yield url, version, before


@pytest.fixture(scope="module")
def fresh(cluster: embedded.Server, owner: str) -> Iterator[str]:
    with own_database(cluster, "version_fresh") as url:
        sql(url, f"GRANT ALL ON SCHEMA public TO {OWNER}")
        upgrade(url)
        yield url


def test_every_past_version_is_tried() -> None:
    assert set(FILLED) == set(PAST)


def test_it_is_then_as_if_it_had_been_made_today(upgraded: Any, fresh: str) -> None:
    url, version, _ = upgraded
    found, wanted = catalogue(url), catalogue(fresh)
    if version == LAST_RELEASE:
        assert found["functions"] > wanted["functions"]  # those of the last release stay
        found["functions"] = wanted["functions"]
    assert found == wanted
    schema = asyncio.run(migrate.inspect(dsn.parse(as_owner(url))))
    assert (schema.version, schema.role, schema.row_security_proven) == (
        migrate.HEAD,
        migrate.ROLE,
        True,
    )
    assert schema.is_complete


def test_no_row_is_lost_or_another(upgraded: Any) -> None:
    url, version, before = upgraded
    for table, old in before.items():
        now = rows(url, table)
        assert [{name: row[name] for name in old[0]} for row in now] == old, (table, version)
    assert len(before["tasks"]) == 21
    for user in USERS:
        assert without_gaps(url, user)


def test_and_everything_can_be_done_with_it(upgraded: Any) -> None:
    """As the role that the requests have. The ids and the numbers go on where they were."""
    url, _, before = upgraded
    user = "user-1"
    own = [
        task for task in before["tasks"] if task["user_id"] == user and not task.get("deleted_at")
    ]
    newest = max(task["id"] for task in before["tasks"])

    async def work() -> None:
        async with opened(url) as pool:
            db = OwnerDatabase(pool, user)
            last = (await changes.latest(db)).number
            made, _ = await tasks.create(db, {"title": "New"})
            assert (made["version"], made["id"]) == (last + 1, newest + 1)
            assert (await tasks.complete(db, own[0]["id"]))["version"] == last + 2
            assert (await tasks.update(db, own[0]["id"], {"title": "Other"}))["version"] == last + 3
            [back] = await undo.change(db, last + 3)
            assert back["fields"]["title"] == ["Other", own[0]["title"]]
            await tasks.delete(db, own[0]["id"])
            [task] = (await trash.list_latest_first(db, 1)).tasks
            assert task["id"] == own[0]["id"]
            for change in await changes.since(db, 0, 500):
                assert await changes.grouped(db, UUID(change["group"])) == [change]

    asyncio.run(work())
    assert without_gaps(url, user)


def test_answers_that_were_kept_then_are_forgotten_with_what_they_show(upgraded: Any) -> None:
    url, version, before = upgraded
    user = "user-2"
    gone, *others = [
        task["id"]
        for task in before["tasks"]
        if task["user_id"] == user and not task.get("deleted_at")
    ]

    async def purge() -> None:
        async with opened(url) as pool:
            db = OwnerDatabase(pool, user)
            await tasks.delete(db, gone)
            await trash.purge(db, gone)

    asyncio.run(purge())
    empty = "SELECT key FROM idempotency_keys WHERE user_id = $1 AND body IS NULL ORDER BY key"
    assert [row["key"] for row in sql(url, empty, user)] == (
        ["all", f"one-{gone}"] if version > "0001" else []
    )
    assert sql(url, "SELECT FROM idempotency_keys WHERE user_id <> $1 AND body IS NULL", user) == []
    kept = "SELECT FROM idempotency_keys WHERE user_id = $1 AND key = ANY ($2) AND body IS NOT NULL"
    there = sql(url, kept, user, ["none", *(f"one-{id}" for id in others)])
    assert len(there) == (1 + len(others) if version > "0001" else 0)


# --- what is frozen ---


def test_the_migrations_of_the_last_release_still_make_its_tables(
    cluster: embedded.Server, owner: str
) -> None:
    """Whoever changes one of them changes databases that were made long ago, and not those."""
    with (
        own_database(cluster, "version_frozen") as theirs,
        own_database(cluster, "version_ours") as ours,
    ):
        for url, script in ((theirs, released()), (ours, migrate.script(None, LAST_RELEASE))):
            asyncio.run(run_script(url, script))
        found, wanted = catalogue(ours), catalogue(theirs)
        assert found.pop("functions") == set()
        assert wanted.pop("functions")
        assert found == wanted


def test_the_migrations_name_nothing_that_will_change() -> None:
    """Neither functions nor entities: a fresh database would else be made with today's, and older ones were not."""
    for path in (migrate.MIGRATIONS / "versions").glob("[0-9]*.py"):
        tree = ast.parse(path.read_text())
        named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        named |= {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        ours = {
            name
            for name in named
            if name and name.partition(".")[0] not in ("alembic", "sqlalchemy")
        }
        assert ours <= {"postgres.migrate", "migrations.isolation"}, path.name
    assert not re.search(r"CREATE (OR REPLACE )?FUNCTION", migrate.script(None))


# --- the servers of the last release go on ---

CALLS = {
    "create": "SELECT applied, id, version FROM create_task($1, 'user', $1, $2, NULL, NULL, $3, $4)",
    "update": "SELECT applied, id, version FROM update_task($1, 'user', $1, $2, $3, $4::bigint[], $5::jsonb, false)",
    "move": "SELECT applied, id, version FROM move_task($1, 'user', $1, $2, $3, NULL, $4)",
    "purge": "SELECT applied, id, version FROM purge_task($1, 'user', $1, $2, $3, NULL, 'infinity')",
    "undo": "SELECT outcome, conflicts, seq FROM undo_changes($1, 'user', $1, $2, NULL, $3, $4)",
    "find": "SELECT body FROM find_answer($1, $2, 1)",
    "keep": "SELECT FROM keep_answer($1, $2, '', 200::smallint, '{}'::json, $3::json)",
}


class LastRelease:
    """A session of one of its servers, at work for one user. The calls are those that it prepared."""

    def __init__(self, session: asyncpg.Connection, user: str) -> None:
        self.session = session
        self.user = user

    async def call(self, name: str, *values: Any) -> list[Any]:
        rows: list[Any] = await self.session.fetch(CALLS[name], self.user, *values)
        return rows

    async def create(self, title: str, description: str | None = None) -> Any:
        [made] = await self.call("create", uuid4(), title, description)
        return made

    async def update(
        self, id: int, fields: dict[str, Any] | None, group: UUID | None = None
    ) -> Any:
        """Without fields it is toggled."""
        [changed] = await self.call(
            "update", group or uuid4(), id, None, None if fields is None else json.dumps(fields)
        )
        return changed

    async def move(self, id: int, to_trash: bool) -> list[Any]:
        return await self.call("move", uuid4(), id, to_trash)

    async def undo(self, seq: int | None, group: UUID | None = None) -> list[Any]:
        return await self.call("undo", uuid4(), seq, group)


@asynccontextmanager
async def last_release(url: str, user: str) -> AsyncIterator[LastRelease]:
    session = await asyncpg.connect(as_owner(url), server_settings={"role": migrate.ROLE})
    try:
        yield LastRelease(session, user)
    finally:
        await session.close()


@pytest.fixture
def last(cluster: embedded.Server, owner: str) -> Iterator[str]:
    """A database that the last release has made."""
    with own_database(cluster, f"last_{uuid4().hex}") as url:
        sql(url, f"GRANT ALL ON SCHEMA public TO {OWNER}")
        asyncio.run(run_script(as_owner(url), released()))
        yield url


async def all_that_it_does(server: LastRelease, last: int) -> int:
    """Every write of the last release. The number of the last change; `last` was that of the one before."""
    made = await server.create("Buy milk", "Two litres")
    assert (made["applied"], made["version"]) == (True, last + 1)
    assert (await server.update(made["id"], {"title": "Buy oat milk", "description": None}))[
        "version"
    ] == last + 2
    assert (await server.update(made["id"], None))["version"] == last + 3
    assert [row["outcome"] for row in await server.undo(last + 2)] == ["done", None]
    assert [row["version"] for row in await server.move(made["id"], True)] == [last + 5]
    assert [row["version"] for row in await server.move(made["id"], False)] == [last + 6]
    assert [row["version"] for row in await server.move(made["id"], True)] == [last + 7]
    assert [row["applied"] for row in await server.call("purge", uuid4(), made["id"])] == [True]
    await server.call("keep", "key", '{"data": null}')
    assert [row["body"] for row in await server.call("find", "key")] == ['{"data": null}']
    return last + 8


def test_its_functions_go_on_as_before(last: str) -> None:
    """Also in a session that prepared them before the upgrade."""

    async def run() -> None:
        async with last_release(last, "ada") as server:
            number = await all_that_it_does(server, 0)
            await migrate.upgrade(dsn.parse(as_owner(last)))
            number = await all_that_it_does(server, number)
        async with last_release(last, "ada") as server:
            await all_that_it_does(server, number)

    asyncio.run(run())
    assert without_gaps(last, "ada")


def test_each_undoes_what_the_other_did(last: str) -> None:
    async def run() -> None:
        async with last_release(last, "ada") as server, opened(last) as pool:
            db, group = OwnerDatabase(pool, "ada"), uuid4()
            made = await server.create("Before")
            for title in ("One", "Two"):
                await server.update(made["id"], {"title": title}, group)
            await migrate.upgrade(dsn.parse(as_owner(last)))

            [back] = await undo.group(db, group)  # of the last release, from before
            assert back["fields"] == {"title": ["Two", "Before"]}
            await server.update(made["id"], {"title": "Three"})
            [back] = await undo.change(db, 5)  # and from after
            assert back["fields"] == {"title": ["Three", "Before"]}

            edits = [
                storage.update(TASK, made["id"], {"title": "Four"}),
                storage.toggle(TASK, made["id"]),
            ]
            await db.store(*edits)
            [new] = {change["group"] for change in await changes.since(db, 6, 9)}
            done = await server.undo(None, UUID(new))  # of this release
            assert [row["outcome"] for row in done] == ["done", None]
            task = await tasks.get(db, made["id"])
            assert (task["title"], task["completed"], task["version"]) == ("Before", False, 9)

    asyncio.run(run())
    assert without_gaps(last, "ada")


@pytest.mark.parametrize("purged_by", ["this release", "the last release"])
@pytest.mark.parametrize("kept_by", ["this release", "the last release"])
def test_no_answer_outlives_what_it_shows_whoever_kept_it(
    kept_by: str, purged_by: str, last: str
) -> None:
    upgrade(last)

    async def run() -> None:
        async with last_release(last, "ada") as server, opened(last) as pool:
            db = OwnerDatabase(pool, "ada")
            gone, stays = [(await server.create(title))["id"] for title in ("Gone", "Stays")]
            shown = {"one": [gone], "both": [gone, stays], "another": [stays], "none": []}
            for key, ids in shown.items():
                listed = [{"entity_id": id} for id in ids]
                body = json.dumps({"data": {"id": gone} if key == "one" else listed})
                if kept_by == "this release":
                    array = f"{{{','.join(map(str, ids))}}}"
                    await pool.write(storage.KEEP_CALL, "ada", key, b"", 200, "{}", body, array)
                else:
                    await server.call("keep", key, body)
            await server.move(gone, True)
            if purged_by == "this release":
                await trash.purge(db, gone)
            else:
                await server.call("purge", uuid4(), gone)

    asyncio.run(run())
    assert [
        row["key"]
        for row in sql(last, "SELECT key FROM idempotency_keys WHERE body IS NULL ORDER BY key")
    ] == [*("both", "one")]


def test_both_write_at_once_while_the_newer_one_migrates(last: str) -> None:
    """Nothing fails, nothing is lost, nothing is there twice."""
    said: list[tuple[int, int]] = []  # the number of a change, and the task
    moved = asyncio.Event()

    async def older(ids: list[int], number: int) -> None:
        async with last_release(last, "ada") as server:
            while len(said) < WRITES or not moved.is_set():
                row = await server.update(
                    ids[len(said) % 2], None if number else {"title": f"Older {number}"}
                )
                said.append((row["version"], row["id"]))
                await asyncio.sleep(0.002)

    async def newer(ids: list[int]) -> None:
        async with opened(last) as pool:
            db = OwnerDatabase(pool, "ada")
            for number in range(WRITES):
                edits = (
                    [storage.toggle(TASK, id) for id in ids]
                    if number % 2
                    else [storage.toggle(TASK, ids[0])]
                )
                for outcome in await db.store(*edits):
                    assert outcome.object
                    said.append((outcome.object["version"], outcome.object["id"]))

    async def run() -> list[int]:
        async with last_release(last, "ada") as server:
            ids = [(await server.create(title))["id"] for title in ("One", "Other")]
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(older(ids, number))
            await asyncio.sleep(0.1)
            await migrate.upgrade(dsn.parse(as_owner(last)))
            writers = [group.create_task(newer(ids)) for _ in range(WRITERS)]
            await asyncio.gather(*writers)
            moved.set()
        return ids

    ids = asyncio.run(run())
    logged = sql(last, "SELECT seq, entity_id FROM changes WHERE user_id = 'ada' ORDER BY seq")
    assert [tuple(row) for row in logged][len(ids) :] == sorted(said)
    assert without_gaps(last, "ada")
