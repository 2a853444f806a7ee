"""What Neon asks of its clients, on this machine: verified certificates, a transaction pooler, cut
sessions."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

import tasks
from errors import SettingError
from postgres import dsn, embedded, pool, sessions
from tests import pgbouncer, servers, tls
from tests.conftest import sql
from tests.people import Person

PEOPLE = 16
ROUNDS = 3
OWNER, OWNER_PASSWORD = tls.LOGIN, "owner-password"
WEB, WEB_PASSWORD = "web", "web-password"  # owns nothing

CUT_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"


# --- TLS ---


class Servers(NamedTuple):
    """Servers of the product on one PostgreSQL with TLS, each with its own idea of what to verify."""

    postgres: tls.Postgres
    certified: servers.Running
    unverified: servers.Running
    bound: servers.Running
    distrusting: servers.Running


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    postgres = tls.Postgres(tmp_path_factory.mktemp("tls"))
    certificate, key = postgres.client
    trust = str(postgres.authority.file)
    with_files = f"sslmode=verify-full&sslrootcert={trust}&sslcert={certificate}&sslkey={key}"
    binding = "sslmode=require&channel_binding=require"
    asked: list[tuple[str, str, dict[str, str]]] = [
        (tls.CERTIFIED, with_files, {}),
        (tls.PLAIN, "sslmode=require", {}),
        (tls.PLAIN, binding, {"SSL_CERT_FILE": trust}),
        (tls.PLAIN, binding, {"SSL_CERT_FILE": str(postgres.stranger.file)}),
    ]
    started = []
    try:
        for number, (database, parameters, variables) in enumerate(asked):
            folder = tmp_path_factory.mktemp(f"server{number}")
            url = postgres.url(database, parameters)
            started.append(
                servers.start(folder, NEON_DATABASE_URL=url, HOME=str(folder), **variables)
            )
        for server in started[:3]:
            servers.wait_until_up(server, "/ready")
        servers.wait_until_up(started[3])
        yield Servers(postgres, *started)
    finally:
        stop_all(started)
        postgres.stop()


def lives_its_life(server: servers.Running) -> Person:
    ada = Person(server.url, "ada")
    task = ada.has("Buy milk")
    assert ada.patch(f"/{task['id']}/complete").json()["data"]["completed"] is True
    assert [found["id"] for found in ada.get().json()["data"]] == [task["id"]]
    return ada


def ready(server: servers.Running) -> dict[str, Any]:
    report: dict[str, Any] = httpx.get(f"{server.url}/ready").json()
    return report


def test_client_and_server_know_each_other_by_certificates(over_tls: Servers) -> None:
    lives_its_life(over_tls.certified).client.close()
    assert ready(over_tls.certified)["checks"]["row_security"]["ok"] is True


def test_sslmode_require_encrypts_without_verifying(over_tls: Servers) -> None:
    lives_its_life(over_tls.unverified).client.close()


def test_channel_binding_require_verifies_by_what_the_machine_trusts(over_tls: Servers) -> None:
    lives_its_life(over_tls.bound).client.close()
    assert (
        "channel_binding=require is answered by verifying the server's certificate"
        in over_tls.bound.printed()
    )


def test_a_server_that_the_machine_does_not_trust_gets_no_password(over_tls: Servers) -> None:
    ada = Person(over_tls.distrusting.url, "ada")
    refusal = ada.post({"title": "Buy milk"})
    assert (refusal.status_code, refusal.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert httpx.get(f"{over_tls.distrusting.url}/ready").status_code == 503
    assert "CERTIFICATE_VERIFY_FAILED" in over_tls.distrusting.printed()
    ada.client.close()


def test_no_server_prints_the_password(over_tls: Servers) -> None:
    for server in over_tls[1:]:
        assert isinstance(server, servers.Running)
        assert tls.PASSWORD not in server.printed()
        assert tls.PASSWORD_ENCODED not in server.printed()


BOUND = "sslmode=require&channel_binding=require"


@pytest.mark.parametrize(
    ("host", "parameters", "trusted", "connects"),
    [
        ("localhost", "sslmode=verify-full&sslrootcert={authority}", None, True),
        ("localhost", "sslmode=verify-full&sslrootcert={stranger}", None, False),
        ("localhost", "sslmode=verify-ca&sslrootcert={stranger}", None, False),
        (
            "127.0.0.1",
            "sslmode=verify-full&sslrootcert={authority}",
            None,
            False,
        ),  # another name than its certificate's
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert={authority}", None, True),
        ("localhost", "sslmode=verify-full", "authority", True),
        ("localhost", "sslmode=verify-full", None, False),
        (
            "127.0.0.1",
            "sslmode=verify-ca",
            "authority",
            False,
        ),  # what everybody trusts vouches for names only
        ("localhost", BOUND, "authority", True),
        ("localhost", BOUND, "stranger", False),
        ("localhost", BOUND, None, False),
        ("127.0.0.1", BOUND, "authority", False),
        ("localhost", f"{BOUND}&sslrootcert={{authority}}", None, True),
        ("127.0.0.1", f"{BOUND}&sslrootcert={{authority}}", None, False),
        ("127.0.0.1", "sslmode=require", None, True),
        ("127.0.0.1", "", None, True),
        ("127.0.0.1", "sslmode=disable", None, False),  # pg_hba.conf knows only hostssl
    ],
)
def test_who_is_believed(
    over_tls: Servers,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    host: str,
    parameters: str,
    trusted: str | None,
    connects: bool,
) -> None:
    files = {name: str(getattr(over_tls.postgres, name).file) for name in ("authority", "stranger")}
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", files[trusted])
    address = dsn.parse(over_tls.postgres.url(tls.PLAIN, parameters.format(**files), host))
    if connects:
        asyncio.run(connect_once(address))
    else:
        with pytest.raises(
            (ssl.SSLCertVerificationError, asyncpg.InvalidAuthorizationSpecificationError)
        ):
            asyncio.run(connect_once(address))


def test_a_client_certificate_is_used_with_the_machines_trust_too(
    over_tls: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = over_tls.postgres.client
    monkeypatch.setenv("SSL_CERT_FILE", str(over_tls.postgres.authority.file))
    url = over_tls.postgres.url(
        tls.CERTIFIED, f"sslmode=verify-full&sslcert={certificate}&sslkey={key}"
    )
    asyncio.run(connect_once(dsn.parse(url)))
    other_key = over_tls.postgres.certificate[1]
    with pytest.raises(SettingError, match="sslcert and sslkey must be a certificate and its key"):
        dsn.parse(url.replace(str(key), str(other_key)))


async def connect_once(address: dsn.Address) -> None:
    session = await sessions.connect(address)
    await session.close()


def test_cut_sessions_and_a_database_that_sleeps_and_wakes(over_tls: Servers) -> None:
    ada = lives_its_life(over_tls.bound)
    assert len(sql(over_tls.postgres.admin_url, CUT_ALL, tls.PLAIN)) > 0
    assert ada.get().status_code == 200
    over_tls.postgres.stop()
    begun = time.monotonic()
    asleep = ada.get()
    assert (asleep.status_code, asleep.headers["retry-after"]) == (503, "2")
    assert time.monotonic() - begun < pool.WAIT_SECONDS + 1
    assert httpx.get(f"{over_tls.bound.url}/health").status_code == 200
    over_tls.postgres.start()
    assert ada.get().status_code == 200
    assert ada.post({"title": "Buy bread"}).status_code == 201
    ada.client.close()


# --- the pooler ---


class Pooled(NamedTuple):
    """Databases behind PgBouncer; a server that knows only PgBouncer, and one that migrates past
    it."""

    postgres_url: str
    url: str
    server: servers.Running
    migrating_directly: servers.Running


@pytest.fixture(scope="module")
def behind_a_pooler(
    cluster: embedded.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pooled]:
    if pgbouncer.program() is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    folder = tmp_path_factory.mktemp("pgbouncer")
    prepare_logins(cluster.url)
    logins = {OWNER: OWNER_PASSWORD, WEB: WEB_PASSWORD}
    with pgbouncer.running(folder, dsn.parse(cluster.url).host, logins) as port:
        url = f"postgresql://{OWNER}:{OWNER_PASSWORD}@127.0.0.1:{port}/neon"
        split = {
            "NEON_DATABASE_URL": f"postgresql://{WEB}:{WEB_PASSWORD}@127.0.0.1:{port}/neon_split",
            "NEON_DIRECT_DATABASE_URL": of_database(cluster.url, "neon_split").replace(
                "postgres@", f"{OWNER}@"
            ),
        }
        one = servers.start(folder, NEON_DATABASE_URL=url, DATABASE_POOLED="true")
        other = servers.start(folder, **split, DATABASE_POOLED="true")
        try:
            for server in (one, other):
                servers.wait_until_up(server, "/ready")
            yield Pooled(cluster.url, url, one, other)
        finally:
            stop_all([one, other])


def of_database(url: str, name: str) -> str:
    return url.replace("/todo?", f"/{name}?")


def stop_all(started: list[servers.Running]) -> None:
    for server in started:
        server.process.terminate()
    for server in started:
        server.stop()


def prepare_logins(url: str) -> None:
    """What docs/database.md tells an operator to run for logins that may not make roles."""
    sql(
        url,
        f"""DO $$ BEGIN
        CREATE ROLE {OWNER} LOGIN BYPASSRLS; CREATE ROLE {WEB} LOGIN;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_app') THEN CREATE ROLE todo_app NOLOGIN; END IF;
        GRANT todo_app TO {OWNER}, {WEB};
        END $$""",
    )
    for database in ("neon", "neon_split"):
        sql(url, f"CREATE DATABASE {database} OWNER {OWNER}")
    sql(
        of_database(url, "neon_split"),
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT SELECT ON TABLES TO {WEB}",
    )


def busy_day(server: servers.Running, number: int) -> list[str]:
    """Every endpoint, ROUNDS times; returns what was not as it should be."""
    one = Person(server.url, f"person{number}")
    wrong: list[str] = []

    def look(reply: httpx.Response, status: int) -> Any:
        if reply.status_code != status:
            wrong.append(
                f"{reply.request.method} {reply.request.url}: {reply.status_code} {reply.text}"
            )
            return {}
        data = reply.json()["data"]
        for task in data if isinstance(data, list) else [data] if data else []:
            assert (task["user_id"], task["title"][: len(one.id)]) == (one.id, one.id)
        return data

    with one.client:
        for _ in range(ROUNDS):
            task = look(one.post({"title": f"{one.id} a"}), 201)
            look(one.get(f"/{task.get('id')}"), 200)
            look(one.put(task.get("id"), {"title": f"{one.id} b", "description": "x"}), 200)
            look(one.patch(f"/{task.get('id')}/complete"), 200)
            if [found.get("id") for found in look(one.get("?filter=completed"), 200)] != [
                task.get("id")
            ]:
                wrong.append("the list of completed tasks is not this person's one")
            look(one.delete(task.get("id")), 200)
            if look(one.get(), 200) != []:
                wrong.append("tasks that this person does not have")
    return wrong


def test_many_people_at_once_through_two_sessions(behind_a_pooler: Pooled) -> None:
    with ThreadPoolExecutor(PEOPLE) as threads:
        wrong = list(
            threads.map(lambda number: busy_day(behind_a_pooler.server, number), range(PEOPLE))
        )
    assert wrong == [[]] * PEOPLE
    report = ready(behind_a_pooler.server)
    assert report["status"] == "ready"
    detail = "row-level security proven at start, and seen to hold on every session"
    assert report["checks"]["row_security"] == {"ok": True, "detail": detail}


def test_a_long_list_takes_fewer_steps_because_each_is_four_round_trips(
    behind_a_pooler: Pooled,
) -> None:
    fill = """
        INSERT INTO tasks (user_id, title, version, created_at)
        SELECT $1, 'Task ' || n, n, now() - n * interval '1 s' FROM generate_series(1, $2::int) AS n
    """
    listed = {}
    for number in (tasks.BATCH_POOLED, 2 * tasks.BATCH_POOLED + 1):
        ada = Person(behind_a_pooler.server.url, "ada")
        sql(of_database(behind_a_pooler.postgres_url, "neon"), fill, ada.id, number)
        with ada.client:
            reply = ada.get()
        assert [task["version"] for task in reply.json()["data"]] == list(range(1, number + 1))
        listed[number] = "content-length" in reply.headers
    assert list(listed.values()) == [True, False]  # in one step, in several


def test_nothing_of_a_request_stays_in_the_poolers_sessions(behind_a_pooler: Pooled) -> None:
    lives_its_life(behind_a_pooler.server).client.close()
    query = """SELECT pg_backend_pid() AS pid, nullif(current_setting('app.user_id', true), '') AS user_id,
        current_user AS role, current_setting('statement_timeout') AS limit, pg_sleep(0.1)"""

    async def look() -> list[Any]:
        clients = [
            await asyncpg.connect(behind_a_pooler.url, statement_cache_size=0)
            for _ in range(pgbouncer.POOL_SIZE)
        ]
        rows = await asyncio.gather(*(client.fetchrow(query) for client in clients))
        for client in clients:
            await client.close()
        return rows

    found = asyncio.run(look())
    assert len({row["pid"] for row in found}) == pgbouncer.POOL_SIZE
    assert {(row["user_id"], row["role"], row["limit"]) for row in found} == {(None, OWNER, "0")}
    assert (
        sql(behind_a_pooler.postgres_url, "SELECT FROM pg_locks WHERE locktype = 'advisory'") == []
    )
    states = sql(
        behind_a_pooler.postgres_url, "SELECT state FROM pg_stat_activity WHERE datname = 'neon'"
    )
    assert [row["state"] for row in states] == ["idle"] * pgbouncer.POOL_SIZE


def test_cut_sessions_behind_the_pooler_are_not_noticed(behind_a_pooler: Pooled) -> None:
    ada = lives_its_life(behind_a_pooler.server)
    for _ in range(5):
        assert len(sql(behind_a_pooler.postgres_url, CUT_ALL, "neon")) > 0
        assert ada.get().status_code == 200
    ada.client.close()


def test_migrations_take_the_direct_way(behind_a_pooler: Pooled) -> None:
    """The login behind the pooler owns nothing and may not create a table; the direct one owns the
    database."""
    lives_its_life(behind_a_pooler.migrating_directly).client.close()
    assert ready(behind_a_pooler.migrating_directly)["checks"]["row_security"]["ok"] is True
    split = of_database(behind_a_pooler.postgres_url, "neon_split")
    owners = sql(split, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert [row["tableowner"] for row in owners] == [OWNER]
    users = "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'neon_split' AND pid <> pg_backend_pid()"
    assert [row["usename"] for row in sql(split, users)] == [WEB]
