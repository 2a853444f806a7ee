"""The change log: every write is one numbered change, and a reader who goes by number misses none
of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

import changes
import storage
import tasks
from changes import Change
from database import OwnerDatabase
from entities import TASK
from postgres import dsn, migrate
from postgres.pool import Pool, Transaction
from tests.conftest import sql
from tests.contract.wire import number, tag
from tests.people import Person

WRITERS = 6
CHANGES = 2_000
PAGE = 20
ROUNDS = 25
ABSENT_ID = 2**62

Log = Callable[[Person], list[Change]]


@pytest.fixture
def log(database_url: str) -> Log:
    """A person's changes, oldest first."""

    async def read(user_id: str) -> list[Change]:
        pool = Pool(dsn.parse(database_url), migrate.ROLE, size=1)
        try:
            return await changes.since(OwnerDatabase(pool, user_id), 0, 1_000)
        finally:
            await pool.close()

    return lambda person: asyncio.run(read(person.id))


# --- what each operation logs ---


def test_creating_logs_what_the_task_begins_with(ada: Person, log: Log) -> None:
    full, bare = ada.has("Buy milk", "Two litres"), ada.has("Buy bread")
    first, second = log(ada)
    assert (first["entity"], first["entity_id"], first["op"]) == ("task", full["id"], "create")
    assert first["fields"] == {
        "uid": [None, full["uid"]],
        "title": [None, "Buy milk"],
        "description": [None, "Two litres"],
        "completed": [None, False],
        "position": [None, "a1"],
    }
    assert second["fields"] == {
        "uid": [None, bare["uid"]],
        "title": [None, "Buy bread"],
        "completed": [None, False],
        "position": [None, "a2"],
    }


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"title": "New"}, {"title": ["Old", "New"]}),
        ({"description": "More"}, {"description": ["Text", "More"]}),
        ({"description": None}, {"description": ["Text", None]}),
        (
            {"title": " New ", "description": ""},
            {"title": ["Old", "New"], "description": ["Text", ""]},
        ),
        ({"title": "Old", "description": "Other"}, {"description": ["Text", "Other"]}),
        ({}, {}),
        ({"title": "Old", "description": "Text", "completed": False}, {}),
        ({"version": 99, "uid": "mine", "unknown": 1}, {}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_updating_logs_what_differs(
    method: str, body: dict[str, Any], fields: dict[str, Any], ada: Person, log: Log
) -> None:
    task = ada.has("Old", "Text")
    answer = ada.request(method, f"{ada.tasks}/{task['id']}", json=body)
    _, change = log(ada)
    assert (change["entity"], change["entity_id"], change["op"]) == ("task", task["id"], "update")
    assert change["fields"] == fields
    assert answer.json()["data"]["version"] == change["seq"] == 2


@pytest.mark.parametrize("path", ["", "/complete"], ids=["by PATCH", "by complete"])
def test_completing_logs_when(path: str, ada: Person, log: Log) -> None:
    task = ada.has("Do it")
    done = ada.patch(f"/{task['id']}{path}", json={"completed": True}).json()["data"]
    undone = ada.patch(f"/{task['id']}{path}", json={"completed": False}).json()["data"]
    _, first, second = log(ada)
    assert done["completed_at"] == done["updated_at"]
    assert undone["completed_at"] is None
    assert first["fields"] == {
        "completed": [False, True],
        "completed_at": [None, done["completed_at"]],
    }
    assert second["fields"] == {
        "completed": [True, False],
        "completed_at": [done["completed_at"], None],
    }


def test_toggling_logs_each_flip(ada: Person, log: Log) -> None:
    path = f"/{ada.has('Flip me')['id']}/complete"
    answers = [ada.patch(path), ada.patch(path, json={}), ada.patch(path)]
    said = [answer.json()["data"]["completed"] for answer in answers]
    assert said == [True, False, True]
    assert [change["fields"]["completed"] for change in log(ada)[1:]] == [
        [False, True],
        [True, False],
        [False, True],
    ]


@pytest.mark.parametrize("completed", [True, False])
def test_setting_what_is_so_already_logs_nothing(completed: bool, ada: Person, log: Log) -> None:
    task = ada.put(ada.has("Set me")["id"], {"completed": completed}).json()["data"]
    before = log(ada)
    again = ada.patch(f"/{task['id']}/complete", json={"completed": completed})
    assert (again.json()["data"], again.headers["etag"]) == (task, tag(task))
    assert log(ada) == before
    assert ada.has("The next one")["version"] == task["version"] + 1


def test_deleting_and_restoring_log_when(ada: Person, log: Log) -> None:
    task = ada.has("Buy milk", "Two litres")
    ada.delete(task["id"])
    ada.request("POST", f"/v1/trash/{task['id']}/restore")
    _, deleted, restored = log(ada)
    at = f"{deleted['at']:%Y-%m-%dT%H:%M:%S.%f}Z"
    assert (deleted["seq"], deleted["entity_id"], deleted["op"]) == (2, task["id"], "delete")
    assert deleted["fields"] == {"deleted_at": [None, at]}
    assert (restored["seq"], restored["entity_id"], restored["op"]) == (3, task["id"], "restore")
    assert restored["fields"] == {"deleted_at": [at, None]}


def test_what_is_refused_or_was_done_before_logs_nothing(
    ada: Person, bob: Person, log: Log
) -> None:
    key, stale, uid = {"Idempotency-Key": str(uuid4())}, {"If-Match": '"1"'}, str(uuid4())
    mine, foreign = ada.has("Mine"), bob.has("His")
    first = ada.post({"title": "Once", "uid": uid}, headers=key)
    path = f"{ada.tasks}/{mine['id']}"
    assert ada.put(mine["id"], {}).json()["data"]["version"] == 3
    before = log(ada), log(bob)
    answers = {
        "blank": (400, ada.post({"title": " "})),
        "too long": (400, ada.put(mine["id"], {"title": "x" * 201})),
        "no condition": (400, ada.put(mine["id"], {}, headers={"If-Match": "1"})),
        "no key": (400, ada.delete(mine["id"], headers={"Idempotency-Key": ""})),
        "no token": (401, httpx.put(str(ada.client.base_url.join(path)), json={})),
        "a stranger": (403, bob.request("DELETE", path)),
        "absent": (404, ada.patch(f"/{ABSENT_ID}/complete")),
        "foreign": (404, ada.put(foreign["id"], {"title": "Hers"})),
        "stale put": (412, ada.put(mine["id"], {"title": "Late"}, headers=stale)),
        "stale patch": (412, ada.patch(f"/{mine['id']}", json={"title": "Late"}, headers=stale)),
        "stale toggle": (412, ada.patch(f"/{mine['id']}/complete", headers=stale)),
        "stale set": (
            412,
            ada.patch(f"/{mine['id']}/complete", json={"completed": True}, headers=stale),
        ),
        "stale delete": (412, ada.delete(mine["id"], headers=stale)),
        "stale list": (412, ada.post({"title": "Late"}, headers=stale)),
        "another request": (422, ada.post({"title": "Twice"}, headers=key)),
        "sent again": (201, ada.post({"title": "Once", "uid": uid}, headers=key)),
        "there already": (200, ada.post({"title": "Once", "uid": uid})),
    }
    assert {name: answer.status_code for name, (_, answer) in answers.items()} == {
        name: status for name, (status, _) in answers.items()
    }
    assert answers["sent again"][1].json() == first.json()
    assert (log(ada), log(bob)) == before
    assert ada.has("The next one")["version"] == 4


def test_who_has_written_nothing_but_what_was_404_has_no_row_at_all(
    ada: Person, database_url: str
) -> None:
    answers = [
        ada.put(ABSENT_ID, {"title": "Hers"}),
        ada.patch(f"/{ABSENT_ID}", json={"title": "Hers"}),
        ada.patch(f"/{ABSENT_ID}/complete"),
        ada.patch(f"/{ABSENT_ID}/complete", json={"completed": True}),
        ada.delete(ABSENT_ID),
        ada.request("POST", f"/v1/trash/{ABSENT_ID}/restore"),
        ada.request("DELETE", f"/v1/trash/{ABSENT_ID}"),
        ada.request("POST", "/v1/changes/1/undo"),
        ada.request("POST", "/v1/undo", json={"group": str(uuid4())}),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert sql(database_url, "SELECT FROM change_counters WHERE user_id = $1", ada.id) == []
    assert ada.has("The first")["version"] == 1


# --- the numbering ---


def write_at_random(dice: random.Random, person: Person, ids: list[int]) -> dict[str, Any] | None:
    """The task that the answer carries. `ids` are those of the person's tasks."""
    kind = dice.choice(["create", "put", "empty", "toggle", "delete"]) if ids else "create"
    if kind == "create":
        created = person.has("Something", dice.choice([None, "with more"]))
        ids.append(created["id"])
        return created
    id = dice.choice(ids)
    if kind == "delete":
        ids.remove(id)
        assert person.delete(id).status_code == 200
        return None
    body = {"title": f"Number {dice.random()}"} if kind == "put" else {}
    answer = person.patch(f"/{id}/complete") if kind == "toggle" else person.put(id, body)
    task: dict[str, Any] = answer.json()["data"]
    return task


def test_each_persons_changes_are_numbered_from_one_a_number_for_each_write(
    ada: Person, bob: Person, log: Log
) -> None:
    dice = random.Random(20261125)
    people: dict[str, tuple[Person, list[int], list[Any]]] = {
        who.id: (who, [], []) for who in (ada, bob)
    }
    for _ in range(80):
        person, ids, written = people[dice.choice([ada.id, bob.id])]
        written.append(write_at_random(dice, person, ids))
    for person, _, written in people.values():
        logged = log(person)
        assert [change["seq"] for change in logged] == list(range(1, len(written) + 1))
        assert {tuple(change["actor"].values()) for change in logged} == {("user", person.id)}
        assert len({change["group"] for change in logged}) == len(
            logged
        )  # each is a request of its own
        moments = [change["at"] for change in logged]
        assert moments == sorted(set(moments))
        for change, task in zip(logged, written, strict=True):
            assert (change["op"] == "delete") is (task is None)
            if task:
                assert (task["id"], task["version"]) == (change["entity_id"], change["seq"])
                assert task["updated_at"] == f"{change['at']:%Y-%m-%dT%H:%M:%S.%f}Z"


def test_who_write_at_once_as_the_first_share_the_numbers(person: Callable[[str], Person]) -> None:
    with ThreadPoolExecutor(WRITERS) as threads:
        for _ in range(10):
            newcomer = person("ada")
            created = threads.map(newcomer.has, [f"First of {number}" for number in range(WRITERS)])
            assert {task["version"] for task in created} == set(range(1, WRITERS + 1))


def test_the_log_told_again_is_what_there_is(ada: Person, log: Log) -> None:
    dice, ids = random.Random(20261126), list[int]()
    for _ in range(40):
        write_at_random(dice, ada, ids)
    told: dict[int, dict[str, Any]] = {}
    for change in log(ada):
        task = told.setdefault(change["entity_id"], {})
        task["version"] = change["seq"]
        for name, (old, new) in change["fields"].items():
            assert task.get(name) == old
            task[name] = new
    found = {task["id"]: task for task in ada.get().json()["data"]}
    assert {id for id, task in told.items() if not task.get("deleted_at")} == set(found) == set(ids)
    found |= {task["id"]: task for task in ada.request("GET", "/v1/trash").json()["data"]}
    assert set(told) == set(found)
    for id, task in told.items():
        assert {"deleted_at": None, **task}.items() <= {"deleted_at": None, **found[id]}.items()


def test_changes_made_together_are_one_group(ada: Person, database_url: str, log: Log) -> None:
    id = ada.has("Before")["id"]

    async def write_three() -> None:
        pool = Pool(dsn.parse(database_url), migrate.ROLE, size=1)
        db = OwnerDatabase(pool, ada.id)
        first = storage.create(TASK, {"title": "First"})
        await db.store(first, storage.toggle(TASK, id), storage.delete(TASK, id))
        await tasks.create(db, {"title": "Apart"})
        await pool.close()

    asyncio.run(write_three())
    before, *groups = [change["group"] for change in log(ada)]
    assert groups[0] == groups[1] == groups[2]
    assert len({before, groups[0], groups[3]}) == 3


# --- six writers, and a reader who pages by number ---

Numbered = tuple[int, Any]
Write = Callable[
    [asyncpg.Connection, random.Random], Awaitable[Numbered]
]  # one; its number and what it was
Page = Callable[[int], Awaitable[list[Numbered]]]  # the next ones after a number, in order


async def race(url: str, write: Write, page: Page) -> tuple[list[Numbered], list[Numbered]]:
    """What was committed, in the order of its numbers; and what the reader saw, in that order."""
    committed: list[Numbered] = []
    async with asyncio.TaskGroup() as group:
        writers = [
            group.create_task(write_until_enough(url, seed, write, committed))
            for seed in range(WRITERS)
        ]
        reader = group.create_task(read_until_done(page, writers))
    return sorted(committed), reader.result()


async def write_until_enough(url: str, seed: int, write: Write, committed: list[Numbered]) -> None:
    """In transactions of one to three writes and of random length, of which one in ten is rolled
    back."""
    dice = random.Random(seed)
    connection = await asyncpg.connect(url, server_settings={"role": migrate.ROLE})
    while len(committed) < CHANGES:
        await connection.execute("BEGIN")
        written = [await write(connection, dice) for _ in range(dice.randint(1, 3))]
        await asyncio.sleep(dice.choice([0, dice.random() * 0.003]))
        if dice.random() < 0.1:
            await connection.execute("ROLLBACK")
        else:
            await connection.execute("COMMIT")
            committed += written
    await connection.close()


async def read_until_done(page: Page, writers: list[asyncio.Task[None]]) -> list[Numbered]:
    seen: list[Numbered] = []
    while True:
        done = all(writer.done() for writer in writers)
        found = await page(seen[-1][0] if seen else 0)
        seen += found
        if done and not found:
            return seen


def test_a_reader_who_goes_by_number_misses_nothing_that_six_write(
    ada: Person, database_url: str
) -> None:
    shared: list[int] = [ada.has(f"Shared {number}")["id"] for number in range(4)]

    async def write(connection: asyncpg.Connection, dice: random.Random) -> Numbered:
        db = OwnerDatabase(Transaction(connection, prepares=False), ada.id)
        kind = dice.choice(["create", "update", "complete"])
        if kind == "create":
            task, _ = await tasks.create(db, {"title": "New"})
        elif kind == "update":
            task = await tasks.update(db, dice.choice(shared), {"title": "Updated"})
        else:
            task = await tasks.complete(db, dice.choice(shared))
        return task["version"], task["id"]

    moments: list[datetime] = []

    async def body() -> tuple[list[Numbered], list[Numbered]]:
        pool = Pool(dsn.parse(database_url), migrate.ROLE, size=1)
        db = OwnerDatabase(pool, ada.id)

        async def page(cursor: int) -> list[Numbered]:
            rows = await changes.since(db, cursor, PAGE)
            moments.extend(row["at"] for row in rows)
            return [(row["seq"], row["entity_id"]) for row in rows]

        try:
            return await race(database_url, write, page)
        finally:
            await pool.close()

    committed, seen = asyncio.run(body())
    assert len(committed) >= CHANGES
    assert seen[: len(shared)] == list(enumerate(shared, 1))
    assert seen[len(shared) :] == committed  # none missed, none twice, in order
    assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
    assert moments == sorted(set(moments))
    assert number(ada.get(params={"limit": 1}).headers["etag"]) == len(seen)


def test_with_a_sequence_for_all_it_would(ada: Person, empty_database: Callable[[], str]) -> None:
    """The control: numbers are taken in one order and committed in another."""
    url = empty_database()
    sql(url, "CREATE TABLE sequenced (number bigserial PRIMARY KEY, what int)")
    sql(url, f"GRANT INSERT, SELECT ON sequenced TO {migrate.ROLE}")
    sql(url, f"GRANT USAGE ON SEQUENCE sequenced_number_seq TO {migrate.ROLE}")

    async def write(connection: asyncpg.Connection, dice: random.Random) -> Numbered:
        insert = "INSERT INTO sequenced (what) VALUES ($1) RETURNING number, what"
        return tuple(await connection.fetchrow(insert, dice.randrange(100)))

    async def body() -> tuple[list[Numbered], list[Numbered]]:
        reader = await asyncpg.connect(url)

        async def page(cursor: int) -> list[Numbered]:
            following = (
                "SELECT number, what FROM sequenced WHERE number > $1 ORDER BY number LIMIT $2"
            )
            return [tuple(row) for row in await reader.fetch(following, cursor, PAGE)]

        try:
            return await race(url, write, page)
        finally:
            await reader.close()

    committed, seen = asyncio.run(body())
    assert len(committed) >= CHANGES
    assert set(committed) - set(seen)


# --- two tasks in opposite order ---

Touch = Callable[[asyncpg.Connection, int], Awaitable[Any]]


async def crosswise(url: str, ids: list[int], touch: Touch) -> int:
    """How many deadlocks two writers had, of whom one touches `ids` forwards and one backwards."""

    async def writer(ids: list[int]) -> int:
        deadlocks = 0
        connection = await asyncpg.connect(url)
        await connection.execute("SET deadlock_timeout = '10ms'")
        await connection.execute(f"SET ROLE {migrate.ROLE}")
        for _ in range(ROUNDS):
            try:
                async with connection.transaction():
                    for id in ids:
                        await touch(connection, id)
                        await asyncio.sleep(0.002)
            except asyncpg.DeadlockDetectedError:
                deadlocks += 1
        await connection.close()
        return deadlocks

    return sum(await asyncio.gather(writer(ids), writer(ids[::-1])))


def test_writers_in_opposite_order_never_deadlock(ada: Person, database_url: str) -> None:
    ids: list[int] = [ada.has(title)["id"] for title in ("One", "Other")]

    async def toggle(connection: asyncpg.Connection, id: int) -> None:
        await tasks.complete(OwnerDatabase(Transaction(connection, prepares=False), ada.id), id)

    assert asyncio.run(crosswise(database_url, ids, toggle)) == 0
    assert ada.has("The next one")["version"] == 2 + 2 * 2 * ROUNDS + 1


def test_without_the_counter_they_would(ada: Person, database_url: str) -> None:
    """The control: each task has a lock of its own."""
    ids: list[int] = [ada.has(title)["id"] for title in ("One", "Other")]

    async def lock(connection: asyncpg.Connection, id: int) -> None:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('crosswise'), $1::int)", id)

    assert asyncio.run(crosswise(database_url, ids, lock)) > 0
