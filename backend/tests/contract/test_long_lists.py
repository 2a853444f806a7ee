"""Contract, section "The six endpoints": a list of any length is sent as it is read."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse, IncompleteRead
from typing import Any

import pytest

import tasks
from postgres import pool
from tests import servers
from tests.conftest import sql
from tests.contract.wire import Reply, ask, number
from tests.people import Person
from web import answers

Meet = Callable[[str], Person]

SECONDS = 20
LONG = 15 * tasks.BATCH
FULL = (
    "\N{MUSICAL SYMBOL G CLEF}" * 1000
)  # 4 KB: LONG of them are more than the network takes for who does not read
ACCESS = "GET /api/{user_id}/tasks 200 "
FAILED, UNAVAILABLE = (ACCESS.replace("200", status) for status in ("500", "503"))
END, CHUNKED_END = b'],"message":"Tasks retrieved"}', b"\r\n0\r\n\r\n"

FILL = """
INSERT INTO tasks (user_id, title, description, completed, completed_at, version, created_at)
SELECT $1, 'Task ' || n, $3, n % 3 = 0, CASE WHEN n % 3 = 0 THEN now() END, n, now() - n / 7 * interval '1 second'
FROM generate_series(1, $2) AS n
"""  # seven at once, so that batches end between equals
COUNT = "INSERT INTO change_counters (user_id, seq, at) VALUES ($1, $2, now())"
OLDEST = "SELECT id FROM tasks WHERE user_id = $1 ORDER BY created_at, id LIMIT 1"
BREAK = """
CREATE POLICY breaks ON tasks AS RESTRICTIVE FOR SELECT USING (id <> {id} OR id / (id - {id}) = 1)
"""
SESSIONS = """
SELECT pid, xact_start, state_change FROM pg_stat_activity
WHERE application_name = 'todo-api' AND datname = current_database()
"""
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'todo-api' AND datname = $1"


def fill(url: str, person: Person, number: int, description: str | None = None) -> Person:
    sql(url, FILL, person.id, number, description)
    sql(url, COUNT, person.id, number)
    return person


@pytest.fixture(scope="module")
def carol(server: servers.Running, database_url: str) -> Iterator[Person]:
    """She has LONG tasks with FULL descriptions, and changes none."""
    person = fill(database_url, Person(server.url, "carol"), LONG, FULL)
    yield person
    person.client.close()


@pytest.fixture
def broken(carol: Person, database_url: str) -> Iterator[None]:
    """Whoever reads the last of carol's tasks gets an error. No plan reads it before its turn, to
    sort."""
    name = name_of(database_url)
    [oldest] = sql(database_url, OLDEST, carol.id)
    sql(database_url, BREAK.format(id=oldest["id"]))
    sql(database_url, f"ALTER DATABASE {name} SET enable_sort = off")
    begin_anew(carol, database_url)
    yield
    sql(database_url, "DROP POLICY breaks ON tasks")
    sql(database_url, f"ALTER DATABASE {name} RESET enable_sort")
    begin_anew(carol, database_url)


def begin_anew(person: Person, url: str) -> None:
    """With new sessions, which know the database's settings. The log says nothing of a list."""
    sql(url, CUT, name_of(url))
    assert person.request("GET", "/ready").status_code == 200


def whole(person: Person, query: str = "") -> Reply:
    return ask(person, "GET", f"{person.tasks}?{query}")


def joined(person: Person, filter: str = "all") -> bytes:
    """What the pages hold, as the bytes of one list."""
    pages, cursor = [], ""
    while cursor is not None:
        reply = whole(
            person, f"limit=500&filter={filter}" + (f"&cursor={cursor}" if cursor else "")
        )
        pages.append(reply.body.removeprefix(b'{"data":[').partition(END[:-1])[0])
        cursor = reply.json()["next_cursor"]
    return b'{"data":[' + b",".join(pages) + END


