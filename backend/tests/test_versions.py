"""From every past version of the schema to this one, with what was in it; and the servers of the
last release go on."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest

import changes
import lists
import positions
import selection
import storage
import tasks
import trash
import trees
import undo
from database import OwnerDatabase
from entities import TASK
from postgres import dsn, embedded, migrate
from postgres.pool import Pool
from query import sorting
from query.parser import parse
from rules import Place
from selection import Wanted
from tests.conftest import sql
from tests.test_database import catalogue, own_database

PAST = migrate.versions()[:-1]
RELEASES = Path(__file__).parent / "releases"
LAST_RELEASES = tuple(sorted(path.stem for path in RELEASES.glob("*.sql")))  # oldest first
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
SHOWN = """
UPDATE idempotency_keys AS k SET shows = ARRAY(SELECT id FROM tasks WHERE user_id = k.user_id) WHERE key = 'all'
"""
FILLED = {
    "0001": TASKS_ALONE,
    "0002": TASKS_AND_LOG + ANSWERS,
    "0003": TASKS_AND_LOG + ANSWERS + IN_TRASH,
    "0004": TASKS_AND_LOG + ANSWERS + IN_TRASH,
    "0005": TASKS_AND_LOG + ANSWERS + IN_TRASH + SHOWN,
}
USERS = ("user-0", "user-1", "user-2")


def made_by(version: str) -> str:
    """The SQL that makes the schema of that version. Of a release it is what that release ran."""
    return released(version) if version in LAST_RELEASES else migrate.script(None, version)


def released(version: str) -> str:
    return (RELEASES / f"{version}.sql").read_text()


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
    """A database of that version, made by a login that is no superuser, as the servers of then left
    it."""
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
    if version in LAST_RELEASES:
        assert found["functions"] > wanted["functions"]  # those of that release stay
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
            _, [task] = await trash.list_latest_first(db, 1)
            assert task["id"] == own[0]["id"]
            for change in await changes.since(db, 0, 500):
                assert await changes.grouped(db, UUID(change["group"])) == [change]

    asyncio.run(work())
    assert without_gaps(url, user)


def test_tasks_stand_in_the_order_in_which_they_were_made(upgraded: Any) -> None:
    """Those in the trash too; and every key has room beside it."""
    url, _, before = upgraded
    user = "user-0"
    own = [task for task in before["tasks"] if task["user_id"] == user]
    by_age = [task["id"] for task in sorted(own, key=lambda task: (task["created_at"], task["id"]))]
    stored = sql(
        url, "SELECT id, position FROM tasks WHERE user_id = $1 ORDER BY position, id", user
    )
    assert [row["id"] for row in stored] == by_age
    keys = [positions.check(row["position"]) for row in stored]
    assert len(set(keys)) == len(by_age) > 1

    async def work() -> None:
        async with opened(url) as pool:
            db = OwnerDatabase(pool, user)
            trashed = {task["id"] for task in own if task.get("deleted_at")}
            living = [id for id in by_age if id not in trashed]
            assert await in_order(db) == living
            new = (await tasks.create(db, {"title": "New"}))[0]["id"]
            assert await in_order(db) == [*living, new]
            await tasks.update(db, new, {"position": Place("after", living[0])})
            assert await in_order(db) == [living[0], new, *living[1:]]
            [back] = await undo.change(db, (await changes.latest(db)).number)
            assert list(back["fields"]) == ["position"]
            assert await in_order(db) == [*living, new]
            for id in trashed:
                await tasks.restore(db, id)
            assert await in_order(db) == [*by_age, new]

    asyncio.run(work())


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
            await trash.purge(db, TASK, gone)

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


@pytest.mark.parametrize("version", LAST_RELEASES)
def test_the_migrations_of_a_release_still_make_its_tables(
    version: str, cluster: embedded.Server, owner: str
) -> None:
    """Whoever changes one of them changes databases that were made long ago, and not those."""
    with (
        own_database(cluster, "version_frozen") as theirs,
        own_database(cluster, "version_ours") as ours,
    ):
        for url, script in ((theirs, released(version)), (ours, migrate.script(None, version))):
            asyncio.run(run_script(url, script))
        found, wanted = catalogue(ours), catalogue(theirs)
        assert found.pop("functions") == set()
        assert wanted.pop("functions")
        assert found == wanted


def test_the_migrations_name_nothing_that_will_change() -> None:
    """Neither functions nor entities: a fresh database would else be made with today's, and older
    ones were not."""
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


# --- the servers of the last releases go on ---


class Last(NamedTuple):
    """A database, and the version of the release that made it."""

    url: str
    version: str


class Server(Protocol):
    """A session of a server of a past release, at work for one user. The calls are those that it
    prepared."""

    async def create(self, title: str, description: str | None = None) -> Any: ...

    async def update(self, id: int, fields: dict[str, Any] | None) -> Any:
        """Without fields it is toggled."""

    async def update_twice(self, id: int, *fields: dict[str, Any]) -> UUID:
        """The group that these are."""

    async def move(self, id: int, to_trash: bool) -> Any: ...

    async def purge(self, id: int) -> bool: ...

    async def undo(self, seq: int | None, group: UUID | None = None) -> bool: ...

    async def keep(self, key: str, body: str, shown: list[int]) -> None: ...

    async def find(self, key: str) -> str: ...


CALLS_OF_0004 = {
    "create": "SELECT applied, id, version FROM create_task($1, 'user', $1, $2, NULL, NULL, $3, $4)",
    "update": "SELECT applied, id, version FROM update_task($1, 'user', $1, $2, $3, $4::bigint[], $5::jsonb, false)",
    "move": "SELECT applied, id, version FROM move_task($1, 'user', $1, $2, $3, NULL, $4)",
    "purge": "SELECT applied, id, version FROM purge_task($1, 'user', $1, $2, $3, NULL, 'infinity')",
    "undo": "SELECT outcome, conflicts, seq FROM undo_changes($1, 'user', $1, $2, NULL, $3, $4)",
    "find": "SELECT body FROM find_answer($1, $2, 1)",
    "keep": "SELECT FROM keep_answer($1, $2, '', 200::smallint, '{}'::json, $3::json)",
}


class ServerOf0004:
    def __init__(self, session: asyncpg.Connection, user: str) -> None:
        self.session = session
        self.user = user

    async def call(self, name: str, *values: Any) -> list[Any]:
        rows: list[Any] = await self.session.fetch(CALLS_OF_0004[name], self.user, *values)
        return rows

    async def create(self, title: str, description: str | None = None) -> Any:
        [made] = await self.call("create", uuid4(), title, description)
        return made

    async def update(
        self, id: int, fields: dict[str, Any] | None, group: UUID | None = None
    ) -> Any:
        values = None if fields is None else json.dumps(fields)
        [changed] = await self.call("update", group or uuid4(), id, None, values)
        return changed

    async def update_twice(self, id: int, *fields: dict[str, Any]) -> UUID:
        group = uuid4()
        for each in fields:
            await self.update(id, each, group)
        return group

    async def move(self, id: int, to_trash: bool) -> Any:
        [moved] = await self.call("move", uuid4(), id, to_trash)
        return moved

    async def purge(self, id: int) -> bool:
        [purged] = await self.call("purge", uuid4(), id)
        return bool(purged["applied"])

    async def undo(self, seq: int | None, group: UUID | None = None) -> bool:
        done = await self.call("undo", uuid4(), seq, group)
        return [row["outcome"] for row in done] == ["done", None]

    async def keep(self, key: str, body: str, shown: list[int]) -> None:
        await self.call("keep", key, body)

    async def find(self, key: str) -> str:
        [found] = await self.call("find", key)
        return str(found["body"])


NAMES_OF_0005 = {
    name.rpartition("_")[0]: name
    for name in re.findall(r"CREATE FUNCTION (\w+)\(", released("0005"))
}
CALLS_OF_0005 = {
    "store": f"SELECT outcome, item FROM {NAMES_OF_0005['store']}($1, 'user', $1, $2, $3, false, true)",
    "find": f"SELECT body FROM {NAMES_OF_0005['find_answer']}($1, $2, 1)",
    "keep": f"SELECT FROM {NAMES_OF_0005['keep_answer']}($1, $2, '', 200::smallint, '{{}}', $3, $4)",
    "log": "SELECT seq, group_id, entity_id, op, fields FROM changes WHERE user_id = $1 ORDER BY seq DESC",
}


class ServerOf0005:
    def __init__(self, session: asyncpg.Connection, user: str) -> None:
        self.session = session
        self.user = user

    async def call(self, name: str, *values: Any) -> list[Any]:
        await self.session.execute("SELECT set_config('app.user_id', $1, false)", self.user)
        rows: list[Any] = await self.session.fetch(CALLS_OF_0005[name], self.user, *values)
        return rows

    async def store(self, *edits: dict[str, Any]) -> Any:
        """What became of the last one."""
        each = {"entity": "task", "in_trash": False, "skips_same": False}
        said = json.dumps([{**each, **edit} for edit in edits])
        *_, stored = await self.call("store", "00000000-0000-8000-8000-", said)
        return {**json.loads(stored["item"] or "{}"), "applied": stored["outcome"] == "done"}

    async def create(self, title: str, description: str | None = None) -> Any:
        fields = {"title": title, "description": description}
        return await self.store({"op": "create", "set": fields})

    async def update(self, id: int, fields: dict[str, Any] | None) -> Any:
        op = "toggle" if fields is None else "update"
        return await self.store({"op": op, "id": id, "set": fields})

    async def update_twice(self, id: int, *fields: dict[str, Any]) -> UUID:
        await self.store(*({"op": "update", "id": id, "set": each} for each in fields))
        [last, *_] = await self.call("log")
        return UUID(str(last["group_id"]))

    async def move(self, id: int, to_trash: bool) -> Any:
        op = "delete" if to_trash else "restore"
        return await self.store({"op": op, "id": id, "in_trash": not to_trash})

    async def purge(self, id: int) -> bool:
        return bool((await self.store({"op": "purge", "id": id, "in_trash": True}))["applied"])

    async def undo(self, seq: int | None, group: UUID | None = None) -> bool:
        """Of edits of one task. The fields that it does not know it leaves alone."""
        before: dict[str, Any] = {}
        for change in await self.call("log"):
            if change["seq"] == seq or change["group_id"] == group:
                id, fields = change["entity_id"], json.loads(change["fields"])
                before |= {name: old for name, (old, _) in fields.items()}
        undone = {"op": "update", "id": id, "set": before, "in_trash": None, "skips_same": True}
        return bool((await self.store(undone))["applied"])

    async def keep(self, key: str, body: str, shown: list[int]) -> None:
        await self.call("keep", key, body, f"{{{','.join(map(str, shown))}}}")

    async def find(self, key: str) -> str:
        [found] = await self.call("find", key)
        return str(found["body"])


SERVERS: dict[str, Callable[[asyncpg.Connection, str], Server]] = {
    "0004": ServerOf0004,
    "0005": ServerOf0005,
}


@asynccontextmanager
async def last_release(last: Last, user: str) -> AsyncIterator[Server]:
    session = await asyncpg.connect(as_owner(last.url), server_settings={"role": migrate.ROLE})
    try:
        yield SERVERS[last.version](session, user)
    finally:
        await session.close()


@pytest.fixture(params=LAST_RELEASES)
def last(request: pytest.FixtureRequest, cluster: embedded.Server, owner: str) -> Iterator[Last]:
    """A database that a past release has made."""
    with own_database(cluster, f"last_{uuid4().hex}") as url:
        sql(url, f"GRANT ALL ON SCHEMA public TO {OWNER}")
        asyncio.run(run_script(as_owner(url), released(request.param)))
        yield Last(url, request.param)


async def all_that_it_does(server: Server, last: int) -> int:
    """Every write of that release. The number of the last change; `last` was that of the one
    before."""
    made = await server.create("Buy milk", "Two litres")
    assert (made["applied"], made["version"]) == (True, last + 1)
    edited = await server.update(made["id"], {"title": "Buy oat milk", "description": None})
    assert edited["version"] == last + 2
    assert (await server.update(made["id"], None))["version"] == last + 3
    assert await server.undo(last + 2)
    for number, to_trash in ((5, True), (6, False), (7, True)):
        assert (await server.move(made["id"], to_trash))["version"] == last + number
    assert await server.purge(made["id"])
    await server.keep("key", '{"data": null}', [])
    assert await server.find("key") == '{"data": null}'
    return last + 8


def test_its_functions_go_on_as_before(last: Last) -> None:
    """Also in a session that prepared them before the upgrade."""

    async def run() -> None:
        async with last_release(last, "ada") as server:
            number = await all_that_it_does(server, 0)
            await migrate.upgrade(dsn.parse(as_owner(last.url)))
            number = await all_that_it_does(server, number)
        async with last_release(last, "ada") as server:
            await all_that_it_does(server, number)

    asyncio.run(run())
    assert without_gaps(last.url, "ada")


def test_each_undoes_what_the_other_did(last: Last) -> None:
    async def run() -> None:
        async with last_release(last, "ada") as server, opened(last.url) as pool:
            db = OwnerDatabase(pool, "ada")
            made = await server.create("Before")
            group = await server.update_twice(made["id"], {"title": "One"}, {"title": "Two"})
            await migrate.upgrade(dsn.parse(as_owner(last.url)))

            [back] = await undo.group(db, group)  # of that release, from before
            assert back["fields"] == {"title": ["Two", "Before"]}
            await server.update(made["id"], {"title": "Three"})
            [back] = await undo.change(db, 5)  # and from after
            assert back["fields"] == {"title": ["Three", "Before"]}

            edits = [
                storage.update(TASK, made["id"], {"title": "Four", "labels": ["new"]}),
                storage.toggle(TASK, made["id"]),
            ]
            await db.store(*edits)
            [new] = {change["group"] for change in await changes.since(db, 6, 9)}
            assert await server.undo(None, UUID(new))  # of this release
            task = await tasks.get(db, made["id"])
            assert (task["title"], task["completed"], task["version"]) == ("Before", False, 9)

    asyncio.run(run())
    assert without_gaps(last.url, "ada")


def test_what_it_makes_beside_the_newer_one_is_a_task_like_others(last: Last) -> None:
    """It says nothing of lists and order, so it stands at the end; and an edit of its keeps what it
    does not know."""
    upgrade(last.url)

    async def run() -> None:
        async with last_release(last, "ada") as server, opened(last.url) as pool:
            db = OwnerDatabase(pool, "ada")
            ours, _ = await tasks.create(db, {"title": "Ours"})
            first, second = [(await server.create(title))["id"] for title in ("First", "Second")]
            assert await in_order(db) == [ours["id"], first, second]
            await tasks.update(db, first, {"position": Place("first")})
            await tasks.update(db, second, {"position": Place("before", ours["id"])})
            assert await in_order(db) == [first, second, ours["id"]]

            home, _ = await lists.create(db, {"name": "Home"})
            new = {"list_id": home["id"], "labels": ["new"], "due": "2026-12-01"}
            await tasks.update(db, first, new)
            await server.update(first, {"title": "Still first"})
            await server.update(first, None)
            task = await tasks.get(db, first)
            assert {name: task[name] for name in new} == new
            assert (task["title"], task["completed"]) == ("Still first", True)
            await lists.delete(db, home["id"])
            assert (await server.move(first, False))["applied"]  # it knows of no lists
            await tasks.update(db, first, {"list_id": None})
            assert (await tasks.get(db, first))["list_id"] is None

    asyncio.run(run())
    assert without_gaps(last.url, "ada")


async def in_order(db: OwnerDatabase) -> list[int]:
    wanted = Wanted(parse("all"), sorting.read("position"), ZoneInfo("UTC"), datetime.now(UTC))
    return [task["id"] for task in (await selection.page(db, wanted, 500)).tasks]


def test_a_tree_that_it_takes_apart_is_mended_here(last: Last) -> None:
    """It deletes a task and leaves what is below it, and cannot delete it for good while anything
    is below it."""
    upgrade(last.url)

    async def run() -> None:
        async with last_release(last, "ada") as server, opened(last.url) as pool:
            db = OwnerDatabase(pool, "ada")
            parent = (await tasks.create(db, {"title": "Above"}))[0]["id"]
            below = (await tasks.create(db, {"title": "Below", "parent_id": parent}))[0]["id"]
            assert (await server.move(parent, True))["applied"]
            assert (await tasks.get(db, below))["parent_id"] == parent
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                await server.purge(parent)
            await tasks.update(db, below, {"title": "Still there", "position": Place("first")})
            await tasks.restore(db, parent)
            assert await trees.are_sound(db, [parent, below])

            await server.move(parent, True)
            await trash.purge(db, TASK, parent)
            task = await tasks.get(db, below)
            assert (task["title"], task["parent_id"]) == ("Still there", None)

    asyncio.run(run())
    assert without_gaps(last.url, "ada")


@pytest.mark.parametrize("purged_by", ["this release", "the last release"])
@pytest.mark.parametrize("kept_by", ["this release", "the last release"])
def test_no_answer_outlives_what_it_shows_whoever_kept_it(
    kept_by: str, purged_by: str, last: Last
) -> None:
    upgrade(last.url)

    async def run() -> None:
        async with last_release(last, "ada") as server, opened(last.url) as pool:
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
                    await server.keep(key, body, ids)
            await server.move(gone, True)
            if purged_by == "this release":
                await trash.purge(db, TASK, gone)
            else:
                assert await server.purge(gone)

    asyncio.run(run())
    assert [
        row["key"]
        for row in sql(last.url, "SELECT key FROM idempotency_keys WHERE body IS NULL ORDER BY key")
    ] == [*("both", "one")]


def test_both_write_at_once_while_the_newer_one_migrates(last: Last) -> None:
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
        async with opened(last.url) as pool:
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
            await migrate.upgrade(dsn.parse(as_owner(last.url)))
            writers = [group.create_task(newer(ids)) for _ in range(WRITERS)]
            await asyncio.gather(*writers)
            moved.set()
        return ids

    ids = asyncio.run(run())
    logged = sql(last.url, "SELECT seq, entity_id FROM changes WHERE user_id = 'ada' ORDER BY seq")
    assert [tuple(row) for row in logged][len(ids) :] == sorted(said)
    assert without_gaps(last.url, "ada")
