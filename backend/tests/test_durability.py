"""What was acknowledged stays, whatever is killed; a database that goes away is waited for, and
found again.

`kill -9` does not test fsync: what the kernel was given survives it. Only a power cut would tell.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from postgres import dsn, embedded, migrate
from tests import servers
from tests.conftest import sql
from tests.people import Person

SLACK_SECONDS = 3.0  # added to every promised time: the machine may be busy
REFUSED_SECONDS = 2.5  # a request without a database has its answer
RECOVERED_SECONDS = 2.0  # after the database is back
GONE_SECONDS = 3.0  # a PostgreSQL whose server was killed
ACKNOWLEDGED = 200
WRITERS = 4


def seconds_until(condition: Callable[[], bool], promised: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < promised + SLACK_SECONDS, f"not within {promised} s"
        time.sleep(0.02)
    return time.monotonic() - began


def status(url: str) -> int:
    return httpx.get(url, timeout=20, verify=False).status_code


@contextmanager
def visiting(server: servers.Running, name: str) -> Iterator[Person]:
    person = Person(server.url, name)
    yield person
    person.client.close()


# --- the server killed ---


def test_killing_the_server_loses_nothing_and_leaves_no_database_behind(tmp_path: Path) -> None:
    """With a database of its own making, in `tmp_path`."""
    server = servers.wait_until_up(servers.start(tmp_path), "/ready")
    numbers, acknowledged = itertools.count(), list[str]()
    with visiting(server, "ada") as ada, ThreadPoolExecutor(WRITERS) as threads:
        for _ in range(WRITERS):
            threads.submit(write_until_cut, ada, numbers, acknowledged)
        try:
            seconds_until(lambda: len(acknowledged) >= ACKNOWLEDGED, 20)
        finally:
            server.process.kill()
            server.process.wait()
    seconds_until(lambda: not listens(tmp_path / "data" / "postgres"), GONE_SECONDS)

    again = servers.start(tmp_path)
    try:
        servers.wait_until_up(again, "/ready")
        answer = httpx.get(
            again.url + ada.tasks, headers={"Authorization": f"Bearer {ada.token}"}, timeout=20
        )
    finally:
        again.stop()
    found = Counter(task["title"] for task in answer.json()["data"])
    assert len(acknowledged) >= ACKNOWLEDGED
    assert set(acknowledged) <= set(found)
    assert len(found) <= len(acknowledged) + WRITERS  # those that were under way
    assert set(found.values()) == {1}


def write_until_cut(person: Person, numbers: Iterator[int], acknowledged: list[str]) -> None:
    with suppress(httpx.TransportError):
        for number in numbers:
            title = f"Task {number}"
            if person.post({"title": title}).status_code == 201:
                acknowledged.append(title)


def listens(data_dir: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(data_dir / ".s.PGSQL.5432"))
        except OSError:
            return False
        return True


# --- the database away ---

THROUGH, REFUSED, STALLED, RESET, RESET_ONCE = (
    "through",
    "refused",
    "stalled",
    "reset",
    "reset once",
)


class Proxy:
    """TCP before PostgreSQL's unix socket, in one of five states.

    Refused: nobody listens, and what was open is closed. Stalled: connections are accepted and
    nothing moves; what stalled never moves again, as if a machine on the way had died. Reset: what
    is asked arrives, and then the connection is cut. Reset once: only the connections that were
    open, and new ones work.
    """

    def __init__(self, socket_file: Path) -> None:
        self.socket_file = socket_file
        self.state = REFUSED
        self.doomed: set[Link] = set()
        self._links: set[Link] = set()
        self._held = self._hold(0)
        self.port: int = self._held.getsockname()[1]
        self._accepting: threading.Thread | None = None

    def become(self, state: str) -> None:
        self.doomed = set(self._links) if state == RESET_ONCE else set()
        self.state = state
        if state == REFUSED and self._accepting is not None:
            self._held.shutdown(socket.SHUT_RDWR)
            self._accepting.join()
            self._accepting = None
            self._held = self._hold(self.port)
            for link in list(self._links):
                link.close()
        elif state != REFUSED and self._accepting is None:
            self._held.listen()
            self._accepting = threading.Thread(target=self._accept, args=[self._held], daemon=True)
            self._accepting.start()

    def close(self) -> None:
        self.become(REFUSED)
        self._held.close()

    @staticmethod
    def _hold(port: int) -> socket.socket:
        """The port is nobody else's, and refuses connections as long as nobody listens."""
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
        return held

    def _accept(self, listener: socket.socket) -> None:
        with listener, suppress(OSError):
            while True:
                client, _ = listener.accept()
                link = Link(self, client)
                self._links.add(link)
                threading.Thread(target=link.ask, daemon=True).start()

    def forget(self, link: Link) -> None:
        self._links.discard(link)


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.there: socket.socket | None = None
        self.stuck = False

    def ask(self) -> None:
        with suppress(OSError), self.client:
            while data := self.client.recv(65536):
                if self._moves():
                    self._postgres().sendall(data)
                    if self.proxy.state == RESET or self in self.proxy.doomed:
                        self.client.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                        break
        if self.there is not None:
            with suppress(OSError):
                self.there.shutdown(socket.SHUT_WR)  # what was asked is still done
        self.proxy.forget(self)

    def close(self) -> None:
        with suppress(OSError):
            self.client.shutdown(socket.SHUT_RDWR)

    def _postgres(self) -> socket.socket:
        if self.there is None:
            self.there = socket.socket(socket.AF_UNIX)
            self.there.connect(str(self.proxy.socket_file))
            threading.Thread(target=self._answer, args=[self.there], daemon=True).start()
        return self.there

    def _answer(self, there: socket.socket) -> None:
        with suppress(OSError), there:
            while data := there.recv(65536):
                if self._moves():
                    self.client.sendall(data)
        self.close()

    def _moves(self) -> bool:
        self.stuck = self.stuck or self.proxy.state == STALLED
        return not self.stuck


