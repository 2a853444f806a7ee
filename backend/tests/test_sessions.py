"""No session serves before it was seen to be restricted, whatever a pooler drops or an operator has
set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import config
import logs
import tasks
from database import Database, OwnerDatabase
from errors import Unavailable
from postgres import dsn, embedded, migrate
from postgres.pool import Pool
from tests import pgbouncer, pooler, servers
from tests.conftest import sql
from tests.people import Person

NAME = "sessions"
HELD = {
    "role": migrate.ROLE,
    "row_security": "on",
    "statement_timeout": "10s",
    "lock_timeout": "1500ms",
    "idle_in_transaction_session_timeout": "10s",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
    "transaction_deferrable": "off",
    "search_path": "public, pg_temp",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "exit_on_error": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "transaction_timeout": "0",
    "idle_session_timeout": "0",
    "jit": "off",
    "app.user_id": "",
}
# An operator's defaults, or what another client of a session pooler has left. Each would change
# something for us.
OVERRIDES = {
    "row_security": "off",
    "statement_timeout": "5s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "1h",
    "idle_session_timeout": "5s",
    "transaction_timeout": "1h",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "search_path": "evil, public",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "exit_on_error": "on",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "jit": "on",
    "app.user_id": "bob",
}


def value_of(name: str) -> str:
    """As SET takes it. A path in quotes would be one name."""
    return OVERRIDES[name] if name == "search_path" else f"'{OVERRIDES[name]}'"


# A copy of the tables where `evil` and temporary tables come first: who reads there reads what
# somebody else has put.
EVIL = """
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE TABLE evil.tasks (LIKE public.tasks INCLUDING ALL);
CREATE TABLE evil.change_counters (LIKE public.change_counters INCLUDING ALL);
GRANT ALL ON ALL TABLES IN SCHEMA evil TO PUBLIC;
"""
LEFT_BEHIND = (
    "CREATE TEMP TABLE tasks AS SELECT * FROM public.tasks; GRANT ALL ON tasks TO PUBLIC",
    "DO $$ BEGIN FOR n IN 1..5000 LOOP EXECUTE format('PREPARE __asyncpg_stmt_%s__ AS SELECT 1', to_hex(n)); END LOOP;"
    " END $$",
    "SET ROLE pg_monitor",
    "SET SESSION AUTHORIZATION sessions_other",
)


@pytest.fixture(scope="module")
def url(cluster: embedded.Server) -> Iterator[str]:
    """A database of this module's own, with a task of Bob's and a schema that is not ours."""
    sql(cluster.url, f"CREATE DATABASE {NAME}")
    own = cluster.url.replace("/todo?", f"/{NAME}?")
    asyncio.run(migrate.upgrade(dsn.parse(own)))
    sql(own, "DO $$ BEGIN " + EVIL + " END $$")
    sql(own, "CREATE ROLE sessions_other")
    asyncio.run(
        opened(
            own,
            lambda database: tasks.create(OwnerDatabase(database.pool, "bob"), {"title": "His"}),
        )
    )
    yield own
    sql(cluster.url, f"DROP DATABASE {NAME} WITH (FORCE)")
    sql(cluster.url, "DROP ROLE sessions_other")


@pytest.fixture(scope="module")
def proxy(url: str) -> Iterator[pooler.Proxy]:
    with pooler.running(url) as started:
        yield started


def settings_for(url: str, **others: str) -> config.Settings:
    variables: dict[str, Any] = {"_env_file": None, "NEON_DATABASE_URL": url, **others}
    return config.Settings(**variables)


async def opened(url: str, work: Callable[[Database], Awaitable[Any]], **others: str) -> Any:
    """What `work` returns on a database that was opened as a server opens it."""
    database = Database(settings_for(url, **others))
    try:
        await database.open()
        return await work(database)
    finally:
        await database.close()


async def served(url: str, pooled: bool = False) -> dict[str, Any]:
    """A day on one session, as an opened database makes it."""
    pool = Pool(dsn.parse(url, pooled=pooled), migrate.ROLE, 1, "public", migrate.ISOLATED)
    try:
        return await a_day(pool)
    finally:
        await pool.close()


async def held(pool: Pool) -> dict[str, str]:
    """What holds where a request's statement runs."""
    names = ", ".join(f"current_setting('{name}', true)" for name in HELD)
    row = (await pool.read(f"SELECT {names}"))[0]
    return {
        name: value for name, value in zip(HELD, row.values(), strict=True) if value is not None
    }


async def seen_by_ada(pool: Pool) -> list[Any]:
    """Without a where-clause, as if ours had a fault: what row-level security alone lets Ada see."""
    sql = "WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true)) SELECT title FROM scope, tasks"
    return [row["title"] for row in await pool.read(sql, "ada")]


