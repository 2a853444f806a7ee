"""Opening the database ends well or with a sentence, whatever happens on the way; and what was
opened is closed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

import config
import database
import idempotency
import logs
from errors import SettingError, Unavailable
from main import create_app
from postgres import dsn, embedded, migrate
from postgres.pool import Pool
from tests import pooler, servers
from tests.conftest import sql
from tests.people import Person

NAME = "opening"


@pytest.fixture(scope="module")
def url(cluster: embedded.Server) -> Iterator[str]:
    sql(cluster.url, f"CREATE DATABASE {NAME}")
    own = cluster.url.replace("/todo?", f"/{NAME}?")
    asyncio.run(migrate.upgrade(dsn.parse(own)))
    yield own
    sql(cluster.url, f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def proxy(url: str) -> Iterator[pooler.Proxy]:
    with pooler.running(url) as started:
        started.passed_on = None
        yield started


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr("postgres.outages._warnings", logs.OnceAMinute())


def settings_for(url: str, **others: Any) -> config.Settings:
    variables: dict[str, Any] = {"_env_file": None, "NEON_DATABASE_URL": url, **others}
    return config.Settings(**variables)


async def until_ready(opened: database.Database) -> None:
    async with asyncio.timeout(10):
        while not all(check.ok for check in (await opened.checks()).values()):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.02)


# --- whatever it dies of ---


def test_a_connection_that_is_cut_anywhere_in_the_proof_is_tried_again(
    proxy: pooler.Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """First the database is away, so that the start has gone on. Then each connection is cut some
    messages later."""
    proxy.cut_after = list(range(2, 120, 3))

    async def start() -> int:
        opened = database.Database(settings_for(proxy.url))
        proxy.refuses = True
        try:
            await opened.open()
            proxy.refuses = False
            await until_ready(opened)
            return proxy.connections
        finally:
            await opened.close()

    assert asyncio.run(start()) > 20
    assert "not ready (" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError(
            "cannot call Transaction.__aexit__(): the underlying connection is closed"
        ),
        KeyError("a bug of ours"),
        RuntimeError("cannot schedule new futures after shutdown"),
        asyncpg.UndefinedTableError("a table that is gone"),
        SettingError("what was right at first"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_comes_later_is_logged_and_tried_again(
    error: Exception, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the network, the database or we ourselves may do to it: only the first try may stop a
    start."""
    inspect, fate = migrate.inspect, [OSError("away"), error, error]

    async def fail_at_first(address: dsn.Address) -> migrate.Schema:
        if fate:
            raise fate.pop(0)
        return await inspect(address)

    monkeypatch.setattr(migrate, "inspect", fail_at_first)

    async def start() -> None:
        opened = database.Database(settings_for(url))
        try:
            await opened.open()
            await until_ready(opened)
        finally:
            await opened.close()

    asyncio.run(start())
    assert f"not ready ({type(error).__name__}: {error})" in caplog.text
    assert caplog.text.count(str(error)) == 1


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (
            "ALTER TABLE changes RENAME TO elsewhere",
            r"^NEON_DATABASE_URL: .*elsewhere|changes.* does not exist",
        ),
        (
            "ALTER TABLE tasks DISABLE ROW LEVEL SECURITY",
            "^NEON_DATABASE_URL: row-level security does not hold",
        ),
    ],
)
def test_what_will_not_pass_stops_the_start_with_a_sentence(
    statement: str, sentence: str, cluster: embedded.Server, url: str
) -> None:
    sql(cluster.url, f"CREATE DATABASE opening_broken TEMPLATE {NAME}")
    try:
        broken = cluster.url.replace("/todo?", "/opening_broken?")
        sql(broken, statement)
        with pytest.raises(SettingError, match=sentence) as stopped:
            asyncio.run(start_and_close(broken))
        assert "\n" not in str(stopped.value)
    finally:
        sql(cluster.url, "DROP DATABASE opening_broken WITH (FORCE)")


async def start_and_close(url: str) -> None:
    opened = database.Database(settings_for(url, environment="production"))
    try:
        await opened.open()
    finally:
        await opened.close()


# --- what was opened is closed ---


