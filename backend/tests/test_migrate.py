"""Databases as other people have them: a migration brings each up to date, or says in one sentence
why it cannot."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

import config
import database
from errors import SettingError
from postgres import dsn, embedded, migrate
from tests import servers, tls
from tests.conftest import sql, waiting_for_locks
from tests.people import Person
from tests.test_database import catalogue, printed_sql, with_sqlalchemy

Empty = Callable[[], str]
LOGIN = "migrate_stranger"  # owns nothing, may do nothing


@pytest.fixture(scope="module")
def stranger(cluster: embedded.Server) -> Iterator[str]:
    """A login as a provider gives it. The roles may be there already, made by somebody else."""
    roles = (migrate.ROLE, migrate.RETENTION_ROLE)
    for role in roles:
        run(
            cluster.url,
            f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN; EXCEPTION WHEN duplicate_object THEN END $$",
        )
    sql(cluster.url, f"CREATE ROLE {LOGIN} LOGIN IN ROLE {', '.join(roles)}")
    yield LOGIN
    sql(cluster.url, f"DROP OWNED BY {LOGIN}")
    sql(cluster.url, f"DROP ROLE {LOGIN}")


@pytest.fixture(scope="module")
def schemas(cluster: embedded.Server, stranger: str) -> Iterator[str]:
    """A database for many tests, each in a schema of its own."""
    sql(cluster.url, "CREATE DATABASE migrate_schemas")
    yield cluster.url.replace("/todo?", "/migrate_schemas?")
    sql(cluster.url, "DROP DATABASE migrate_schemas WITH (FORCE)")


@pytest.fixture
def empty_schema(schemas: str) -> Iterator[str]:
    """The URL of an empty schema, `mine`; much quicker than an empty database."""
    run(schemas, "CREATE SCHEMA mine; GRANT USAGE ON SCHEMA mine TO PUBLIC")
    yield f"{schemas}&search_path=mine"
    sql(schemas, "DROP SCHEMA mine CASCADE")


def as_login(url: str, login: str) -> str:
    return url.replace("postgres@", f"{login}@")


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def upgrade(url: str, **how: Any) -> None:
    asyncio.run(migrate.upgrade(dsn.parse(url), **how))


def inspect(url: str, **how: Any) -> migrate.Schema:
    return asyncio.run(migrate.inspect(dsn.parse(url, **how)))


def run(url: str, script: str) -> None:
    async def send() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(script)
        await connection.close()

    asyncio.run(send())


def up_to(url: str, version: str) -> None:
    run(url, migrate.script(None, version))


def command(url: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`todo migrate`, as an operator runs it."""
    return subprocess.run(
        [sys.executable, str(servers.BACKEND / "cli.py"), "migrate", *arguments],
        env=servers.clean_environment(NEON_DATABASE_URL=url, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def start_that_fails(folder: Path, **settings: str) -> str:
    server = servers.start(folder, **settings)
    try:
        assert server.process.wait(30) != 0
    finally:
        server.stop()
    assert "Traceback" not in server.printed()
    return server.printed()


def refused(url: str) -> str:
    """The sentence that stops a migration and a start alike."""
    with pytest.raises(SettingError) as refusal:
        upgrade(url)
    sentence = str(refusal.value)
    assert "\n" not in sentence
    assert sentence.startswith("NEON_DATABASE_URL")
    return sentence


def everything(url: str) -> set[tuple[Any, ...]]:
    """All relations, functions, types and schemas, with what may be done to them."""
    query = """
        SELECT 'relation', oid::regclass::text, relacl::text FROM pg_class
        UNION ALL SELECT 'function', oid::regprocedure::text, proacl::text FROM pg_proc
        UNION ALL SELECT 'type', oid::regtype::text, NULL FROM pg_type
        UNION ALL SELECT 'schema', nspname, nspacl::text FROM pg_namespace WHERE nspname NOT LIKE 'pg_%temp_%'
    """
    return {tuple(row) for row in sql(url, query)}


# --- one statement at a time, never waiting long ---


def test_every_statement_of_the_script_stands_alone(empty_schema: str) -> None:
    """A distributed PostgreSQL takes no two in one string, and a prepared statement is only ever
    one."""

    async def run_prepared(url: str) -> int:
        connection = await asyncpg.connect(url, statement_cache_size=0)
        found = migrate.statements(printed_sql())
        async with connection.transaction():
            for statement in found:
                await (await connection.prepare(statement)).fetch()
        await connection.close()
        return len(found)

    url = empty_schema
    assert asyncio.run(run_prepared(url)) > 50
    assert inspect(url) == migrate.Schema(migrate.HEAD, migrate.ROLE, True, "mine")


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("SELECT 1; SELECT 2;", ["SELECT 1;", "SELECT 2;"]),
        ("SELECT ';'; SELECT 'it''s;'", ["SELECT ';';", "SELECT 'it''s;'"]),
        ('SELECT ";"; -- one; two\nSELECT 2;', ['SELECT ";";', "-- one; two\nSELECT 2;"]),
        ("DO $$ BEGIN; END $$; DO $a$ $$;$$ $a$;", ["DO $$ BEGIN; END $$;", "DO $a$ $$;$$ $a$;"]),
        ("/* ; */ SELECT 1;\n\n;; -- the end;\n", ["/* ; */ SELECT 1;"]),
        ("", []),
    ],
)
def test_a_script_is_cut_where_its_statements_end(script: str, found: list[str]) -> None:
    assert migrate.statements(script) == found


