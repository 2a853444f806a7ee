"""One PostgreSQL and one server for the whole run; every person is new, so no test sees another's
tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from postgres import dsn, embedded, migrate
from tests import servers
from tests.people import Person


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    server = embedded.start(tmp_path_factory.mktemp("cluster") / "postgres", durable=False)
    server.url = plain(server.url)
    asyncio.run(
        migrate.upgrade(dsn.parse(server.url))
    )  # here, where Alembic is loaded once for all
    yield server
    server.stop()


def plain(url: str) -> str:
    """As a person writes it: tests put another login, database or parameter into it, and give it to
    other drivers."""
    head, _, query = url.partition("?")
    place = [part for part in query.split("&") if part.startswith(("host=", "port="))]
    return f"{head.replace(f':{embedded.NOT_ASKED_FOR}@', '@')}?{'&'.join(place)}"


@pytest.fixture(scope="session")
def database_url(cluster: embedded.Server) -> str:
    return cluster.url


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, database_url: str
) -> Iterator[servers.Running]:
    folder = tmp_path_factory.mktemp("server")
    with servers.running(folder, how="anew", NEON_DATABASE_URL=database_url) as started:
        yield servers.wait_until_up(started, "/ready")


@pytest.fixture
def person(server: servers.Running) -> Iterator[Callable[[str], Person]]:
    met: list[Person] = []

    def meet(name: str) -> Person:
        met.append(Person(server.url, name))
        return met[-1]

    yield meet
    for one in met:
        one.client.close()


@pytest.fixture
def ada(person: Callable[[str], Person]) -> Person:
    return person("ada")


@pytest.fixture
def bob(person: Callable[[str], Person]) -> Person:
    return person("bob")


@pytest.fixture
def empty_database(cluster: embedded.Server) -> Iterator[Callable[[], str]]:
    """Makes empty databases; returns their URLs and drops them afterwards."""
    made: list[str] = []

    def make() -> str:
        made.append(f"empty_{len(made)}_{id(made)}")
        sql(cluster.url, f"CREATE DATABASE {made[-1]}")
        return cluster.url.replace("/todo?", f"/{made[-1]}?")

    yield make
    for name in made:
        sql(cluster.url, f"DROP DATABASE {name} WITH (FORCE)")


def sql(url: str, statement: str, *arguments: Any) -> list[Any]:
    """Run one statement as the cluster's superuser, past all isolation."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            rows: list[Any] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()

    return asyncio.run(run())


def waiting_for_locks(url: str) -> int:
    """How many sessions wait for a lock that another one holds."""
    return len(
        sql(
            url,
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
    )