@pytest.mark.parametrize(
    "ends", ["with a secret that cannot be used", "with an error while it serves"]
)
def test_an_application_that_ends_badly_closes_its_database(ends: str, url: str) -> None:
    secret = (
        "-----BEGIN PUBLIC KEY-----" * 2
        if "secret" in ends
        else "a-test-secret-of-more-than-32-bytes"
    )

    async def serve() -> None:
        app = create_app(settings_for(url, better_auth_secret=secret))
        async with app.router.lifespan_context(app) as state:
            assert state is not None
            await state["database"].pool.read("SELECT 1")
            raise ZeroDivisionError

    async def run() -> set[Any]:
        with pytest.raises((SettingError, ZeroDivisionError)):
            await serve()
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(run()) == set()
    mine = "SELECT FROM pg_stat_activity WHERE application_name = 'todo-api' AND datname = current_database()"
    assert sql(url, mine) == []


# --- how many connections ---


async def crowd(databases: list[database.Database]) -> list[Exception]:
    """What goes wrong while all of them are busy at once."""
    reads = [
        opened.pool.read("SELECT FROM pg_sleep(0.05)") for opened in databases for _ in range(40)
    ]
    return [
        result
        for result in await asyncio.gather(*reads, return_exceptions=True)
        if isinstance(result, Exception)
    ]


@pytest.mark.parametrize(
    ("limit", "lifted"),
    [
        ("ALTER ROLE opening_web CONNECTION LIMIT 9", "ALTER ROLE opening_web CONNECTION LIMIT -1"),
        (f"ALTER DATABASE {NAME} CONNECTION LIMIT 9", f"ALTER DATABASE {NAME} CONNECTION LIMIT -1"),
    ],
    ids=["of the login", "of the database"],
)
def test_workers_share_the_connections_that_there_are(
    limit: str, lifted: str, url: str, caplog: pytest.LogCaptureFixture, web_login: str
) -> None:
    sql(url, limit)

    async def work() -> tuple[list[int], list[Any]]:
        workers = [database.Database(settings_for(web_login, web_concurrency=3)) for _ in range(3)]
        try:
            for worker in workers:
                await worker.open()
                await until_ready(worker)
            return [worker.pool.size for worker in workers], await crowd(workers)
        finally:
            for worker in workers:
                await worker.close()

    try:
        assert asyncio.run(work()) == ([2, 2, 2], [])
    finally:
        sql(url, lifted)
    assert "each of 3 workers uses 2 for requests" in caplog.text


@pytest.fixture(scope="module")
def web_login(url: str) -> Iterator[str]:
    sql(url, "CREATE ROLE opening_web LOGIN")
    sql(url, f"GRANT {migrate.ROLE} TO opening_web")
    sql(url, f"GRANT SELECT ON {migrate.VERSION_TABLE} TO opening_web")
    yield re.sub("//[^@]*@", "//opening_web@", url)
    sql(url, f"REVOKE ALL ON {migrate.VERSION_TABLE} FROM opening_web")
    sql(url, "DROP ROLE opening_web")


@pytest.mark.parametrize(
    ("allowed", "workers", "size"),
    [
        (None, 64, 10),
        (97, 8, 10),
        (97, 9, 9),
        (47, 8, 4),
        (20, 1, 10),
        (11, 1, 10),
        (10, 1, 9),
        (2, 1, 1),
        (0, 4, 1),
    ],
)
def test_a_worker_and_its_housekeeping_fit_into_its_share(
    allowed: int | None, workers: int, size: int
) -> None:
    assert database.share(allowed, workers) == size