async def a_day(pool: Pool) -> dict[str, Any]:
    """All that is looked at while Ada writes and deletes a task."""
    ada = OwnerDatabase(pool, "ada")
    task, _ = await tasks.create(ada, {"title": "Drink ☕\\n"})
    listed = (await tasks.list_newest_first(ada, "all", 10)).tasks
    seen = await seen_by_ada(pool)
    await tasks.delete(ada, task["id"])
    return {"titles": [row["title"] for row in listed], "seen": set(seen), "held": await held(pool)}


async def a_day_of(database: Database) -> dict[str, Any]:
    assert (await database.checks())["row_security"].ok
    return await a_day(database.pool)


def known(url: str) -> set[str]:
    """The settings of this PostgreSQL's version; of ours, only the one that stands."""
    return {row["name"] for row in sql(url, "SELECT name FROM pg_settings")} | {
        "role",
        "app.user_id",
    }


@pytest.fixture(scope="module")
def undisturbed(url: str) -> dict[str, Any]:
    """What a day is where nobody has set anything."""
    wanted = {name: value for name, value in HELD.items() if name in known(url)}
    return {"titles": ["Drink ☕\\n"], "seen": {"Drink ☕\\n"}, "held": wanted}


def forget_adas(url: str) -> None:
    for table in migrate.ISOLATED:
        sql(url, f"DELETE FROM {table} WHERE user_id = 'ada'")


@pytest.fixture(autouse=True)
def nobody_before(url: str) -> None:
    forget_adas(url)


# --- start-up parameters that do not arrive ---