def request(person: Person, version: str = "1.1", method: str = "GET") -> bytes:
    lines = (
        f"{method} {person.tasks} HTTP/{version}",
        "Host: todo.example",
        f"Authorization: Bearer {person.token}",
    )
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def connected(person: Person, sent: bytes) -> Iterator[socket.socket]:
    """A connection with these requests sent, by a client of which the network holds little."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        line.settimeout(SECONDS)
        line.connect((person.client.base_url.host, person.client.base_url.port))
        line.sendall(sent)
        yield line


@contextmanager
def stalled(person: Person, database_url: str) -> Iterator[HTTPResponse]:
    """A long list of which no more is taken than the head, and the server waits."""
    with connected(person, request(person)) as line, HTTPResponse(line, method="GET") as response:
        response.begin()
        wait_until_still(database_url)
        yield response


def wait_until_still(url: str) -> None:
    """Until no statement has come from the server for a while."""
    deadline = time.monotonic() + SECONDS
    before, now = None, sql(url, SESSIONS)
    while before != now:
        assert time.monotonic() < deadline, "statements go on"
        time.sleep(0.2)
        before, now = now, sql(url, SESSIONS)


def name_of(url: str) -> str:
    """Of the database."""
    return str(sql(url, "SELECT current_database()")[0][0])


def logged(server: servers.Running, after: int, line: str = ACCESS) -> str:
    """What the log says after its first `after` characters, when the request that ends with `line`
    is over."""
    deadline = time.monotonic() + SECONDS
    while line not in server.printed()[after:]:
        assert time.monotonic() < deadline, server.printed()[after:]
        time.sleep(0.02)
    ask(
        server.url, "GET", "/health"
    )  # what the server has to say, it has said before it answers the next
    return server.printed()[after:]


# --- what is sent ---


@pytest.mark.parametrize("more", [-1, 0, 1, 2])
@pytest.mark.parametrize("batches", [1, 2, 3])
def test_a_list_of_any_length_is_its_pages_joined(
    person: Meet, database_url: str, batches: int, more: int
) -> None:
    dora = fill(database_url, person("dora"), batches * tasks.BATCH + more)
    reply = whole(dora)
    assert reply.body == joined(dora)
    assert len(reply.data) == batches * tasks.BATCH + more
    is_long = len(reply.data) > tasks.BATCH
    assert reply.headers.get("content-length") == (None if is_long else str(len(reply.body)))
    assert reply.headers.get("transfer-encoding") == ("chunked" if is_long else None)


@pytest.mark.parametrize("filter", ["pending", "completed"])
def test_a_long_list_is_filtered(carol: Person, filter: str) -> None:
    reply = whole(carol, f"filter={filter}")
    assert len(reply.data) > tasks.BATCH
    assert {task["completed"] for task in reply.data} == {filter == "completed"}
    assert reply.body == joined(carol, filter)


def test_after_a_page_all_the_rest_can_be_had(carol: Person) -> None:
    page = whole(carol, "limit=3").json()
    assert page["data"] + whole(carol, f"cursor={page['next_cursor']}").data == whole(carol).data


def test_a_long_list_has_the_headers_of_a_short_one(carol: Person) -> None:
    framing = {"content-length", "transfer-encoding", "date", "x-request-id"}
    long, short = (whole(carol, query).headers for query in ("", "limit=1"))
    assert {name: value for name, value in long.items() if name not in framing} == {
        name: value for name, value in short.items() if name not in framing
    }
    assert number(long["etag"]) == LONG


def test_a_long_list_that_is_known_is_not_sent_again(carol: Person) -> None:
    etag = whole(carol).headers["etag"]
    reply = ask(carol, "GET", carol.tasks, headers={"If-None-Match": etag})
    assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", etag)


class OneFile(io.BufferedReader):
    """Of several answers: HTTPResponse would take a file for each, and with it what was read ahead
    of the next."""

    def makefile(self, mode: str) -> OneFile:
        return self

    def close(self) -> None:
        pass


def test_other_requests_follow_on_the_same_connection(carol: Person) -> None:
    with (
        connected(carol, request(carol) + request(carol, method="HEAD") + request(carol)) as line,
        line.makefile("rb", buffering=0) as raw,
    ):
        answers_in_order: Any = OneFile(raw)
        for method in ("GET", "HEAD", "GET"):
            response = HTTPResponse(answers_in_order, method=method)
            response.begin()
            assert response.status == 200
            assert response.read().endswith(END) is (method == "GET")


def test_head_reads_no_more_than_the_beginning(
    server: servers.Running, carol: Person, broken: None
) -> None:
    said = len(server.printed())
    with (
        connected(carol, request(carol, method="HEAD")) as line,
        HTTPResponse(line, method="HEAD") as response,
    ):
        response.begin()
        assert (response.status, response.read()) == (200, b"")
        assert number(response.getheader("ETag", "")) == LONG
        assert "ERROR" not in logged(server, said, "HEAD /api/{user_id}/tasks 200 ")


def test_http_1_0_is_told_the_length(carol: Person) -> None:
    with connected(carol, request(carol, "1.0")) as line, HTTPResponse(line) as response:
        response.begin()
        assert response.getheader("Transfer-Encoding") is None
        assert response.getheader("Connection") == "close"
        body = response.read()
        assert len(body) == int(response.getheader("Content-Length", "0"))
        assert line.recv(1) == b""
    assert body == whole(carol).body


# --- while it is sent ---


def test_readers_that_stop_reading_keep_nobody_from_the_database(
    carol: Person, bob: Person, database_url: str
) -> None:
    task = bob.has("Buy milk")
    with ExitStack() as stack:
        lines = [
            stack.enter_context(connected(carol, request(carol))) for _ in range(pool.SIZE + 2)
        ]
        wait_until_still(database_url)
        assert bob.get(f"/{task['id']}").status_code == 200
        assert bob.post({"title": "Eggs"}).status_code == 201
        assert not any(session["xact_start"] for session in sql(database_url, SESSIONS))
        with HTTPResponse(lines[0]) as response:
            response.begin()
            assert response.read() == whole(carol).body


def test_what_was_there_all_the_time_is_in_the_list_once(person: Meet, database_url: str) -> None:
    dora = fill(database_url, person("dora"), LONG, FULL)
    pages = json.loads(joined(dora))["data"]
    ids = [task["id"] for task in pages]
    gone = {ids[place] for place in (0, LONG // 2, *range(LONG - tasks.BATCH - 5, LONG - 5))}
    changed = {ids[place] for place in (1, LONG // 2 + 1, LONG - 1)}
    with stalled(dora, database_url) as response:
        etag = response.getheader("ETag", "")
        made = [dora.has(f"Later {number}")["id"] for number in range(3)]
        for id in (ids[0], ids[LONG // 2]):
            dora.delete(id)
        sql(database_url, "UPDATE tasks SET deleted_at = now() WHERE id = ANY ($1)", list(gone))
        for id in changed:
            dora.put(id, {"title": "Changed"})
        got = json.loads(response.read())["data"]
    found = [task["id"] for task in got]
    assert len(found) == len(set(found))
    assert set(ids) - gone <= set(found) <= set(ids)
    assert found == [id for id in ids if id in set(found)]
    assert ids[0] in found  # sent before it was deleted
    assert ids[-6] not in found  # deleted before it was read
    assert not set(made) & set(found)
    again = ask(dora, "GET", dora.tasks, headers={"If-None-Match": etag})
    assert (again.status, [task["id"] for task in again.data]) == (
        200,
        [*made[::-1], *[i for i in ids if i not in gone]],
    )


def test_a_session_that_is_cut_midway_costs_the_reader_nothing(
    carol: Person, database_url: str
) -> None:
    with stalled(carol, database_url) as response:
        assert sql(database_url, CUT, name_of(database_url))
        assert response.read() == whole(carol).body


# --- what ends it ---


def test_an_error_midway_cuts_the_connection(
    server: servers.Running, carol: Person, broken: None
) -> None:
    said = len(server.printed())
    with connected(carol, request(carol)) as line:
        received = b"".join(iter(lambda: line.recv(2**20), b""))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.count(b"HTTP/1.1") == 1
    assert received.count(b'"user_id"') >= LONG - tasks.BATCH
    assert not received.endswith(CHUNKED_END)
    log = logged(server, said, FAILED)
    assert (log.count(FAILED), log.count("ERROR todo.web: request ")) == (1, 1)
    assert log.count("ERROR") == log.count("Traceback") == 1


def test_an_error_midway_in_http_1_0_is_an_error(carol: Person, broken: None) -> None:
    with connected(carol, request(carol, "1.0")) as line, HTTPResponse(line) as response:
        response.begin()
        assert (response.status, json.loads(response.read())["code"]) == (500, "SERVER_ERROR")


def test_a_database_that_goes_away_midway_cuts_the_connection(
    server: servers.Running, carol: Person, database_url: str
) -> None:
    name = name_of(database_url)
    elsewhere, allow = (
        database_url.replace(f"/{name}?", "/postgres?"),
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS {{}}",
    )
    with stalled(carol, database_url) as response:
        said = len(server.printed())
        sql(elsewhere, allow.format(False))
        try:
            assert sql(elsewhere, CUT, name)
            with pytest.raises(IncompleteRead):
                response.read()
        finally:
            sql(elsewhere, allow.format(True))
    log = logged(server, said, UNAVAILABLE)
    assert (log.count(UNAVAILABLE), log.count("WARNING todo.database: ")) == (1, 1)
    assert "ERROR" not in log
    assert "Traceback" not in log
    assert whole(carol, "limit=1").status == 200


@pytest.mark.parametrize("behind", [0, 1], ids=["alone", "with a request behind it"])
def test_a_client_that_leaves_midway_ends_the_reading(
    server: servers.Running, carol: Person, database_url: str, broken: None, behind: int
) -> None:
    said = len(server.printed())
    with connected(carol, request(carol) * (1 + behind)) as line:
        assert line.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        wait_until_still(database_url)
        assert ACCESS not in server.printed()[said:]
    log = logged(server, said)
    assert log.count(ACCESS) == 1
    assert not {"ERROR", "WARNING", "Traceback"} & set(log.split())


def test_nothing_is_read_for_a_client_that_has_left(
    server: servers.Running, person: Meet, database_url: str
) -> None:
    """In HTTP/1.0 the list has to be read to its end before its first byte is sent."""
    erin = fill(database_url, person("erin"), 50_000)
    said = len(server.printed())
    with connected(erin, request(erin, "1.0")):
        time.sleep(0.05)
    log = logged(server, said, "GET /api/{user_id}/tasks ")
    milliseconds = float(log.partition("/tasks ")[2].split(" ms")[0].split()[-1])
    assert milliseconds < 500  # 50,000 tasks take several times as long
    assert "client left" in log


# --- what it holds ---


def test_rows_are_let_go_as_soon_as_they_are_written() -> None:
    """They take several times the memory of their JSON, and many readers may be slow."""
    first, second = [{"id": 1}, {"id": 2}], [{"id": 3}]

    async def rest() -> AsyncIterator[list[dict[str, int]]]:
        yield second

    async def read() -> list[tuple[bytes, int]]:
        reply = answers.streamed(first, rest(), "Tasks retrieved", b'"3"')
        return [(chunk, len(first) + len(second)) async for chunk in reply.chunks]

    assert asyncio.run(read()) == [
        (b'{"data":[{"id":1},{"id":2}', 1),
        (b',{"id":3}', 0),
        (b'],"message":"Tasks retrieved"}', 0),
    ]