class Place(NamedTuple):
    """A server whose database lies behind a proxy, and what was seen when it started without that
    database."""

    proxy: Proxy
    server: servers.Running
    database_url: str  # past the proxy
    away: dict[str, httpx.Response]


@pytest.fixture(scope="module", autouse=True)
def begun(cluster: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """It starts while the first test runs. Its schema is up to date, so that coming back takes no
    migration."""
    sql(cluster.url, "CREATE DATABASE durability")
    url = cluster.url.replace("/todo?", "/durability?")
    asyncio.run(migrate.upgrade(dsn.parse(url)))
    proxy = Proxy(Path(parse_qs(urlsplit(url).query)["host"][0]) / ".s.PGSQL.5432")
    through = f"postgresql://postgres@127.0.0.1:{proxy.port}/durability"
    server = servers.start(tmp_path_factory.mktemp("away"), NEON_DATABASE_URL=through)
    yield Place(proxy, server, url, {})
    server.stop()
    proxy.close()
    sql(cluster.url, "DROP DATABASE durability WITH (FORCE)")


@pytest.fixture(scope="module")
def place(begun: Place) -> Place:
    with visiting(servers.wait_until_up(begun.server), "ada") as ada:
        begun.away.update(read=ada.get(), write=ada.post({"title": "Lost"}))
        begun.away.update({path: ada.request("GET", path) for path in ("/health", "/ready")})
    return begun


@pytest.fixture
def there(place: Place) -> Place:
    """The place, its database within reach."""
    place.proxy.become(THROUGH)
    seconds_until(lambda: status(f"{place.server.url}/ready") == 200, RECOVERED_SECONDS)
    return place


@pytest.fixture
def ada_there(there: Place) -> Iterator[Person]:
    with visiting(there.server, "ada") as ada:
        yield ada


def says_come_back(answer: httpx.Response) -> bool:
    known = (answer.status_code, answer.json().get("code")) == (503, "SERVICE_UNAVAILABLE")
    return known and int(answer.headers["retry-after"]) >= 1


def test_a_server_started_while_the_database_is_away_comes_up_and_recovers_by_itself(
    place: Place,
) -> None:
    assert place.away["/health"].status_code == 200
    assert place.away["/ready"].status_code == 503
    assert place.away["/ready"].json()["checks"]["database"]["ok"] is False
    assert says_come_back(place.away["read"])
    assert says_come_back(place.away["write"])
    place.proxy.become(THROUGH)
    seconds_until(lambda: status(f"{place.server.url}/ready") == 200, RECOVERED_SECONDS)


class Asked(NamedTuple):
    kind: str
    title: str
    answer: httpx.Response
    seconds: float


@contextmanager
def asked_all_the_while(person: Person, task_id: int, threads: int) -> Iterator[list[Asked]]:
    """Meanwhile somebody reads and writes without a pause; afterwards the list holds every answer."""
    end, asked = threading.Event(), list[Asked]()
    with ThreadPoolExecutor(threads) as pool:
        asking = [pool.submit(ask_until, end, person, task_id, first) for first in range(threads)]
        try:
            yield asked
        finally:
            end.set()
            asked += [one for future in asking for one in future.result()]


def ask_until(end: threading.Event, person: Person, task_id: int, first: int) -> list[Asked]:
    asked = []
    for turn in itertools.count(first):
        title = f"Turn {first}.{turn}"
        kind = ("read", "create", "list", "update")[turn % 4]
        began = time.monotonic()
        ask: dict[str, Callable[[], httpx.Response]] = {
            "read": partial(person.get, f"/{task_id}"),
            "create": partial(person.post, {"title": title}),
            "list": person.get,
            "update": partial(person.put, task_id, {"description": title}),
        }
        answer = ask[kind]()
        asked.append(Asked(kind, title, answer, time.monotonic() - began))
        if end.is_set():
            return asked
        time.sleep(0.01)
    raise AssertionError("never")


@pytest.mark.parametrize(
    ("state", "outage_seconds"), [(REFUSED, 0.7), (RESET, 0.7), (STALLED, 2.5)]
)
def test_a_database_that_is_away_is_said_and_found_again(
    state: str, outage_seconds: float, there: Place, ada_there: Person
) -> None:
    ada, url = ada_there, there.server.url
    task = ada.has("Was there before")
    health = list[int]()
    with ThreadPoolExecutor(1) as one_more, asked_all_the_while(ada, task["id"], 8) as asked:
        time.sleep(0.2)
        there.proxy.become(state)
        began = time.monotonic()
        asking = one_more.submit(httpx.get, f"{url}/ready", timeout=20)
        while not health or time.monotonic() - began < outage_seconds:
            health.append(status(f"{url}/health"))
            time.sleep(0.05)
    ready = asking.result()
    there.proxy.become(THROUGH)

    recovered = seconds_until(
        lambda: ada.get(f"/{task['id']}").status_code == 200, RECOVERED_SECONDS
    )
    recovered += seconds_until(
        lambda: ada.post({"title": "It is back"}).status_code == 201, RECOVERED_SECONDS - recovered
    )
    assert set(health) == {200}
    assert (ready.status_code, ready.json()["checks"]["database"]["ok"]) == (503, False)
    assert not [
        one
        for one in asked
        if one.answer.status_code not in (200, 201) and not says_come_back(one.answer)
    ]
    assert max(one.seconds for one in asked) < REFUSED_SECONDS + SLACK_SECONDS
    served, refused = (
        [one for one in asked if (one.answer.status_code == 503) is yes] for yes in (False, True)
    )
    assert served
    assert len(refused) >= 8
    stored = Counter(str(row["title"]) for row in ada.get().json()["data"])
    assert {one.title for one in served if one.kind == "create"} <= set(
        stored
    )  # what was acknowledged
    assert max(stored[one.title] for one in asked) == 1  # what was not is there once, or not at all


def test_a_write_cut_off_is_never_sent_again_and_a_read_is(there: Place, ada_there: Person) -> None:
    """The write arrived and its answer did not: whoever sent it is told, and it is not done twice."""
    ada = ada_there
    cut_off = 0
    for turn in range(4):
        ada.has(f"Prepared {turn}")
        there.proxy.become(RESET_ONCE)
        answer = ada.post({"title": f"Cut off {turn}"})
        assert (
            says_come_back(answer) or answer.status_code == 201
        )  # by a connection that was opened just then
        cut_off += answer.status_code == 503
        there.proxy.become(THROUGH)
        assert ada.get().status_code == 200
        there.proxy.become(RESET_ONCE)
        assert ada.get().status_code == 200
        there.proxy.become(THROUGH)
    assert cut_off >= 2
    written = {f"{what} {turn}" for what in ("Prepared", "Cut off") for turn in range(4)}
    seconds_until(lambda: len(ada.get().json()["data"]) >= len(written), RECOVERED_SECONDS)
    assert Counter(row["title"] for row in ada.get().json()["data"]) == dict.fromkeys(written, 1)


# --- connections cut, tables changed ---

CUT = """
SELECT count(pg_terminate_backend(pid, $1)) FROM pg_stat_activity
WHERE application_name = 'todo-api' AND datname = current_database()
"""


def test_after_idle_connections_were_cut_reads_succeed_and_writes_never_answer_500(
    there: Place, ada_there: Person
) -> None:
    ada, url = ada_there, there.database_url
    task = ada.has("Still here")
    for wait_milliseconds in (
        0,
        2000,
        0,
        2000,
    ):  # the request meets the cut, or comes when it is over
        assert sql(url, CUT, wait_milliseconds)[0][0] >= 1
        assert ada.get(f"/{task['id']}").status_code == 200
        assert sql(url, CUT, wait_milliseconds)[0][0] >= 1
        written = ada.post({"title": "After the cut"})
        assert written.status_code == 201 or says_come_back(written)
        assert ada.get().status_code == 200


def test_a_column_added_to_the_live_table_disturbs_nobody(there: Place, ada_there: Person) -> None:
    task = ada_there.has("Served throughout")
    with asked_all_the_while(ada_there, task["id"], WRITERS) as asked:
        for number in range(3):
            time.sleep(0.1)
            sql(there.database_url, f"ALTER TABLE tasks ADD COLUMN added_{number} text")
        time.sleep(0.1)
    completed = ada_there.patch(f"/{task['id']}/complete")
    answered = {(one.kind, one.answer.status_code) for one in asked}
    assert answered == {("read", 200), ("create", 201), ("list", 200), ("update", 200)}
    assert (completed.status_code, set(completed.json()["data"])) == (200, set(task))
    assert ada_there.delete(task["id"]).status_code == 200
