"""Sent again, a write is done once, whatever became of its first answer; and nothing is overwritten
unseen."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest

from postgres import dsn, embedded, migrate
from tests import servers
from tests.conftest import sql
from tests.contract.wire import tag
from tests.people import Person

AT_ONCE = 50
ROUNDS = 20
CLIENTS = 8
EACH = 130  # writes of a client
KILLS = 4
SECONDS = 60.0  # within which everything is acknowledged, on the slowest machine
COME_BACK = (409, 503)
PAUSE_SECONDS = 0.005
WRITERS = 6
MARKS = 10  # of a writer


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


# --- one key, many at once ---


async def post_at_once(
    clients: list[httpx.AsyncClient], url: str, title: str
) -> list[httpx.Response]:
    """With one key. What each client hears at last: who is told to come back does."""
    headers = key()

    async def post(client: httpx.AsyncClient) -> httpx.Response:
        while True:
            answer = await client.post(url, json={"title": title}, headers=headers)
            if answer.status_code not in COME_BACK:
                return answer
            await asyncio.sleep(PAUSE_SECONDS)

    return await asyncio.gather(*map(post, clients))


def test_of_fifty_at_once_with_one_key_one_is_done_and_all_get_its_answer(ada: Person) -> None:
    async def rounds() -> list[list[httpx.Response]]:
        base_url, headers, tls = (
            ada.client.base_url,
            ada.client.headers,
            httpx.create_ssl_context(verify=False),
        )
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    httpx.AsyncClient(base_url=base_url, headers=headers, timeout=20, verify=tls)
                )
                for _ in range(AT_ONCE)  # a pool of fifty connections would take its time to choose
            ]
            async with asyncio.timeout(SECONDS):
                return [
                    await post_at_once(clients, ada.tasks, f"Round {number}")
                    for number in range(ROUNDS)
                ]

    answered = asyncio.run(rounds())
    for answers in answered:
        assert {answer.status_code for answer in answers} == {201}
        assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {
            None: 1,
            "true": AT_ONCE - 1,
        }
        told = {
            (answer.content, answer.headers["etag"], answer.headers["location"])
            for answer in answers
        }
        assert len(told) == 1
    found = ada.get().json()["data"]
    assert [task["title"] for task in found] == [
        f"Round {number}" for number in reversed(range(ROUNDS))
    ]
    assert found == [answers[0].json()["data"] for answers in reversed(answered)]


# --- answers that are lost ---


def hang_up(request: httpx.Request, when_answered: bool) -> None:
    """Send it, and cut the connection without having read a byte: at once, or as soon as there is
    an answer."""
    head = [f"{request.method} {request.url.raw_path.decode()} HTTP/1.1"]
    head += [f"{name}: {value}" for name, value in request.headers.items()]
    with socket.create_connection((request.url.host, request.url.port or 80)) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + request.content)
        if when_answered:
            select.select([connection], [], [], SECONDS)


def toggle_twice(
    person: Person, task_id: int, headers: dict[str, str], when_answered: bool
) -> httpx.Response:
    """As who has lost the answer and sends it again."""
    path = f"{person.tasks}/{task_id}/complete"
    hang_up(person.client.build_request("PATCH", path, headers=headers), when_answered)
    return person.request("PATCH", path, headers=headers)


def test_a_toggle_whose_answer_was_lost_flips_once(ada: Person) -> None:
    task = ada.has("Flip me")
    for turn in range(1, 41):
        answer = toggle_twice(ada, task["id"], key(), when_answered=turn % 4 > 1)
        flipped = answer.json()["data"]
        assert (flipped["version"], flipped["completed"]) == (task["version"] + turn, turn % 2 == 1)
        assert "idempotency-replayed" in answer.headers or turn % 4 < 2
    assert ada.get(f"/{task['id']}").json()["data"] == flipped


def test_without_a_key_it_flips_back(ada: Person) -> None:
    """The control."""
    task = ada.has("Flip me")
    for _ in range(40):
        flipped = toggle_twice(ada, task["id"], {}, when_answered=True).json()["data"]
    assert flipped["version"] == task["version"] + 80


# --- servers that are killed ---


class Relay:
    """Servers on one database. Clients ask the first that was not killed."""

    def __init__(self, database_url: str, folders: list[Path]) -> None:
        self.database_url = database_url
        self.servers = [servers.start(folder, NEON_DATABASE_URL=database_url) for folder in folders]
        self.killed = 0

    @property
    def url(self) -> str:
        return self.servers[self.killed].url

    def kill(self) -> None:
        process = self.servers[self.killed].process
        process.kill()
        process.wait()
        self.killed += 1


@pytest.fixture(scope="module", autouse=True)
def begun(cluster: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """They start while the first tests run: one more than are killed, in both of the tests."""
    sql(cluster.url, "CREATE DATABASE retries")
    url = cluster.url.replace("/todo?", "/retries?")
    asyncio.run(migrate.upgrade(dsn.parse(url)))
    relay = Relay(url, [tmp_path_factory.mktemp("relay") for _ in range(KILLS + 2)])
    yield relay
    for server in relay.servers:
        server.process.terminate()
    for server in relay.servers:
        server.stop()
    sql(cluster.url, "DROP DATABASE retries WITH (FORCE)")


@pytest.fixture
def relay(begun: Relay) -> Relay:
    for server in begun.servers[begun.killed :]:
        servers.wait_until_up(server, "/ready")
    return begun


class Client:
    """Sends each write until it is acknowledged, every second also once without hearing the answer."""

    def __init__(self, relay: Relay, person: Person, keyed: bool) -> None:
        self.relay = relay
        self.person = person
        self.keyed = keyed
        self.acknowledged: dict[str, int] = {}  # ids by title
        self.replayed = 0
        self.cut = 0  # requests that a killed server has left without an answer

    def write(self, titles: list[str]) -> None:
        until = time.monotonic() + SECONDS
        with httpx.Client(headers=self.person.client.headers, timeout=20, verify=False) as client:
            for turn, title in enumerate(titles):
                headers = key() if self.keyed else {}
                if turn % 2:
                    with suppress(ConnectionError):
                        hang_up(self._request(client, title, headers), when_answered=turn % 4 == 1)
                while not self._is_acknowledged(client, title, headers):
                    assert time.monotonic() < until
                    time.sleep(PAUSE_SECONDS)

    def _request(self, client: httpx.Client, title: str, headers: dict[str, str]) -> httpx.Request:
        return client.build_request(
            "POST", self.relay.url + self.person.tasks, json={"title": title}, headers=headers
        )

    def _is_acknowledged(self, client: httpx.Client, title: str, headers: dict[str, str]) -> bool:
        try:
            answer = client.send(self._request(client, title, headers))
        except httpx.ConnectError:
            return False
        except httpx.TransportError:
            self.cut += 1
            return False
        assert answer.status_code in (201, *COME_BACK), answer.text
        if answer.status_code == 201:
            self.acknowledged[title] = answer.json()["data"]["id"]
            self.replayed += "idempotency-replayed" in answer.headers
        return answer.status_code == 201


def write_while_servers_are_killed(
    relay: Relay, person: Person, each: int, kills: int, keyed: bool
) -> list[Client]:
    """CLIENTS of them, who write `each`; the servers are killed at equal distances in between."""
    clients = [Client(relay, person, keyed) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as threads:
        writing = [
            threads.submit(client.write, [f"Task {number} of {place}" for number in range(each)])
            for place, client in enumerate(clients)
        ]
        for number in range(1, kills + 1):
            enough = number * CLIENTS * each // (kills + 1)
            while sum(len(client.acknowledged) for client in clients) < enough:
                assert not any(one.done() and one.exception() for one in writing)
                time.sleep(0.001)
            relay.kill()
        for one in writing:
            one.result()
    return clients


def stored(relay: Relay, person: Person) -> list[tuple[str, int]]:
    answer = httpx.get(relay.url + person.tasks, headers=person.client.headers, timeout=20)
    return [(task["title"], task["id"]) for task in answer.json()["data"]]


def test_whatever_is_killed_what_is_sent_until_acknowledged_is_done_once(
    relay: Relay, ada: Person
) -> None:
    clients = write_while_servers_are_killed(relay, ada, EACH, KILLS, keyed=True)
    acknowledged = sorted(one for client in clients for one in client.acknowledged.items())
    assert len(acknowledged) == CLIENTS * EACH >= 1_000
    assert relay.killed >= KILLS
    assert sum(client.cut for client in clients) >= KILLS  # they were killed at work
    assert (
        sum(client.replayed for client in clients) >= CLIENTS * EACH // 8
    )  # and many a lost answer told of a write
    assert sorted(stored(relay, ada)) == acknowledged
    [(changes,)] = sql(
        relay.database_url, "SELECT count(*) FROM changes WHERE user_id = $1", ada.id
    )
    assert changes == len(acknowledged)


def test_without_keys_it_would_be_done_twice(relay: Relay, ada: Person) -> None:
    """The control."""
    clients = write_while_servers_are_killed(relay, ada, 20, 1, keyed=False)
    times = Counter(title for title, _ in stored(relay, ada))
    assert set(times) == {title for client in clients for title in client.acknowledged}
    assert max(times.values()) > 1


# --- read, and written with If-Match ---


class Put(NamedTuple):
    """A mark appended to the description that was read at a version."""

    mark: str
    read: httpx.Response
    answer: httpx.Response


def described(answer: httpx.Response) -> str:
    return str(answer.json()["data"]["description"])


def put_marks(
    person: Person, task_id: int, marks: list[str], guarded: bool, begin: threading.Barrier
) -> list[Put]:
    """Each of `marks` once, after as many attempts as it takes."""
    puts: list[Put] = []
    begin.wait()
    for mark in marks:
        while not (puts and puts[-1].mark == mark and puts[-1].answer.status_code == 200):
            read = person.get(f"/{task_id}")
            headers = {"If-Match": read.headers["etag"]} if guarded else {}
            description = described(read) + mark
            puts.append(
                Put(mark, read, person.put(task_id, {"description": description}, headers=headers))
            )
    return puts


def put_at_once(person: Person, task_id: int, guarded: bool) -> list[Put]:
    begin = threading.Barrier(WRITERS)
    marks = [[f"{writer}{'abcdefghij'[number]} " for number in range(MARKS)] for writer in "uvwxyz"]
    with ThreadPoolExecutor(WRITERS) as threads:
        writing = [threads.submit(put_marks, person, task_id, own, guarded, begin) for own in marks]
        return [put for one in writing for put in one.result()]


def lost_marks(person: Person, task_id: int, puts: list[Put]) -> dict[str, int]:
    """By how much a mark is there more or less often than it was acknowledged."""
    there = Counter(described(person.get(f"/{task_id}")).split())
    there.subtract(["begun", *(put.mark.strip() for put in puts if put.answer.status_code == 200)])
    return {mark: times for mark, times in there.items() if times}


def test_with_if_match_each_success_builds_on_exactly_one_version(ada: Person) -> None:
    task = ada.has("Mark me", "begun ")
    puts = put_at_once(ada, task["id"], guarded=True)
    successes = [put for put in puts if put.answer.status_code == 200]
    refused = [put for put in puts if put.answer.status_code == 412]
    assert len(successes) == WRITERS * MARKS
    assert len(refused) == len(puts) - len(successes) > 0
    assert lost_marks(ada, task["id"], puts) == {}

    said = {tag(task): "begun "}
    said |= {put.answer.headers["etag"]: described(put.answer) for put in successes}
    assert len(said) == 1 + len(successes)  # each has a version of its own
    assert len({put.read.headers["etag"] for put in successes}) == len(
        successes
    )  # and replaced one of its own
    for put in successes:
        assert described(put.answer) == said[put.read.headers["etag"]] + put.mark
    for put in puts:  # whoever is shown a version, also by a 412, is shown what it is
        assert described(put.read) == said[put.read.headers["etag"]]
        assert described(put.answer) == said[put.answer.headers["etag"]]
    for put in refused:
        assert put.answer.headers["etag"] != put.read.headers["etag"]


def test_without_if_match_marks_are_lost(ada: Person) -> None:
    """The control."""
    task = ada.has("Mark me", "begun ")
    lost = lost_marks(ada, task["id"], put_at_once(ada, task["id"], guarded=False))
    assert lost