def test_the_embedded_database_lets_all_workers_in(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def start(data_dir: Any, connections: int = 0) -> embedded.Server:
        asked.append(connections)
        raise embedded.EmbeddedError("that is all")

    monkeypatch.setattr(embedded, "start", start)
    variables: dict[str, Any] = {
        "_env_file": None,
        "data_dir": tmp_path_factory.mktemp("data"),
        "web_concurrency": 8,
    }
    with pytest.raises(SettingError, match="that is all"):
        database.address(config.Settings(**variables))
    assert database.share(asked[0] - 5, 8) == 10  # five are kept back, at most


# --- why it was not done ---


def raising(state: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'as it happens' USING ERRCODE = '{state}'; END $$"


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (
            "SELECT pg_cancel_backend(pg_backend_pid())",
            "The database stopped this before it was done; try again shortly",
        ),
        ("SELECT FROM pg_sleep(5)", "The database took too long to answer; try again shortly"),
        (raising("disk_full"), "The database has no room to store this; try again later"),
        (raising("out_of_memory"), "The database is overloaded; try again shortly"),
        (
            raising("read_only_sql_transaction"),
            "The database takes no changes at the moment; try again shortly",
        ),
        (raising("deadlock_detected"), "Other changes came in between; try again"),
        (raising("admin_shutdown"), "The database is starting or stopping; try again shortly"),
        (
            "SELECT pg_terminate_backend(pg_backend_pid())",
            "The database is out of reach; try again shortly",
        ),
    ],
)
def test_each_outage_has_a_sentence_that_is_true(
    statement: str, sentence: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> str:
        pool = Pool(dsn.parse(url), None, size=1)
        try:
            with pytest.raises(Unavailable) as refused:
                await pool.write(statement, seconds=0.3)
            return str(refused.value)
        finally:
            await pool.close()

    assert asyncio.run(ask()) == sentence
    assert "WARNING" in caplog.text


@pytest.mark.parametrize(
    ("statement", "sentence", "logged"),
    [
        (
            "SELECT pg_advisory_xact_lock(1)",
            "Your other writes are still under way; try again shortly",
            False,
        ),
        ("SELECT FROM tasks", "The database is being changed; try again shortly", True),
    ],
)
def test_who_waits_for_their_own_writes_is_told_so(
    statement: str, sentence: str, logged: bool, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> str:
        pool = Pool(dsn.parse(url), None, size=1)
        other = await asyncpg.connect(url)
        try:
            async with other.transaction():
                await other.execute("SELECT pg_advisory_xact_lock(1); LOCK TABLE tasks")
                with pytest.raises(Unavailable) as refused:
                    await pool.transaction(lambda begun: in_a_function(begun, statement))
            return str(refused.value)
        finally:
            await other.close()
            await pool.close()

    async def in_a_function(begun: Any, statement: str) -> None:
        """As all writes are; lock_timeout is made short."""
        await begun.write("SET LOCAL lock_timeout = '50ms'")
        await begun.write(f"DO $$ BEGIN PERFORM 1 FROM ({statement}) AS waits; END $$")

    assert asyncio.run(ask()) == sentence
    assert ("LockNotAvailableError" in caplog.text) == logged


def test_a_table_that_is_locked_is_not_mistaken_for_the_same_request_at_work(url: str) -> None:
    async def never(_: Any) -> idempotency.StoredAnswer:
        raise AssertionError("it waits for the kept answers")

    async def ask() -> None:
        pool = Pool(dsn.parse(url), None, size=1)
        other = await asyncpg.connect(url)
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE idempotency_keys")
                await idempotency.once(pool, "ada", "key", b"", never)
        finally:
            await other.close()
            await pool.close()

    with pytest.raises(Unavailable, match=r"^The database is being changed; try again shortly$"):
        asyncio.run(ask())


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "one"}], ids=["", "with a key"])
@pytest.mark.parametrize(
    ("path", "body"),
    [("tasks", {"title": "Buy milk"}), ("lists", {"name": "Home"})],
    ids=["stores at once", "reads first"],
)
def test_a_request_behind_writes_of_the_same_user_is_told_so(
    path: str,
    body: dict[str, str],
    headers: dict[str, str],
    ada: Person,
    server: servers.Running,
    database_url: str,
) -> None:
    async def ask() -> tuple[int, str]:
        other = await asyncpg.connect(database_url)
        try:
            await other.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", ada.id)
            refused = await asyncio.to_thread(
                ada.request, "POST", f"/v1/{path}", json=body, headers=headers
            )
            return refused.status_code, refused.json()["error"]
        finally:
            await other.close()

    said = len(server.printed())
    assert asyncio.run(ask()) == (503, "Your other writes are still under way; try again shortly")
    assert "WARNING" not in server.printed()[said:]