@contextmanager
def reading_tasks(url: str) -> Iterator[None]:
    """A long read: a transaction that has looked at a table, and stays."""
    loop = asyncio.new_event_loop()

    async def begin() -> Any:
        connection = await asyncpg.connect(url, server_settings={"application_name": "report"})
        await connection.execute("BEGIN; SELECT FROM tasks")
        return connection

    connection = loop.run_until_complete(begin())
    try:
        yield
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


def longest_read(url: str, until: threading.Event) -> float:
    """What a request behind the migration waits for a table, at worst."""

    async def read() -> float:
        connection = await asyncpg.connect(url)
        longest = 0.0
        while not until.is_set():
            began = time.monotonic()
            with suppress(TimeoutError):
                await connection.fetch("SELECT FROM tasks LIMIT 1", timeout=5)
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.02)
        await connection.close()
        return longest

    return asyncio.run(read())


def test_a_migration_behind_a_long_read_does_not_block_the_requests_behind_it(
    empty_database: Empty, tmp_path: Path
) -> None:
    url = empty_database()
    up_to(url, "0002")
    starting = None
    try:
        with reading_tasks(url):
            starting = servers.start(tmp_path, NEON_DATABASE_URL=url)
            said = threading.Event()
            with ThreadPoolExecutor(1) as threads:
                longest = threads.submit(longest_read, url, said)
                deadline = time.monotonic() + 20
                try:
                    while (
                        starting.printed().count("the migration waits") < 2
                        and time.monotonic() < deadline
                    ):
                        time.sleep(0.05)
                finally:
                    said.set()
        assert 0.5 < longest.result() < 2.5  # it did wait, but not until the long read was over
        servers.wait_until_up(starting, "/ready")
    finally:
        if starting:
            starting.stop()
    waits = (
        r"the migration waits for the table tasks, which process \d+ of PostgreSQL uses "
        r"\(report, idle in transaction "
    )
    assert (
        len(re.findall(waits + r"for \d+ s\); it is tried again in 2 s", starting.printed())) >= 2
    )