@pytest.mark.parametrize(
    "has_own_pid", [False, True], ids=["the server's process id", "a process id of its own"]
)
def test_a_pooler_that_drops_startup_parameters_changes_nothing(
    has_own_pid: bool,
    proxy: pooler.Proxy,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The login is a superuser: as itself it would see Bob's task, without any time-out."""
    monkeypatch.setattr(proxy, "has_own_pid", has_own_pid)
    assert asyncio.run(opened(proxy.url, a_day_of)) == undisturbed


@pytest.mark.parametrize(
    "dropped", ["role", "statement_timeout", "lock_timeout", "jit", "client_encoding"]
)
def test_a_single_parameter_that_is_dropped_changes_nothing(
    dropped: str, proxy: pooler.Proxy, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = (
        "user",
        "database",
        "application_name",
        "client_encoding",
        "role",
        "jit",
        *list(HELD)[2:5],
    )
    monkeypatch.setattr(proxy, "passed_on", tuple(name for name in sent if name != dropped))
    assert asyncio.run(opened(proxy.url, a_day_of)) == undisturbed


def test_a_pooler_that_nobody_told_us_of_keeps_nothing_of_ours(
    proxy: pooler.Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may give our server to somebody else for each transaction: what we set must end with ours."""
    monkeypatch.setattr(proxy, "has_own_pid", True)

    async def between(database: Database) -> tuple[str, str, bool]:
        await database.pool.read("SELECT 1")
        [session] = database.pool._idle
        row = await session.fetchrow("SELECT current_user, current_setting('statement_timeout')")
        return (*row, database.pool.address.pooled)

    assert asyncio.run(opened(proxy.url, between)) == ("postgres", "0", True)


PARAMETERS = "role,jit,statement_timeout,lock_timeout,idle_in_transaction_session_timeout"


@pytest.mark.parametrize("dropped", ["", PARAMETERS], ids=["refuses them", "drops them"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_pgbouncer_that_nobody_told_us_of_changes_nothing(
    mode: str,
    dropped: str,
    url: str,
    undisturbed: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if pgbouncer.program() is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")

    async def many(database: Database) -> list[Any]:
        assert (await database.checks())["row_security"].ok
        days = await asyncio.gather(*(seen_by_ada(database.pool) for _ in range(10)))
        return [*days, await a_day(database.pool)]

    folder = tmp_path_factory.mktemp("pgbouncer")
    with pgbouncer.running(
        folder, dsn.parse(url).host, {"postgres": "password"}, mode, dropped
    ) as port:
        address = f"postgresql://postgres:password@127.0.0.1:{port}/{NAME}?sslmode=disable"
        assert asyncio.run(opened(address, many)) == [*[[]] * 10, undisturbed]


# --- what an operator has set, or somebody has left ---


@pytest.fixture
def set_by_the_operator(cluster: embedded.Server) -> Iterator[Callable[[str, str], None]]:
    """Changes a default of the database. From another one: the default may be one that hinders."""
    elsewhere, changed = cluster.url.replace("/todo?", "/postgres?"), list[str]()

    def change(name: str, value: str) -> None:
        sql(elsewhere, f"ALTER DATABASE {NAME} SET {name} = {value}")
        changed.append(name)

    yield change
    for name in changed:
        sql(elsewhere, f"ALTER DATABASE {NAME} RESET {name}")


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
@pytest.mark.parametrize("name", OVERRIDES)
def test_a_default_of_the_operator_changes_nothing(
    name: str,
    pooled: bool,
    url: str,
    undisturbed: dict[str, Any],
    set_by_the_operator: Callable[[str, str], None],
) -> None:
    if (name, pooled) == ("idle_session_timeout", True):
        pytest.skip("how long a pooler's session may be idle is the pooler's")
    if name not in known(url):
        pytest.skip("this PostgreSQL does not know it")
    set_by_the_operator(name, value_of(name))
    assert asyncio.run(served(url, pooled)) == undisturbed


def test_the_operators_defaults_all_at_once_disturb_no_request(
    url: str,
    set_by_the_operator: Callable[[str, str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for name in OVERRIDES.keys() & known(url):
        set_by_the_operator(name, value_of(name))
    with servers.running(tmp_path_factory.mktemp("defaults"), NEON_DATABASE_URL=url) as server:
        servers.wait_until_up(server, "/ready")
        ada = Person(server.url, "ada")
        with ada.client:
            task = ada.has("Drink ☕\\n", "'quoted' \\ ☕")
            assert ada.patch(f"/{task['id']}/complete").json()["data"]["completed"] is True
            assert ada.put(task["id"], {"description": None}).status_code == 200
            assert [found["title"] for found in ada.get().json()["data"]] == ["Drink ☕\\n"]
            assert ada.delete(task["id"]).status_code == 200
            assert ada.request("POST", "/v1/changes/4/undo").status_code == 200
            logged = [change["op"] for change in ada.request("GET", "/v1/changes").json()["data"]]
            assert logged == ["create", "update", "update", "delete", "restore"]
        assert "ERROR" not in server.printed()


@pytest.mark.parametrize("name", OVERRIDES)
def test_what_somebody_left_in_a_session_changes_nothing(
    name: str,
    proxy: pooler.Proxy,
    url: str,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name not in known(url):
        pytest.skip("this PostgreSQL does not know it")
    monkeypatch.setattr(proxy, "left_behind", f"SET {name} = {value_of(name)}")
    assert asyncio.run(served(proxy.url)) == undisturbed


@pytest.mark.parametrize(
    "has_own_pid", [False, True], ids=["the server's process id", "a process id of its own"]
)
@pytest.mark.parametrize("left", LEFT_BEHIND)
def test_no_table_statement_lock_or_login_of_somebody_else_is_ours(
    left: str,
    has_own_pid: bool,
    proxy: pooler.Proxy,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy, "left_behind", left)
    monkeypatch.setattr(proxy, "has_own_pid", has_own_pid)
    assert asyncio.run(opened(proxy.url, a_day_of)) == undisturbed


# --- what cannot be set right is refused ---

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
NOT_RESTRICTED = {
    "a role that bypasses": (
        f"ALTER ROLE {migrate.ROLE} BYPASSRLS",
        f"ALTER ROLE {migrate.ROLE} NOBYPASSRLS",
    ),
    "a role with all power": (
        f"ALTER ROLE {migrate.ROLE} SUPERUSER",
        f"ALTER ROLE {migrate.ROLE} NOSUPERUSER",
    ),
    "a table without row security": (
        "ALTER TABLE tasks DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE tasks ENABLE ROW LEVEL SECURITY",
    ),
    "a table that is elsewhere": (
        "ALTER TABLE changes SET SCHEMA evil",
        "ALTER TABLE evil.changes SET SCHEMA public",
    ),
}


@pytest.mark.parametrize("pooled", ["false", "true"], ids=["direct", "pooled"])
@pytest.mark.parametrize("broken", NOT_RESTRICTED)
def test_a_session_that_is_not_restricted_serves_nobody(
    broken: str,
    pooled: str,
    url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaks, mends = NOT_RESTRICTED[broken]
    monkeypatch.setattr("postgres.outages._warnings", logs.OnceAMinute())

    async def break_it(database: Database) -> tuple[str, dict[str, Any]]:
        assert (await database.checks())["row_security"].ok
        await asyncio.to_thread(sql, url, breaks)
        await asyncio.to_thread(sql, url, CUT, NAME)
        try:
            with pytest.raises(Unavailable) as refused:
                await seen_by_ada(database.pool)
            return str(refused.value), await database.checks()
        finally:
            await asyncio.to_thread(sql, url, mends)
            assert await seen_by_ada(database.pool) == []

    refused, checks = asyncio.run(opened(url, break_it, DATABASE_POOLED=pooled))
    assert (
        refused
        == "The database is not set up as it must be, so it is not used; the server's log says why"
    )
    assert not checks["database"].ok
    assert "row_security" not in checks
    assert "row-level security" in caplog.text or "may bypass" in caplog.text
