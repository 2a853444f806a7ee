"""One schema, said three times alike: by the models, by the migrations, by the database. And its
plans stay cheap."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Index, MetaData, Text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

import changes
import config
import database
import idempotency
import ids
import lists
import models
import order
import retention
import storage
import tasks
import trash
import trees
import undo
from postgres import dsn, embedded, functions, migrate
from postgres.embedded import binaries
from storage import Function
from tests import servers
from tests.conftest import sql

METADATA = SQLModel.metadata
TABLES = {
    model.__tablename__
    for model in (
        models.List,
        models.Task,
        models.Change,
        models.ChangeCounter,
        models.IdempotencyKey,
    )
}
OPERATIONS = (tasks, lists, trees, order, ids, trash, undo, changes, storage, idempotency)


def constants(value: Any) -> dict[str, str]:
    """The texts that a constant holds, each with what to add to the constant's name."""
    if isinstance(value, dict):
        return {
            f"[{getattr(key, '__name__', key)}]": text
            for key, text in value.items()
            if isinstance(text, str)
        }
    return {"": value} if isinstance(value, str) else {}


STATEMENTS = {
    f"{module.__name__}.{name}{key}": text
    for module in OPERATIONS
    for name, value in vars(module).items()
    for key, text in constants(value).items()
    if name.isupper() and re.match(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\b", text)
}
TASK = ["id", "user_id", "title", "description", "completed", "created_at", "updated_at"]
TASK += ["uid", "version", "completed_at", "list_id", "parent_id", "position", "priority"]
TASK += ["labels", "start", "due"]
LIST = ["id", "uid", "version", "name", "color", "position", "created_at", "updated_at"]
CHANGE = ["seq", "at", "actor_kind", "actor_id", "group_id", "entity", "entity_id", "op", "fields"]
COLUMNS = {
    "tasks.GET[int]": TASK,
    "tasks.GET[UUID]": TASK,
    "tasks.GET_TRASHED": [*TASK, "deleted_at"],
    "tasks.LIST[all]": TASK,
    "tasks.LIST[pending]": TASK,
    "tasks.LIST[completed]": TASK,
    "lists.ALL": LIST,
    "lists.GET[int]": LIST,
    "lists.GET[UUID]": LIST,
    "lists.GET_TRASHED": [*LIST, "deleted_at"],
    "lists.COUNT": ["count"],
    "lists.TASKS": ["id", "parent_id"],
    "trees.BELOW": ["id", "list_id", "level"],
    "trees.ABOVE": ["id", "list_id"],
    "trees.LIST_IS_THERE": LIST,
    "trees.THESE": ["id", "parent_id", "list_id", "is_there"],
    "trees.CHILDREN": ["id", "parent_id", "list_id", "is_there"],
    "order.AROUND[list]": ["own", "first", "last", "before", "after"],
    "order.AROUND[task]": ["own", "first", "last", "before", "after"],
    "ids.FIND[list]": ["id"],
    "ids.FIND[task]": ["id"],
    "trash.LIST[list]": [*LIST, "deleted_at"],
    "trash.LIST[task]": [*TASK, "deleted_at"],
    "undo.CURRENT[list]": [*LIST, "deleted_at"],
    "undo.CURRENT[task]": [*TASK, "deleted_at"],
    "changes.LATEST": ["seq", "at"],
    "changes.SINCE": CHANGE,
    "changes.NUMBERED": CHANGE,
    "changes.GROUPED": CHANGE,
    "storage.CALL": ["outcome", "item"],
    "storage.CALL_PART": ["outcome", "item"],
    "storage.FIND_CALL": ["fingerprint", "status", "headers", "body"],
    "storage.KEEP_CALL": [],
}

# All that a table is beside its columns' names and types, as PostgreSQL itself prints it.
CATALOGUE = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> $1
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype, condeferrable, condeferred, convalidated,
               pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> $1
    """,
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> $1
    """,
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger
        WHERE NOT tgisinternal AND tgrelid::regclass::text <> $1
    """,
    "functions": """
        SELECT proname, prosrc, prosecdef, pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proname <> $1
    """,
    "sequences": """
        SELECT sequencename, data_type::text, start_value, min_value, max_value, increment_by, cycle, cache_size
        FROM pg_sequences WHERE schemaname = 'public' AND sequencename <> $1
    """,
}


@pytest.fixture(scope="module")
def migrated(cluster: embedded.Server) -> Iterator[str]:
    """A database that the migrations have made."""
    with own_database(cluster, "schema_migrated") as url:
        asyncio.run(migrate.upgrade(dsn.parse(url)))
        yield url


@pytest.fixture(scope="module")
def modelled(cluster: embedded.Server) -> Iterator[str]:
    """A database that the models have made, with the functions of the operations."""
    with own_database(cluster, "schema_modelled") as url:
        asyncio.run(with_sqlalchemy(url, METADATA.create_all))
        asyncio.run(install_functions(url))
        yield url


async def install_functions(url: str) -> None:
    session = await asyncpg.connect(url)
    await functions.install(session, migrate.FUNCTIONS)
    await session.close()


@contextmanager
def own_database(cluster: embedded.Server, name: str) -> Iterator[str]:
    sql(cluster.url, f"CREATE DATABASE {name}")
    yield cluster.url.replace("/todo?", f"/{name}?")
    sql(cluster.url, f"DROP DATABASE {name} WITH (FORCE)")


async def with_sqlalchemy(url: str, work: Any) -> Any:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def catalogue(url: str) -> dict[str, set[tuple[Any, ...]]]:
    return {
        name: {tuple(row) for row in sql(url, query, migrate.VERSION_TABLE)}
        for name, query in CATALOGUE.items()
    }


def differences(url: str, metadata: MetaData) -> list[Any]:
    """What Alembic would write into a new migration."""

    def compare(connection: Connection) -> list[Any]:
        options = {
            "version_table": migrate.VERSION_TABLE,
            "compare_type": True,
            "compare_server_default": True,
        }
        return list(
            compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        )

    found: list[Any] = asyncio.run(with_sqlalchemy(url, compare))
    return found


def test_the_migrations_make_what_the_models_say(migrated: str) -> None:
    assert differences(migrated, METADATA) == []


def test_a_model_without_its_migration_would_be_seen(migrated: str) -> None:
    changed = MetaData()
    for table in METADATA.tables.values():
        table.to_metadata(changed)
    changed.tables["tasks"].append_column(Column("colour", Text))
    Index("tasks_colour", changed.tables["tasks"].c.user_id, changed.tables["tasks"].c.colour)
    assert {difference[0] for difference in differences(migrated, changed)} == {
        "add_column",
        "add_index",
    }


def test_every_table_is_a_model_that_the_tests_know() -> None:
    assert set(METADATA.tables) == TABLES


@pytest.mark.parametrize("part", CATALOGUE)
def test_migrations_and_models_agree_on_what_alembic_does_not_compare(
    part: str, migrated: str, modelled: str
) -> None:
    assert catalogue(migrated)[part] == catalogue(modelled)[part]
    assert catalogue(migrated)[part] or part == "triggers"


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("columns", "ALTER TABLE tasks ALTER COLUMN id DROP DEFAULT"),
        ("columns", "ALTER TABLE tasks ALTER COLUMN completed SET DEFAULT true"),
        ("constraints", "ALTER TABLE tasks DROP CONSTRAINT tasks_uid"),
        ("indexes", "DROP INDEX tasks_newest"),
        ("functions", f"ALTER FUNCTION {storage.STORE.name} SECURITY DEFINER"),
        ("sequences", "ALTER SEQUENCE entity_ids INCREMENT BY 2"),
    ],
)
def test_a_difference_would_be_seen(part: str, change: str, modelled: str) -> None:
    async def before_and_after() -> tuple[Any, Any]:
        connection = await asyncpg.connect(modelled)
        transaction = connection.transaction()
        await transaction.start()
        before = await connection.fetch(CATALOGUE[part], "")
        await connection.execute(change)
        after = await connection.fetch(CATALOGUE[part], "")
        await transaction.rollback()
        await connection.close()
        return set(before), set(after)

    before, after = asyncio.run(before_and_after())
    assert before != after


def test_head_is_alembics_own_and_there_is_one_line_of_migrations() -> None:
    alembic = Config()
    alembic.set_main_option("script_location", str(migrate.MIGRATIONS))
    scripts = ScriptDirectory.from_config(alembic)
    assert scripts.get_heads() == [migrate.HEAD]
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)  # `is_behind` compares them as text
    assert all(
        not migrate.is_behind(migrate.HEAD) and migrate.is_behind(old) for old in revisions[1:]
    )


def test_the_functions_in_the_database_are_those_of_the_operations(migrated: str) -> None:
    ours = {function.name: function.text.split("$$")[1] for function in migrate.FUNCTIONS}
    stored = sql(
        migrated, "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )
    assert {row["proname"]: row["prosrc"] for row in stored} == ours


def test_every_function_runs_as_its_caller_and_none_as_its_owner(migrated: str) -> None:
    rows = sql(
        migrated,
        "SELECT proname, prosecdef FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    )
    assert {row["prosecdef"] for row in rows} == {False}
    assert len(rows) == len(migrate.FUNCTIONS)


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_fits_the_schema_as_the_restricted_role(name: str, migrated: str) -> None:
    async def prepare() -> list[str]:
        async with restricted(migrated) as session:
            statement = await session.prepare(STATEMENTS[name])
            return [column.name for column in statement.get_attributes()]

    assert asyncio.run(prepare()) == COLUMNS[name]


def test_the_statements_are_all_found() -> None:
    assert set(STATEMENTS) == set(COLUMNS)
    functions_made = [
        value
        for module in OPERATIONS
        for value in vars(module).values()
        if isinstance(value, Function)
    ]
    assert set(functions_made) == set(migrate.FUNCTIONS)
    texts = [path.read_text() for path in Path(str(storage.__file__)).parent.glob("*.py")]
    assert sum(text.count("Function.of(") for text in texts) == len(migrate.FUNCTIONS)


@pytest.mark.parametrize(
    "statement",
    [retention.REMOVE_CHANGES, retention.REMOVE_ANSWERS, *retention.EXPIRED_TRASH.values()],
)
def test_what_has_expired_is_found_by_its_time(statement: str, migrated: str) -> None:
    """Whole tables of all users are not read for it."""

    async def plan() -> str:
        session = await asyncpg.connect(migrated, server_settings={"enable_seqscan": "off"})
        try:
            async with session.transaction():
                await session.execute(retention.BEGIN)
                await session.execute(
                    "SET LOCAL app.changes_kept_days = '90'; SET LOCAL app.trash_kept_days = '30'"
                )
                asked = statement.replace("$1", "10").replace("$2", "'2026-01-01'")
                asked = asked.replace("$3", "'2025-01-01'").replace("$4", "0")
                return "\n".join([row[0] for row in await session.fetch(f"EXPLAIN {asked}")])
        finally:
            await session.close()

    assert re.search(r"_expiry .*\n +Index Cond: \(.*at < '2026-01-01", asyncio.run(plan()))


def settings_for(url: str) -> config.Settings:
    variables: dict[str, Any] = {"_env_file": None, "NEON_DATABASE_URL": url}
    return config.Settings(**variables)


def test_bringing_the_schema_up_to_date_twice_changes_nothing(migrated: str) -> None:
    sql(migrated, "INSERT INTO tasks (user_id, title, version) VALUES ('ada', 'Still here', 1)")
    before = catalogue(migrated)
    database.create_tables(settings_for(migrated))
    database.create_tables(settings_for(migrated))
    assert catalogue(migrated) == before
    assert sql(migrated, "SELECT title FROM tasks WHERE user_id = 'ada'") == [("Still here",)]
    assert sql(migrated, f"SELECT version_num FROM {migrate.VERSION_TABLE}") == [(migrate.HEAD,)]


def test_the_printed_sql_makes_the_same_schema_in_psql(
    cluster: embedded.Server, migrated: str
) -> None:
    """For who may not let the server change tables: `todo migrate --sql | psql
    --single-transaction`."""
    psql = binaries.find(cluster.data_dir).folder / "psql"
    if not psql.exists():
        pytest.skip("this PostgreSQL comes without psql")
    with own_database(cluster, "schema_printed") as url:
        done = subprocess.run(
            [
                psql,
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                "--single-transaction",
                "--file=-",
                url,
            ],
            input=printed_sql(),
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert catalogue(url) == catalogue(migrated)
        schema = asyncio.run(migrate.inspect(dsn.parse(url)))
        assert schema == migrate.Schema(migrate.HEAD, migrate.ROLE, True)


def printed_sql(*version: str) -> str:
    """What an operator gets to run."""
    done = subprocess.run(
        [sys.executable, str(servers.BACKEND / "cli.py"), "migrate", "--sql", *version],
        env=servers.clean_environment(),
        text=True,
        capture_output=True,
        check=True,
    )
    return done.stdout


# --- from one version to the next ---

OLD_TASKS = """
INSERT INTO tasks (user_id, title, description, completed, created_at, updated_at)
SELECT 'user-' || n % 3, 'Task ' || n, CASE WHEN n % 2 = 0 THEN 'More' END, n % 4 = 0,
       '2026-01-01'::timestamptz + n % 5 * interval '1 day', '2026-02-01'::timestamptz + n * interval '1 second'
FROM generate_series(1, 20) AS n
"""


def test_tasks_from_before_the_log_become_its_beginning(cluster: embedded.Server) -> None:
    """Migrated by a login that owns the table and that FORCE therefore binds."""
    with own_database(cluster, "schema_from_1") as url:
        sql(url, "CREATE ROLE schema_owner LOGIN CREATEROLE")
        sql(url, "GRANT ALL ON SCHEMA public TO schema_owner")
        owners = url.replace("postgres@", "schema_owner@")
        asyncio.run(run_script(owners, migrate.script(None, "0001")))
        assert sql(url, f"SELECT version_num FROM {migrate.VERSION_TABLE}") == [("0001",)]
        sql(url, OLD_TASKS)
        asyncio.run(migrate.upgrade(dsn.parse(owners)))

        tasks_now = sql(url, "SELECT * FROM tasks ORDER BY user_id, created_at, id")
        logged = sql(url, "SELECT * FROM changes ORDER BY user_id, seq")
        assert len(tasks_now) == len(logged) == 20
        for task, change in zip(tasks_now, logged, strict=True):
            assert (change["user_id"], change["seq"]) == (task["user_id"], task["version"])
            assert (change["op"], change["entity_id"], change["at"]) == (
                "create",
                task["id"],
                task["created_at"],
            )
            assert change["actor_id"] == task["user_id"]
            assert json.loads(change["fields"]) == first_values(task)
            assert task["completed_at"] == (task["updated_at"] if task["completed"] else None)
        counters = sql(url, "SELECT user_id, seq, at FROM change_counters ORDER BY user_id")
        newest = "SELECT user_id, max(version), max(updated_at) FROM tasks GROUP BY user_id ORDER BY user_id"
        assert counters == sql(url, newest)
        assert asyncio.run(migrate.inspect(dsn.parse(owners))).row_security_proven
    sql(cluster.url, "DROP ROLE schema_owner")


async def run_script(url: str, script: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(script)
    await connection.close()


def first_values(task: Any) -> dict[str, list[Any]]:
    """What the creation of `task` as it is would have logged."""
    values = {
        "uid": str(task["uid"]),
        **{name: task[name] for name in ("title", "description", "completed")},
    }
    if task["completed"]:
        values["completed_at"] = task["completed_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {name: [None, value] for name, value in values.items() if value is not None}


# --- plans ---

BUSY = "ada"  # has 10,000 of 20,000 tasks; each of the 75 others has 133
PAGE = 20


@asynccontextmanager
async def restricted(url: str) -> AsyncIterator[Any]:
    """A session as the pool has it: the restricted role, plans made without looking at the
    arguments."""
    settings = {"role": migrate.ROLE, "jit": "off", "plan_cache_mode": "force_generic_plan"}
    session = await asyncpg.connect(url, server_settings=settings)
    try:
        yield session
    finally:
        await session.close()


@pytest.fixture(scope="module")
def crowded(cluster: embedded.Server) -> Iterator[str]:
    """20,000 tasks of 76 users, written in turns, a third of them completed; and 5,000 in the
    trash."""
    with own_database(cluster, "schema_crowded") as url:
        asyncio.run(migrate.upgrade(dsn.parse(url)))
        sql(
            url,
            f"""
            INSERT INTO tasks (user_id, title, version, completed, completed_at, created_at, deleted_at)
            SELECT CASE WHEN n % 2 = 0 THEN '{BUSY}' ELSE 'user-' || n % 150 END, 'Task ' || n, n, n % 3 = 0,
                   CASE WHEN n % 3 = 0 THEN now() END, '2026-01-01'::timestamptz + n * interval '1 minute',
                   CASE WHEN n > 20000 THEN '2026-02-01'::timestamptz + n * interval '1 minute' END
            FROM generate_series(1, 25000) AS n
            """,
        )
        sql(url, "ANALYZE tasks")
        yield url


def literals(*arguments: Any) -> str:
    return ", ".join("NULL" if value is None else f"'{value}'" for value in arguments)


def explain(url: str, statement: str, *arguments: Any, how: str = "FORMAT JSON") -> dict[str, Any]:
    """The generic plan of `statement`, as the server would run it."""

    async def run() -> str:
        async with restricted(url) as session:
            await session.execute(f"PREPARE asked AS {statement}")
            return str(
                await session.fetchval(f"EXPLAIN ({how}) EXECUTE asked({literals(*arguments)})")
            )

    plan: dict[str, Any] = json.loads(asyncio.run(run()))[0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def position(url: str, user: str, after: int) -> tuple[str, int]:
    """Where the page that begins after `after` tasks of `user` begins."""
    query = (
        "SELECT created_at::text, id FROM tasks WHERE user_id = $1 "
        "ORDER BY created_at DESC, id DESC OFFSET $2 LIMIT 1"
    )
    row = sql(url, query, user, after)[0]
    return row["created_at"], row["id"]


NEWEST = (tasks.NEWEST.created_at.isoformat(), tasks.NEWEST.id)


@pytest.mark.parametrize("user", [BUSY, "user-7"])
@pytest.mark.parametrize("limit", [PAGE + 1, tasks.BATCH])
@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (tasks.LIST["all"], "tasks_newest"),
        (tasks.LIST["pending"], "tasks_pending"),
        (tasks.LIST["completed"], "tasks_newest"),  # most of what there ever was
        (trash.LIST["task"], "tasks_trash"),
    ],
)
def test_a_list_reads_its_index_in_order(
    statement: str, index: str, limit: int, user: str, crowded: str
) -> None:
    plan = list(nodes(explain(crowded, statement, user, limit, *NEWEST)))
    scans = {node["Index Name"]: node for node in plan if "Index Name" in node}
    assert set(scans) == {index, "change_counters_pkey"}  # the second for the list's own version
    assert not {"Sort", "Incremental Sort", "Seq Scan"} & {node["Node Type"] for node in plan}
    condition = scans[index]["Index Cond"]
    assert "user_id" in condition
    assert "created_at" in condition or "deleted_at" in condition


def test_one_task_is_found_by_its_key(crowded: str) -> None:
    plan = list(nodes(explain(crowded, tasks.GET[int], BUSY, 1)))
    scans = [node for node in plan if "Index Name" in node]
    assert [node["Index Name"] for node in scans] == ["tasks_pkey"]
    assert "user_id" in scans[0]["Index Cond"]
    assert "(id = " in scans[0]["Index Cond"]


def buffers(plan: dict[str, Any]) -> int:
    """Blocks touched by a page that was found in full."""
    assert plan["Actual Rows"] == PAGE + 1  # the first is the list's own
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize(
    ("filter", "share"), [("all", 1), ("pending", 2 / 3), ("completed", 1 / 3)]
)
def test_page_200_costs_what_page_1_costs(filter: tasks.Filter, share: float, crowded: str) -> None:
    measured = "ANALYZE, BUFFERS, FORMAT JSON"
    later = position(crowded, BUSY, int(min(199 * PAGE / share, 10_000 - PAGE / share)))
    asked = tasks.LIST[filter]
    pages = [
        buffers(explain(crowded, asked, BUSY, PAGE, *place, how=measured))
        for place in (NEWEST, later)
    ]
    assert pages[1] <= pages[0] + 10  # it lies at another place of the index, not deeper


def test_pages_by_offset_would_be_seen(crowded: str) -> None:
    by_offset = tasks.LIST["all"].replace("LIMIT $2", "OFFSET $5 LIMIT $2")
    measured = "ANALYZE, BUFFERS, FORMAT JSON"
    pages = [
        buffers(explain(crowded, by_offset, BUSY, PAGE, *NEWEST, offset, how=measured))
        for offset in (0, 199 * PAGE)
    ]
    assert pages[1] > pages[0] + 10
