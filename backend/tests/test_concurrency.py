"""Many at once: every answer is one that a single queue of callers could have got, and nobody waits
for ever."""

from __future__ import annotations

import asyncio
import select
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from postgres import dsn, embedded, migrate, pool
from tests import servers
from tests.conftest import sql, waiting_for_locks
from tests.people import Person

THREADS = 8
EACH = 20
ROUNDS = 4  # and one of whole servers
HANG_SECONDS = 8.0  # a refusal takes 2 s, a lock 1.5 s; the rest is for slow machines
BODY_BYTES = 100 * 1024 * 1024
PART = b"x" * 65536

Call = Callable[[], httpx.Response]


def at_once(*calls: Call) -> list[httpx.Response]:
    """The answers, all asked for at the same moment as far as eight threads can."""
    with ThreadPoolExecutor(max(THREADS, 1)) as threads:
        return list(threads.map(lambda call: call(), calls))


def updated_at(task: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(task["updated_at"])


class Pair:
    """Two servers, started at the same moment on one empty database."""

    def __init__(self, url: str, folders: list[Path]) -> None:
        self.database_url = url
        self.servers = [servers.start(folder, NEON_DATABASE_URL=url) for folder in folders]


@pytest.fixture(scope="module")
def pair(cluster: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    sql(cluster.url, "CREATE DATABASE concurrency")
    begun = Pair(
        cluster.url.replace("/todo?", "/concurrency?"),
        [tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")],
    )
    yield begun
    for server in begun.servers:
        server.process.terminate()
    for server in begun.servers:
        server.stop()
    sql(cluster.url, "DROP DATABASE concurrency WITH (FORCE)")


@pytest.fixture
def person(pair: Pair) -> Iterator[Callable[[str], Person]]:
    """People of this module live on the first of its own two servers."""
    url = servers.wait_until_up(pair.servers[0], "/ready").url
    met: list[Person] = []

    def meet(name: str) -> Person:
        met.append(Person(url, name))
        return met[-1]

    yield meet
    for one in met:
        one.client.close()


# --- one task, many callers ---


@pytest.mark.parametrize("times", [THREADS * EACH, THREADS * EACH + 1], ids=["even", "odd"])
def test_concurrent_toggles_flip_as_often_as_they_were_sent(times: int, ada: Person) -> None:
    task = ada.has("Flip me")
    answers = at_once(*[lambda: ada.patch(f"/{task['id']}/complete")] * times)
    assert Counter(answer.status_code for answer in answers) == {200: times}
    in_order = sorted((answer.json()["data"] for answer in answers), key=updated_at)
    assert [data["completed"] for data in in_order] == [turn % 2 == 0 for turn in range(times)]
    assert ada.get(f"/{task['id']}").json()["data"] == in_order[-1]


def test_a_write_that_another_version_of_the_functions_makes_in_between_is_kept(
    ada: Person, pair: Pair
) -> None:
    """While a migration installs them, those of before 0004 may still be at work: they lock the
    counter's row alone."""
    task = ada.has("Old")

    def until_one_waits() -> None:
        while not waiting_for_locks(pair.database_url):
            time.sleep(0.01)

    async def older_write() -> httpx.Response:
        older = await asyncpg.connect(pair.database_url)
        async with older.transaction():
            await older.execute(
                "UPDATE change_counters SET seq = seq + 1 WHERE user_id = $1", ada.id
            )
            await older.execute(
                "UPDATE tasks SET title = 'New', version = version + 1 WHERE id = $1", task["id"]
            )
            toggling = asyncio.create_task(asyncio.to_thread(ada.patch, f"/{task['id']}/complete"))
            await asyncio.to_thread(until_one_waits)
        await older.close()
        return await toggling

    toggled = asyncio.run(older_write()).json()["data"]
    assert (toggled["title"], toggled["completed"], toggled["version"]) == ("New", True, 3)
    assert ada.get(f"/{task['id']}").json()["data"] == toggled


def test_updated_at_never_repeats_and_never_goes_back(ada: Person) -> None:
    """Over updates of all kinds, the empty one included; each caller sees its own go up, and all
    are distinct."""
    task = ada.has("Update me")
    kinds: list[Call] = [
        lambda: ada.put(task["id"], {"title": "Updated"}),
        lambda: ada.put(task["id"], {}),
        lambda: ada.patch(f"/{task['id']}/complete"),
        lambda: ada.patch(f"/{task['id']}", json={"description": "More"}),
    ]

    def one_caller(first: int) -> list[datetime]:
        return [updated_at(kinds[(first + turn) % 4]().json()["data"]) for turn in range(EACH)]

    with ThreadPoolExecutor(THREADS) as threads:
        seen = list(threads.map(one_caller, range(THREADS)))
    assert all(own == sorted(own) for own in seen)
    everything = [moment for own in seen for moment in own]
    assert len(set(everything)) == THREADS * EACH
    assert min(everything) > updated_at(task)
    assert updated_at(ada.get(f"/{task['id']}").json()["data"]) == max(everything)


@pytest.mark.parametrize("completed", [True, False])
def test_setting_completed_at_once_is_done_once(completed: bool, ada: Person) -> None:
    task = ada.has("Set me")
    if not completed:
        ada.patch(f"/{task['id']}/complete")
    answers = at_once(
        *[lambda: ada.patch(f"/{task['id']}/complete", json={"completed": completed})] * 32
    )
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["data"]["completed"] for answer in answers} == {completed}
    assert len({answer.json()["data"]["updated_at"] for answer in answers}) == 1


def test_of_concurrent_deletes_one_succeeds(ada: Person) -> None:
    for _ in range(4):
        task = ada.has("Delete me")
        answers = at_once(*[partial(ada.delete, task["id"])] * 16)
        assert Counter(answer.status_code for answer in answers) == {200: 1, 404: 15}
    assert ada.get().json()["data"] == []


# --- two servers at once ---


RACE = """
import asyncio, os, sys
from postgres import dsn, migrate
from alembic import command

def race(url):
    racers = [os.fork() for _ in range(2) if os.getpid() == starter]
    if os.getpid() == starter:
        return [os.waitpid(racer, 0)[1] for racer in racers]
    asyncio.run(migrate.upgrade(dsn.parse(url)))
    os._exit(0)

starter = os.getpid()
print(*[race(url) for url in sys.argv[1:]])
"""


def test_two_starts_at_once_on_an_empty_database_both_come_up(
    pair: Pair, empty_database: Callable[[], str]
) -> None:
    """Five rounds: whole servers in one, in the others two processes with what servers would race
    for."""
    urls = [empty_database() for _ in range(ROUNDS)]
    raced = subprocess.run(
        [sys.executable, "-c", RACE, *urls],
        cwd=servers.BACKEND,
        env=servers.clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert raced.stdout.strip() == " ".join(["[0, 0]"] * ROUNDS), raced.stderr
    for url in urls:
        assert sql(url, f"SELECT version_num FROM {migrate.VERSION_TABLE}") == [(migrate.HEAD,)]
        assert asyncio.run(migrate.inspect(dsn.parse(url))).row_security_proven
    for server in pair.servers:
        servers.wait_until_up(server, "/ready")
    assert (
        sum(server.printed().count("schema brought from nothing") for server in pair.servers) == 1
    )


# --- a commit that fails ---

FAIL = "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the books do not balance'; END $$"
AT_COMMIT = """
CREATE CONSTRAINT TRIGGER fail_late AFTER INSERT OR UPDATE OR DELETE ON tasks DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION fail()
"""


def test_a_commit_that_fails_is_no_success(pair: Pair, ada: Person, bob: Person) -> None:
    task = ada.has("Was there before")
    sql(pair.database_url, FAIL)
    sql(pair.database_url, AT_COMMIT)
    try:
        answers = {
            "create": ada.post({"title": "Never stored"}),
            "update": ada.put(task["id"], {"title": "Never changed"}),
            "complete": ada.patch(f"/{task['id']}/complete"),
            "delete": ada.delete(task["id"]),
        }
        read = ada.get()
    finally:
        sql(pair.database_url, "DROP TRIGGER fail_late ON tasks")
        sql(pair.database_url, "DROP FUNCTION fail")
    generic = "Something went wrong on our side"
    for operation, answer in answers.items():
        assert answer.status_code == 500, operation
        assert answer.json() == {
            "error": generic,
            "code": "SERVER_ERROR",
            "detail": generic,
            "message": generic,
        }
    assert (read.status_code, read.json()["data"]) == (200, [task])
    assert "the books do not balance" in pair.servers[0].printed()  # the cause is in the log
    assert ada.post({"title": "Stored"}).status_code == 201


# --- no connection is free ---


@contextmanager
def locked(url: str, task_id: int) -> Iterator[None]:
    """The task's row is held by somebody else."""
    held, release = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            await connection.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task_id)
            held.set()
            await asyncio.to_thread(release.wait)
        await connection.close()

    holder = threading.Thread(target=asyncio.run, args=[hold()])
    holder.start()
    try:
        assert held.wait(HANG_SECONDS)
        yield
    finally:
        release.set()
        holder.join()


async def timed(
    client: httpx.AsyncClient, person: Person, method: str, url: str, body: Any
) -> tuple[Any, float]:
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {person.token}"}
    answer = await client.request(method, person.tasks + url, json=body, headers=headers)
    return answer, time.monotonic() - began


def test_others_are_served_or_refused_while_all_connections_are_blocked(
    pair: Pair, ada: Person, bob: Person
) -> None:
    task = ada.has("Locked")
    bobs = bob.has("Not locked")

    async def flood() -> tuple[list[tuple[Any, float]], list[tuple[Any, float]]]:
        async with httpx.AsyncClient(base_url=str(bob.client.base_url), timeout=60) as client:
            async with asyncio.TaskGroup() as group:
                blocked = [
                    group.create_task(
                        timed(client, ada, "PUT", f"/{task['id']}", {"title": f"Write {turn}"})
                    )
                    for turn in range(3 * pool.SIZE)
                ]
                await asyncio.sleep(0.2)  # now they have every connection
                others = []
                for _ in range(12):
                    others.append(
                        group.create_task(timed(client, bob, "GET", f"/{bobs['id']}", None))
                    )
                    others.append(
                        group.create_task(timed(client, bob, "POST", "", {"title": "In between"}))
                    )
                    await asyncio.sleep(0.1)
                health = (await client.get("/health")).status_code
            assert health == 200
            return [one.result() for one in blocked], [one.result() for one in others]

    with locked(pair.database_url, task["id"]):
        blocked, others = asyncio.run(flood())
    assert {answer.status_code for answer, _ in blocked} == {503}
    assert {answer.status_code for answer, _ in others} <= {200, 201, 503}
    for answer, seconds in blocked + others:
        assert seconds < HANG_SECONDS
        if answer.status_code == 503:
            assert answer.json()["code"] == "SERVICE_UNAVAILABLE"
            assert int(answer.headers["retry-after"]) >= 1

    began = time.monotonic()
    assert ada.put(task["id"], {"title": "Free again"}).status_code == 200
    created = sum(answer.status_code == 201 for answer, _ in others)
    assert len(bob.get().json()["data"]) == 1 + created  # what was refused was not done
    assert Counter(answer.status_code for answer in at_once(*[bob.get] * 3 * pool.SIZE)) == {
        200: 3 * pool.SIZE
    }
    assert time.monotonic() - began < HANG_SECONDS


@pytest.mark.parametrize("keyed", [False, True], ids=["without keys", "with keys"])
def test_one_users_blocked_writes_leave_connections_for_others(
    keyed: bool, pair: Pair, ada: Person, bob: Person
) -> None:
    task, bobs = ada.has("Locked"), bob.has("Not locked")

    def write(turn: int) -> int:
        headers = {"Idempotency-Key": str(turn)} if keyed else {}
        return ada.put(task["id"], {"title": "Waits"}, headers=headers).status_code

    flood = 3 * pool.SIZE
    with ThreadPoolExecutor(flood) as threads, locked(pair.database_url, task["id"]):
        blocked = [threads.submit(write, turn) for turn in range(flood)]
        wait_until_blocked(pair.database_url)
        time.sleep(0.2)  # now all of them have come
        assert waiting_for_locks(pair.database_url) < pool.SIZE
        reads, writes = [], []
        for _ in range(10):
            reads += [bob.get(f"/{bobs['id']}").status_code, ada.get(f"/{task['id']}").status_code]
            writes.append(bob.post({"title": "Meanwhile"}).status_code)
    assert Counter(reads + writes) == {200: 20, 201: 10}
    assert {one.result() for one in blocked} <= {200, 503}


def wait_until_blocked(url: str) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not waiting_for_locks(url):
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.02)


# --- bodies of those who are nobody ---


def resident_bytes(server: servers.Running) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


def database_calls(url: str) -> set[tuple[Any, ...]]:
    """Changes with every statement that the server sends."""
    query = """
        SELECT pid, query_start, state_change FROM pg_stat_activity
        WHERE application_name = 'todo-api' AND datname = current_database()
    """
    return {tuple(row) for row in sql(url, query)}


class Upload:
    """100 MB on their way over a socket, until all are sent or the server has hung up."""

    def __init__(self, server: servers.Running, head: str) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self.sent = self.sent_before_the_answer = 0
        self.answer = b""
        before = most = resident_bytes(server)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode())
            while self.sent < BODY_BYTES and self._goes_on(connection):
                most = max(most, resident_bytes(server))
        self.memory_bytes = most - before

    def _goes_on(self, connection: socket.socket) -> bool:
        readable, writable, _ = select.select([connection], [connection], [], HANG_SECONDS)
        assert readable or writable, "the server neither reads nor answers"
        try:
            if readable:
                self.sent_before_the_answer = self.sent_before_the_answer or self.sent
                heard = connection.recv(65536)
                self.answer += heard
                return bool(heard)
            self.sent += connection.send(PART)
        except ConnectionError:
            return False
        return True


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize(
    ("caller", "statuses"), [("nobody", {401}), ("stranger", {403}), ("owner", {413})]
)
def test_a_huge_body_costs_no_memory_and_no_database_call(
    caller: str, statuses: set[int], chunked: bool, pair: Pair, ada: Person, bob: Person
) -> None:
    ada.get()  # warm
    tokens = {"nobody": "", "stranger": f"Authorization: Bearer {bob.token}\r\n"}
    token = tokens.get(caller, f"Authorization: Bearer {ada.token}\r\n")
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {BODY_BYTES}"
    head = f"POST {ada.tasks} HTTP/1.1\r\nHost: todo\r\nContent-Type: application/json\r\n{token}{framing}\r\n\r\n"
    before = database_calls(pair.database_url)
    upload = Upload(pair.servers[0], head + (f"{BODY_BYTES:x}\r\n" if chunked else ""))
    assert database_calls(pair.database_url) == before
    status = int(upload.answer.split()[1])
    assert status in statuses | (
        set() if chunked else {413}
    )  # a declared size may be refused first
    assert upload.sent_before_the_answer < BODY_BYTES // 4
    assert upload.memory_bytes < 16 * 1024 * 1024


def test_a_database_call_would_be_seen(pair: Pair, ada: Person, bob: Person) -> None:
    ada.get()
    before = database_calls(pair.database_url)
    ada.get()
    assert database_calls(pair.database_url) != before


def test_setting_while_others_toggle_says_what_was_set(ada: Person) -> None:
    path = f"/{ada.has('Set and toggled')['id']}/complete"

    def sets(_: int) -> set[tuple[str, bool]]:
        answers = [ada.patch(path, json={"completed": True}).json() for _ in range(150)]
        return {(answer["message"], answer["data"]["completed"]) for answer in answers}

    def toggles(_: int) -> set[int]:
        return {ada.patch(path).status_code for _ in range(150)}

    with ThreadPoolExecutor(7) as threads:
        toggled, said = threads.map(toggles, range(3)), threads.map(sets, range(4))
    assert set().union(*toggled) == {200}
    assert set().union(*said) == {("Task marked as completed", True)}