def test_a_migration_behind_another_says_so_and_then_finds_nothing_to_do(
    empty_database: Empty, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(migrate, "QUEUE_WAIT", "100ms")
    url = empty_database()

    async def other() -> Any:
        connection = await asyncpg.connect(url, server_settings={"application_name": "other"})
        await connection.execute(f"BEGIN; SELECT pg_advisory_xact_lock({migrate.LOCK})")
        return connection

    async def both() -> None:
        connection = await other()
        waiting = asyncio.create_task(migrate.upgrade(dsn.parse(url)))
        while "another migration" not in caplog.text:
            assert not waiting.done()
            await asyncio.sleep(0.05)
        await connection.execute(migrate.script(None) + "COMMIT")
        await connection.close()
        await waiting

    asyncio.run(asyncio.wait_for(both(), 30))
    assert "waits for another migration, which process" in caplog.text
    assert "schema brought from" not in caplog.text
    assert inspect(url).version == migrate.HEAD


def test_what_another_has_migrated_is_seen_at_once_whatever_the_isolation_level(
    empty_database: Empty,
) -> None:
    url = empty_database()
    sql(url, f"ALTER DATABASE {name_of(url)} SET default_transaction_isolation = 'repeatable read'")

    async def both() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(
            f"BEGIN; SELECT pg_advisory_xact_lock({migrate.LOCK});" + migrate.script(None)
        )
        waiting = asyncio.create_task(migrate.upgrade(dsn.parse(url)))
        while not await asyncio.to_thread(waiting_for_locks, url):
            assert not waiting.done()
        await connection.execute("COMMIT")
        await connection.close()
        await waiting

    asyncio.run(asyncio.wait_for(both(), 30))
    assert inspect(url).version == migrate.HEAD


@pytest.mark.parametrize(
    "settings",
    [
        {"statement_timeout": "'400ms'", "idle_in_transaction_session_timeout": "'20ms'"},
        {"transaction_timeout": "'400ms'"},
        {"row_security": "off", "search_path": "crm, public"},
    ],
)
def test_what_an_operator_has_set_for_all_makes_no_difference(
    settings: dict[str, str],
    empty_database: Empty,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(migrate, "PAUSE_SECONDS", 0.05)
    url = empty_database()
    if len(sql(url, "SELECT FROM pg_settings WHERE name = ANY($1)", list(settings))) < len(
        settings
    ):
        pytest.skip("newer than this PostgreSQL")
    up_to(url, "0001")
    run(
        url,
        "INSERT INTO tasks (user_id, title) VALUES ('ada', 'Kept'); CREATE SCHEMA crm; CREATE TABLE crm.tasks ()",
    )

    async def migrate_behind_a_read() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("BEGIN; SELECT FROM tasks")
        for name, value in settings.items():
            await connection.execute(f"ALTER DATABASE {name_of(url)} SET {name} = {value}")
        waiting = asyncio.create_task(migrate.upgrade(dsn.parse(url)))
        while "the migration waits" not in caplog.text and not waiting.done():
            await asyncio.wait([waiting], timeout=0.02)
        await connection.close()
        await waiting

    asyncio.run(asyncio.wait_for(migrate_behind_a_read(), 30))
    assert inspect(url) == migrate.Schema(migrate.HEAD, migrate.ROLE, True)
    assert [row["op"] for row in sql(url, "SELECT op FROM public.changes")] == ["create"]


# --- a schema that is newer than the code ---


def newer(url: str, comment: str | None) -> None:
    upgrade(url)
    sql(url, f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")
    sql(url, f"COMMENT ON TABLE {migrate.VERSION_TABLE} IS {f'{comment!r}' if comment else 'NULL'}")


@pytest.mark.parametrize(
    "comment", [None, "serves_from=9999", "serves_from=9998", "Served from everywhere"]
)
def test_a_newer_schema_is_refused(comment: str | None, empty_schema: str) -> None:
    url = empty_schema
    newer(url, comment)
    sentence = (
        f"NEON_DATABASE_URL: the schema is version 9999, and this release can serve versions up to {migrate.HEAD}; "
        "start the release that has migrated it, or a newer one."
    )
    assert refused(url) == sentence
    with pytest.raises(SettingError, match="the schema is version 9999"):
        inspect(url)


@pytest.mark.parametrize("serves_from", [migrate.HEAD, "0001"])
def test_a_newer_schema_that_may_be_served_is_served(
    serves_from: str, empty_schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = empty_schema
    newer(url, f"serves_from={serves_from}")
    upgrade(url)
    assert inspect(url) == migrate.Schema("9999", migrate.ROLE, True, "mine")
    assert sql(url, f"SELECT version_num FROM {migrate.VERSION_TABLE}") == [("9999",)]


def test_a_start_on_a_newer_schema_ends_with_one_sentence(
    empty_schema: str, tmp_path: Path
) -> None:
    url = empty_schema
    newer(url, None)
    assert "NEON_DATABASE_URL: the schema is version 9999" in start_that_fails(
        tmp_path, NEON_DATABASE_URL=url
    )


def test_the_schema_says_from_which_version_on_it_may_be_served(empty_schema: str) -> None:
    url = empty_schema
    upgrade(url)
    said = sql(url, f"SELECT obj_description('{migrate.VERSION_TABLE}'::regclass) AS comment")[0][
        "comment"
    ]
    assert migrate.SERVES_FROM.fullmatch(said)[1] in migrate.versions()  # type: ignore[index]


def test_every_migration_says_whom_it_lets_serve() -> None:
    """From 0005 on: `serves_from` is the oldest version whose code works on the schema that the
    migration leaves."""
    for path in (migrate.MIGRATIONS / "versions").glob("[0-9]*.py"):
        version = path.stem.partition("_")[0]
        said = re.search(r'^serves_from = "(\w+)"', path.read_text(), re.MULTILINE)
        assert version <= "0004" or said, f"{path.name} must set serves_from"
        assert not said or said[1] <= version


# --- tables in a schema of one's own ---

OWN_SCHEMA = f"""
CREATE SCHEMA todo AUTHORIZATION {LOGIN};
REVOKE ALL ON SCHEMA public FROM PUBLIC;
"""


def options(search_path: str) -> str:
    return f"&options=-csearch_path%3D{search_path}"


def test_tables_in_a_schema_of_ones_own_are_served(
    empty_database: Empty, stranger: str, tmp_path: Path
) -> None:
    url = empty_database()
    run(url, OWN_SCHEMA)
    own = as_login(url, stranger) + options("todo")
    with servers.running(tmp_path, NEON_DATABASE_URL=own) as server:
        servers.wait_until_up(server, "/ready")
        ready = httpx.get(f"{server.url}/ready").json()
        assert ready["checks"]["row_security"]["ok"] is True
        ada = Person(server.url, "ada")
        with closing(ada.client):
            task = ada.has("In my own schema", "☕")
            assert ada.patch(f"/{task['id']}/complete").status_code == 200
            assert ada.delete(task["id"]).status_code == 200
    schemas = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = ANY($1)"
    assert sql(url, schemas, [*migrate.ISOLATED, migrate.VERSION_TABLE]) == [("todo",)]
    assert inspect(own) == migrate.Schema(migrate.HEAD, migrate.ROLE, True, "todo")


@pytest.mark.parametrize(
    ("prepare", "parameters", "schema"),
    [
        ("CREATE SCHEMA todo AUTHORIZATION {login}", "&schema=todo", "todo"),
        ("CREATE SCHEMA todo AUTHORIZATION {login}", "&search_path=todo,public", "todo"),
        ('CREATE SCHEMA "My ""Tasks" AUTHORIZATION {login}', "&schema=My%20%22Tasks", '"My ""Tasks"'),
        ("CREATE SCHEMA AUTHORIZATION {login}", "", LOGIN),  # found by "$user" in the default search path
        ("CREATE SCHEMA todo AUTHORIZATION {login}; ALTER ROLE {login} SET search_path = todo", "", "todo"),
    ],
    ids=["Prisma", "search_path", "odd name", "$user", "the login's"],
)  # fmt: skip
def test_a_schema_of_ones_own_may_be_named_in_many_ways(
    prepare: str, parameters: str, schema: str, empty_database: Empty, stranger: str
) -> None:
    url = empty_database()
    run(url, "REVOKE ALL ON SCHEMA public FROM PUBLIC;" + prepare.format(login=stranger))
    own = as_login(url, stranger) + parameters
    try:
        asyncio.run(migrate.upgrade(dsn.parse(own, pooled=True)))
        for pooled in (True, False):
            assert inspect(own, pooled=pooled) == migrate.Schema(
                migrate.HEAD, migrate.ROLE, True, schema
            )
    finally:
        sql(url, f"ALTER ROLE {stranger} RESET search_path")


def test_a_table_of_somebody_else_that_comes_first_in_the_search_path_is_not_mistaken_for_ours(
    empty_database: Empty,
) -> None:
    url = empty_database()
    upgrade(url)
    run(
        url,
        "CREATE SCHEMA crm; CREATE TABLE crm.tasks (id uuid); CREATE TABLE crm.changes (id uuid)",
    )
    assert inspect(url + options("crm,public")) == migrate.Schema(
        migrate.HEAD, migrate.ROLE, True, "public"
    )


def settings_for(url: str, direct_url: str) -> config.Settings:
    variables: dict[str, Any] = {"NEON_DATABASE_URL": url, "NEON_DIRECT_DATABASE_URL": direct_url}
    return config.Settings(_env_file=None, **variables)


def test_the_direct_url_takes_the_schema_of_the_other(empty_schema: str, schemas: str) -> None:
    database.create_tables(settings_for(empty_schema, schemas))
    assert inspect(empty_schema) == migrate.Schema(migrate.HEAD, migrate.ROLE, True, "mine")


def test_usage_that_was_revoked_later_is_asked_for(empty_database: Empty) -> None:
    url = empty_database()
    sql(url, "CREATE SCHEMA todo")
    upgrade(url + "&schema=todo")
    sql(url, f"REVOKE USAGE ON SCHEMA todo FROM {migrate.ROLE}")
    with pytest.raises(
        SettingError, match=r"run, as its owner: GRANT USAGE ON SCHEMA todo TO todo_app, todo_ret"
    ):
        inspect(url + "&schema=todo")


def test_two_urls_to_two_places_stop_the_start(empty_schema: str, empty_database: Empty) -> None:
    settings = settings_for(empty_schema, empty_database() + "&search_path=public")
    sentence = "NEON_DIRECT_DATABASE_URL and NEON_DATABASE_URL lead to two databases or schemas"
    with pytest.raises(SettingError, match=sentence):
        asyncio.run(database.Database(settings).open())


# --- what cannot be migrated: one sentence, and nothing is written ---


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_a_database_that_cannot_hold_every_text_is_refused(
    encoding: str, cluster: embedded.Server
) -> None:
    name = f"encoded_{encoding.lower()}"
    sql(
        cluster.url,
        f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'",
    )
    url = cluster.url.replace("/todo?", f"/{name}?")
    try:
        before = everything(url)
        assert (
            f"the database {name} is encoded in {encoding}, which cannot hold every text"
            in refused(url)
        )
        assert everything(url) == before
    finally:
        sql(cluster.url, f"DROP DATABASE {name}")


@pytest.mark.parametrize(
    ("there", "thing"),
    [
        ("CREATE TABLE tasks (id uuid PRIMARY KEY, due date)", "table tasks"),
        ("CREATE VIEW tasks AS SELECT 1 AS id", "table tasks"),
        ("CREATE TABLE changes (id int)", "table changes"),
        ("CREATE TYPE tasks AS ENUM ('open', 'done')", "type tasks"),
        ("CREATE SEQUENCE entity_ids", "table entity_ids"),
        ("CREATE TABLE t (id int); CREATE INDEX tasks_newest ON t (id)", "table tasks_newest"),
    ],
)  # fmt: skip
def test_what_is_there_already_and_is_not_ours_is_left_alone(
    there: str, thing: str, empty_schema: str
) -> None:
    url = empty_schema
    run(url, there)
    before = everything(url)
    sentence = refused(url)
    assert (
        f"the schema mine has a {thing} already, which is not ours; use another database"
        in sentence
    )
    assert "adopt" not in sentence
    assert everything(url) == before


def test_a_login_that_may_not_make_tables_is_told_what_to_grant(
    empty_schema: str, stranger: str
) -> None:
    url = as_login(empty_schema, stranger)
    assert refused(url) == (
        f"NEON_DATABASE_URL: the login {stranger} may not make tables in the schema mine; "
        "set NEON_DIRECT_DATABASE_URL to a login that may, "
        f"or run GRANT CREATE ON SCHEMA mine TO {stranger}."
    )


def test_a_login_without_any_schema_is_told_to_make_one(
    empty_database: Empty, stranger: str
) -> None:
    url = empty_database()
    sql(url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    assert "CREATE SCHEMA todo AUTHORIZATION migrate_stranger" in refused(as_login(url, stranger))
    assert "no schema in the search path exists" in refused(url + "&schema=nowhere")


def test_a_login_that_does_not_own_the_tables_cannot_migrate_them(
    empty_schema: str, stranger: str
) -> None:
    url = empty_schema
    up_to(url, "0002")
    sql(url, f"GRANT SELECT ON {migrate.VERSION_TABLE} TO {stranger}")
    assert "must be owner of table tasks); migrate with the login that owns the tables." in refused(
        as_login(url, stranger)
    )


def test_an_old_server_is_refused(empty_schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "OLDEST_SERVER", 99)
    assert re.search(r"PostgreSQL \d+ is too old; it must be 99 or newer\.$", refused(empty_schema))


# --- a table that a plain FastAPI + SQLModel backend has made ---


class Plain(SQLModel, registry=registry()):
    """Apart from our own tables."""

    metadata = MetaData()


class PlainTask(Plain, table=True):
    """As a hundred tutorials have it."""

    __tablename__ = "tasks"

    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(index=True)
    title: str = Field(max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    completed: bool = Field(default=False)
    created_at: datetime = Field(default_factory=datetime.now)
    updated_at: datetime = Field(default_factory=datetime.now)


PLAIN = """
CREATE TABLE {table} (
    id SERIAL NOT NULL, user_id VARCHAR NOT NULL, title VARCHAR(200) NOT NULL, description VARCHAR(1000),
    completed BOOLEAN NOT NULL, created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL, PRIMARY KEY (id)
);
CREATE INDEX ix_{table}_user_id ON {table} (user_id);
"""
INSERT = """
INSERT INTO {table} (user_id, title, description, completed, created_at, updated_at)
SELECT 'user-' || n % 3, CASE WHEN n = 7 THEN ' ☕ ' ELSE 'Task ' || n END, CASE WHEN n % 2 = 0 THEN 'More' END,
       n % 4 = 0, '2026-01-01 10:00:00.123456'::timestamp + n % 5 * interval '1 day',
       '2026-02-01'::timestamp + n * interval '1 second'
FROM generate_series(1, 20) AS n;
DELETE FROM {table} WHERE id > 18;
"""
AS_IT_WAS = """
SELECT id, user_id, title, description, completed, created_at, updated_at FROM {table} ORDER BY id
"""


def test_what_create_all_makes_is_what_is_adopted_here(empty_database: Empty) -> None:
    """So that the tables of these tests are those that people have. SQLModel made times without
    zone until 2026."""
    made, written = empty_database(), empty_database()
    asyncio.run(with_sqlalchemy(made, Plain.metadata.create_all))
    run(written, PLAIN.format(table="tasks").replace("WITHOUT TIME ZONE", "WITH TIME ZONE"))
    for query in ("columns", "constraints", "indexes"):
        assert catalogue(made)[query] == catalogue(written)[query]


@pytest.mark.parametrize("table", ["tasks", "task"])
def test_a_start_offers_to_adopt_the_table_and_changes_nothing(
    table: str, empty_schema: str
) -> None:
    url = empty_schema
    run(url, PLAIN.format(table=table) + INSERT.format(table=table))
    before = everything(url), sql(url, AS_IT_WAS.format(table=table))
    sentence = refused(url)
    assert sentence.startswith(
        f"NEON_DATABASE_URL: the schema mine has a table {table} already, which is not ours but"
    )
    assert (
        "`todo migrate --adopt` (python3 run.py migrate --adopt), which keeps every row" in sentence
    )
    assert (everything(url), sql(url, AS_IT_WAS.format(table=table))) == before


def test_an_adopted_table_keeps_every_row_and_is_served(
    empty_database: Empty, tmp_path: Path
) -> None:
    """Adopted by a login that owns the table and that FORCE therefore binds."""
    url = empty_database()
    run(url, PLAIN.format(table="tasks") + INSERT.format(table="tasks"))
    before = sql(url, AS_IT_WAS.format(table="tasks"))
    done = command(url, "--adopt")
    assert (done.returncode, done.stdout) == (
        0,
        f"Schema {migrate.HEAD}; row-level security proven.\n",
    ), done.stderr
    assert "the table tasks is adopted, with 18 tasks" in done.stderr

    after = sql(url, AS_IT_WAS.format(table="tasks"))
    assert [tuple(row)[:5] for row in after] == [tuple(row)[:5] for row in before]
    assert [tuple(row)[5:] for row in after] == [
        tuple(in_utc(time) for time in tuple(row)[5:]) for row in before
    ]
    logged = sql(url, "SELECT * FROM changes ORDER BY entity_id")
    assert [(row["entity_id"], row["op"], row["user_id"]) for row in logged] == [
        (row["id"], "create", row["user_id"]) for row in after
    ]
    assert [json.loads(row["fields"])["title"] for row in logged] == [
        [None, row["title"]] for row in after
    ]
    upgrade(url, adopting=True)  # nothing is left to do

    fresh = empty_database()
    upgrade(fresh)
    assert catalogue(url) == catalogue(fresh)
    with servers.running(tmp_path, NEON_DATABASE_URL=url) as server:
        servers.wait_until_up(server, "/ready")
        ada = Person(server.url, "user")
        with closing(ada.client):
            assert ada.has("The next id follows the largest that was ever given")["id"] == 21


def in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER COLUMN created_at TYPE timestamptz, ALTER COLUMN updated_at TYPE timestamptz",
        "ALTER COLUMN title TYPE text, ALTER COLUMN description TYPE text, ALTER COLUMN user_id TYPE text",
        "ALTER COLUMN id TYPE bigint, ALTER COLUMN title TYPE varchar(255), ALTER COLUMN created_at TYPE timestamp(3)",
        "ALTER COLUMN completed DROP NOT NULL, ALTER COLUMN created_at DROP NOT NULL, ALTER COLUMN title DROP NOT NULL",
        "ALTER COLUMN completed SET DEFAULT false, ALTER COLUMN created_at SET DEFAULT now()",
    ],
)
def test_a_table_that_differs_a_little_is_adopted_without_loss(
    change: str, empty_schema: str
) -> None:
    url = empty_schema
    run(
        url, PLAIN.format(table="task") + INSERT.format(table="task") + f"ALTER TABLE task {change}"
    )
    run(url, "CREATE INDEX task_done ON task (completed)")
    url += "&timezone=America/New_York"
    instant = "CASE WHEN pg_typeof({0})::text LIKE '%without%' THEN {0}::timestamp AT TIME ZONE 'UTC' ELSE {0} END"
    query = f"SELECT *, {instant.format('created_at')} AS created, {instant.format('updated_at')} AS updated FROM task"
    before = sql(url, f"{query} ORDER BY id")
    upgrade(url, adopting=True)
    names = ("id", "user_id", "title", "description", "completed")
    after = sql(url, "SELECT * FROM tasks ORDER BY id")
    assert [[row[name] for name in names] for row in after] == [
        [row[name] for name in names] for row in before
    ]
    assert [(row["created_at"], row["updated_at"]) for row in after] == [
        (row["created"], row["updated"]) for row in before
    ]
    assert sql(url, "SELECT to_regclass('task') AS old") == [(None,)]


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        (
            "ALTER TABLE tasks ADD COLUMN due date, ADD COLUMN tags text",
            "what is in due, tags would be lost",
        ),
        (
            "ALTER TABLE tasks ALTER user_id TYPE integer USING 1",
            "user_id is of type integer, not character varying or",
        ),
        (
            "ALTER TABLE tasks ALTER completed TYPE integer USING 0",
            "completed is of type integer, not boolean",
        ),
        ("ALTER TABLE tasks DROP CONSTRAINT tasks_pkey", "id is not its primary key"),
        (
            "ALTER TABLE tasks ADD CHECK (title <> 'x')",
            "constraint tasks_title_check would be lost",
        ),
        ("CREATE VIEW mine AS SELECT * FROM tasks", "view or rule mine would be lost"),
        ("CREATE TABLE notes (task int REFERENCES tasks)", "foreign key of notes would be lost"),
        ("CREATE POLICY own ON tasks USING (true)", "policy own would be lost"),
        ("CREATE UNIQUE INDEX one ON tasks (user_id, title)", "unique index one would be lost"),
        ("CREATE TABLE more () INHERITS (tasks)", "inheritance would be lost"),
    ],
)
def test_a_table_that_would_lose_something_is_not_adopted(
    change: str, flaw: str, empty_schema: str
) -> None:
    url = empty_schema
    run(url, PLAIN.format(table="tasks") + INSERT.format(table="tasks") + change)
    before = everything(url), sql(url, AS_IT_WAS.format(table="tasks"))
    assert f"table tasks already, which is not ours and cannot be adopted ({flaw}" in refused(url)
    with pytest.raises(
        SettingError, match=rf"^NEON_DATABASE_URL: the table tasks cannot be adopted: {flaw}"
    ):
        upgrade(url, adopting=True)
    assert (everything(url), sql(url, AS_IT_WAS.format(table="tasks"))) == before


def test_rows_that_break_our_rules_are_named_and_nothing_is_changed(empty_schema: str) -> None:
    url = empty_schema
    run(url, PLAIN.format(table="tasks") + INSERT.format(table="tasks"))
    columns = ("title", "description", "completed", "created_at")
    run(url, "".join(f"ALTER TABLE tasks ALTER {column} DROP NOT NULL;" for column in columns))
    run(url, "ALTER TABLE tasks ALTER title TYPE text, ALTER description TYPE text")
    for change in (
        "title = '' WHERE id = 1",
        "title = E'\\u200b \\u3000' WHERE id BETWEEN 2 AND 7",
        "title = repeat('☕', 201) WHERE id = 8",
        "title = repeat(' ', 10) || repeat('x', 199) WHERE id = 9",
        "description = repeat('x', 1001) WHERE id = 10",
        "user_id = ' ' WHERE id = 11",
        "user_id = repeat('u', 256) WHERE id = 12",
        "completed = NULL, created_at = NULL WHERE id = 13",
        "updated_at = 'infinity' WHERE id = 14",
        "id = -1 WHERE id = 15",
        "title = '  kept as it is ' WHERE id = 16",
    ):
        sql(url, f"UPDATE tasks SET {change}")
    before = everything(url), sql(url, "SELECT tasks::text FROM tasks ORDER BY id")
    with pytest.raises(SettingError) as refusal:
        upgrade(url, adopting=True)
    assert str(refusal.value) == (
        "NEON_DATABASE_URL: 15 of the rows of tasks break a rule: Completed must be true or false (id 13); "
        "Created at and updated at must be times of the years 1 to 9999 (ids 13, 14); "
        "Description must not exceed 1000 characters (id 10); Id must be greater than 0 (id -1); "
        "Title is required (ids 1, 2, 3, 4, 5 and 2 more); Title must be between 1 and 200 characters (ids 8, 9); "
        "User id must be 1 to 255 characters, not only white space (ids 11, 12). Correct them; nothing was changed."
    )
    assert (everything(url), sql(url, "SELECT tasks::text FROM tasks ORDER BY id")) == before


def test_rows_that_are_hidden_from_the_login_are_not_lost(empty_schema: str, stranger: str) -> None:
    url = empty_schema
    run(url, PLAIN.format(table="tasks") + INSERT.format(table="tasks"))
    run(url, f"GRANT CREATE ON SCHEMA mine TO {stranger}; ALTER TABLE tasks OWNER TO {stranger};")
    run(url, "ALTER TABLE tasks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    with pytest.raises(
        SettingError,
        match=r"query would be affected by row-level security policy for table .tasks.",
    ):
        upgrade(as_login(url, stranger), adopting=True)
    assert len(sql(url, AS_IT_WAS.format(table="tasks"))) == 18


def test_an_owner_whom_force_binds_adopts_too(empty_schema: str, stranger: str) -> None:
    url = empty_schema
    run(url, PLAIN.format(table="tasks") + INSERT.format(table="tasks"))
    run(url, f"GRANT CREATE ON SCHEMA mine TO {stranger}; ALTER TABLE tasks OWNER TO {stranger};")
    upgrade(as_login(url, stranger), adopting=True)
    assert (
        len(sql(url, AS_IT_WAS.format(table="tasks"))) == len(sql(url, "SELECT FROM changes")) == 18
    )
    assert inspect(as_login(url, stranger)) == migrate.Schema(
        migrate.HEAD, migrate.ROLE, True, "mine"
    )


def test_there_must_be_something_to_adopt(empty_schema: str) -> None:
    url = empty_schema
    run(url, "CREATE TABLE task (id serial PRIMARY KEY, name text)")
    before = everything(url)
    with pytest.raises(
        SettingError, match=r"has no table of tasks to adopt; migrate without --adopt\.$"
    ):
        upgrade(url, adopting=True)
    assert everything(url) == before


def test_a_table_named_task_that_is_something_else_is_in_nobodys_way(empty_schema: str) -> None:
    url = empty_schema
    run(url, PLAIN.format(table="task") + "ALTER TABLE task ADD COLUMN due date")
    upgrade(url)
    assert inspect(url).version == migrate.HEAD
    assert sql(url, "SELECT FROM task") == []


# --- the command: one sentence and exit code 1 ---


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tls.Postgres]:
    """A server that asks for passwords, and whose certificate this machine does not trust."""
    postgres = tls.Postgres(tmp_path_factory.mktemp("tls"))
    yield postgres
    postgres.stop()


def test_the_command_says_in_one_sentence_why_it_cannot_connect(
    cluster: embedded.Server, over_tls: tls.Postgres
) -> None:
    refusal, away = "is refused by the server: ", "the database is out of reach ("
    expected = {
        over_tls.url(tls.PLAIN, "").replace(
            tls.PASSWORD_ENCODED, "Wr0ngWord"
        ): f"{refusal}password authentication failed",
        over_tls.url(tls.PLAIN, "sslmode=verify-full"): f"{away}[SSL: CERTIFICATE_VERIFY_FAILED]",
        cluster.url.replace("/todo?", "/nowhere?"): f'{refusal}database "nowhere" does not exist.',
        "postgresql://ada:Wr0ngWord@nowhere.invalid/todo": away,
    }
    with ThreadPoolExecutor(2) as threads:
        for (asked, sentence), done in zip(
            expected.items(), threads.map(command, expected), strict=True
        ):
            assert (done.returncode, done.stdout) == (1, ""), asked
            [said] = done.stderr.splitlines()
            assert re.match(r"NEON_DATABASE_URL:? ", said), said
            assert sentence in said
            assert "Wr0ngWord" not in said
            assert tls.PASSWORD not in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("nobody_here@", r'refused by the server: role "nobody_here" does not exist\.$'),
        (
            "postgres@&work_mem=never",
            'refused by the server: invalid value for parameter "work_mem"',
        ),
        (
            "postgres@&target_session_attrs=never",
            r"the URL cannot be used \(target_session_attrs is expected",
        ),
        ("postgres@&host=a..b", r"the URL cannot be used \("),
    ],
)
def test_an_address_that_can_never_be_used_is_one_sentence(
    change: str, said: str, cluster: embedded.Server
) -> None:
    login, at, parameters = change.partition("@")
    assert re.search(said, refused(cluster.url.replace("postgres@", login + at) + parameters))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER DATABASE {name} ALLOW_CONNECTIONS false", "is not currently accepting connections"),
        ("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC", "permission denied for database"),
    ],
)
def test_a_database_that_lets_nobody_in_is_said(
    change: str, said: str, empty_database: Empty, cluster: embedded.Server, stranger: str
) -> None:
    url = empty_database()
    sql(cluster.url, change.format(name=name_of(url)))
    assert said in refused(as_login(url, stranger))


def test_an_error_without_a_text_is_named() -> None:
    assert migrate.said(TimeoutError()) == "TimeoutError"
    assert migrate.said(OSError("No such\n  host.")) == "No such host"
