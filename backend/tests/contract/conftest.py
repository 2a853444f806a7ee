"""The contract's people live as long as a module: tables of requests would else spend their time on
new clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import idempotency
from errors import IdempotencyInProgress
from postgres import dsn, embedded
from postgres.pool import Pool, Transaction
from tests import servers
from tests.conftest import sql
from tests.people import Person

BURST = 2  # of `troubled`: two requests of one user, then one every five seconds

FAIL = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the cause of it'; END $$
"""
FAIL_ON_BREAK = """
CREATE TRIGGER fail BEFORE INSERT ON tasks FOR EACH ROW WHEN (NEW.title = 'Break') EXECUTE FUNCTION fail()
"""
FAIL_AT_COMMIT = """
CREATE CONSTRAINT TRIGGER fail_at_commit AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.title = 'Break at commit') EXECUTE FUNCTION fail()
"""


@pytest.fixture(scope="module")
def ada(server: servers.Running) -> Iterator[Person]:
    person = Person(server.url, "ada")
    yield person
    person.client.close()


@pytest.fixture(scope="module")
def bob(server: servers.Running) -> Iterator[Person]:
    person = Person(server.url, "bob")
    yield person
    person.client.close()


@pytest.fixture(scope="session")
def both(
    tmp_path_factory: pytest.TempPathFactory, cluster: embedded.Server
) -> Iterator[tuple[servers.Running, servers.Running]]:
    """`troubled` and `forsaken`, started side by side."""
    sql(cluster.url, "CREATE DATABASE troubled")
    failing = cluster.url.replace("/todo?", "/troubled?")
    nowhere = f"postgresql://ada@127.0.0.1:{servers.free_port()}/todo?sslmode=disable"
    folders = [tmp_path_factory.mktemp(name) for name in ("troubled", "forsaken")]
    troubled = servers.start(folders[0], NEON_DATABASE_URL=failing, RATE_LIMIT=str(6 * BURST))
    forsaken = servers.start(folders[1], NEON_DATABASE_URL=nowhere)
    try:
        servers.wait_until_up(troubled, "/ready")
        sql(failing, FAIL)
        sql(failing, FAIL_ON_BREAK)
        sql(failing, FAIL_AT_COMMIT)
        yield troubled, servers.wait_until_up(forsaken)
    finally:
        troubled.stop()
        forsaken.stop()


@pytest.fixture(scope="session")
def troubled(both: tuple[servers.Running, servers.Running]) -> servers.Running:
    """A server with a rate limit, and a database that fails on a task titled "Break", or "Break at
    commit"."""
    return both[0]


@pytest.fixture(scope="session")
def forsaken(both: tuple[servers.Running, servers.Running]) -> servers.Running:
    """A server whose database is out of reach."""
    return both[1]


@contextmanager
def at_work(url: str, user_id: str, key: str) -> Iterator[None]:
    """Meanwhile a write of this user's with this key runs on another server, that of `url`'s
    database; it fails."""
    began, over = threading.Event(), threading.Event()

    async def work(_: Transaction) -> idempotency.StoredAnswer:
        began.set()
        await asyncio.to_thread(over.wait)
        raise IdempotencyInProgress

    async def run() -> None:
        pool = Pool(dsn.parse(url), None)
        try:
            with pytest.raises(IdempotencyInProgress):
                await idempotency.once(pool, user_id, key, b"", work)
        finally:
            await pool.close()

    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(asyncio.run, run())
        try:
            assert began.wait(5)
            yield
        finally:
            over.set()
            running.result()
