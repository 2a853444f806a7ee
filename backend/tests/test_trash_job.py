"""Two servers and the job that empties the trash, all at once: what was restored stays, what was
purged stays away."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest

import changes
import lists
import retention
import storage
import tasks
from database import OwnerDatabase
from entities import ENTITIES
from postgres import dsn, embedded, migrate
from postgres.pool import Pool
from tests import servers
from tests.conftest import sql
from tests.expiry import KEPT
from tests.people import Person

PEOPLE = 2
TASKS = 40  # of each of them, in a round
LEVELS = 4  # of the trees that they are; half of these are in a list
CLIENTS = 4  # two at each server
ROUNDS = 3
CONTROL_ROUNDS = 10

# Every task with an odd number has expired, and its change says the same, so that the deletion may
# be undone.
AGE = """
WITH aged AS (
    UPDATE tasks SET deleted_at = deleted_at - interval '31 days', updated_at = updated_at - interval '31 days'
    WHERE id % 2 = 1 AND deleted_at > now() - interval '1 day'
    RETURNING user_id, version, deleted_at
)
UPDATE changes SET fields = jsonb_build_object('deleted_at', jsonb_build_array(
    NULL, to_char(aged.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
))
FROM aged WHERE changes.user_id = aged.user_id AND changes.seq = aged.version
"""
DANGLES = """(
    EXISTS (SELECT FROM tasks WHERE id = t.parent_id AND deleted_at IS NOT NULL)
    OR EXISTS (SELECT FROM lists WHERE id = t.list_id AND deleted_at IS NOT NULL)
)"""
AGE_LISTS = """
UPDATE lists SET deleted_at = deleted_at - interval '31 days', updated_at = updated_at - interval '31 days'
WHERE deleted_at > now() - interval '1 day'
"""
STORE = storage.STORE.text.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
WRONG = STORE
for condition in (
    "(was.deleted_at IS NOT NULL) <> e_in_trash",
    "was.updated_at >= e_untouched_since",
):
    WRONG = WRONG.replace(condition, f"(e_op <> 'purge' AND {condition})")


class Town(NamedTuple):
    url: str
    servers: list[servers.Running]


@pytest.fixture(scope="module")
def town(cluster: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    sql(cluster.url, "CREATE DATABASE trash_job")
    url = cluster.url.replace("/todo?", "/trash_job?")
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    both = [servers.start(folder, NEON_DATABASE_URL=url) for folder in folders]
    try:
        for server in both:
            servers.wait_until_up(server, "/ready")
        yield Town(url, both)
    finally:
        for server in both:
            server.stop()
        sql(cluster.url, "DROP DATABASE trash_job WITH (FORCE)")


class Trashed(NamedTuple):
    """A task in the trash, and the number of the change that put it there."""

    owner: Person
    id: int
    deletion: int


@contextmanager
def emptied_all_the_time(url: str) -> Iterator[None]:
    """Two jobs, as two servers have them, but without any rest."""
    stop = threading.Event()

    async def run() -> None:
        pool = Pool(dsn.parse(url), migrate.ROLE)
        while not stop.is_set():
            await asyncio.gather(*(retention.remove_expired(pool, KEPT) for _ in range(2)))
        await pool.close()

    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(asyncio.run, run())
        try:
            yield
        finally:
            stop.set()
            job.result()


def fill(town: Town, people: list[Person]) -> list[Trashed]:
    """Their trash: every other task has expired, and each list."""

    async def run() -> list[Trashed]:
        pool = Pool(dsn.parse(town.url), migrate.ROLE)
        made = []
        for person in people:
            db = OwnerDatabase(pool, person.id)
            home, _ = await lists.create(db, {"name": "Home"})
            for number in range(TASKS // LEVELS):
                ids = await tree(db, {"list_id": home["id"]} if number % 2 else {})
                for id in reversed(ids):
                    await tasks.delete(db, id)
                    made.append(Trashed(person, id, (await changes.latest(db)).number))
            await lists.delete(db, home["id"])
        await pool.close()
        return made

    made = asyncio.run(run())
    sql(town.url, AGE)
    sql(town.url, AGE_LISTS)
    return made


async def tree(db: OwnerDatabase, fields: dict[str, Any]) -> list[int]:
    """Each below the one before it."""
    ids: list[int] = []
    for level in range(LEVELS):
        below = {"parent_id": ids[-1]} if ids else fields
        task, _ = await tasks.create(db, {"title": f"Level {level}", **below})
        ids.append(task["id"])
    return ids


class Client:
    """Goes through the trash in an order of its own, and does something with each task; remembers
    what it was told."""

    def __init__(self, server: servers.Running, number: int, acts: tuple[str, ...]) -> None:
        self.http = httpx.Client(base_url=server.url, timeout=20, verify=False)
        self.dice = random.Random(number)
        self.acts = acts
        self.restored: set[int] = set()
        self.purged: set[int] = set()
        self.refused: Counter[int] = Counter()

    def work(self, trash: list[Trashed]) -> None:
        with self.http:
            for task in self.dice.sample(trash, len(trash)):
                self._do(self.dice.choice(self.acts), task)

    def _do(self, act: str, task: Trashed) -> None:
        method, path = {
            "restore": ("POST", f"/v1/trash/{task.id}/restore"),
            "undo": ("POST", f"/v1/changes/{task.deletion}/undo"),
            "purge": ("DELETE", f"/v1/trash/{task.id}"),
        }[act]
        answer = self.http.request(method, path, headers=task.owner.client.headers)
        if answer.status_code != 200:
            assert answer.status_code == (409 if act == "undo" else 404), answer.text
            self.refused[answer.status_code] += 1
        elif act == "purge":
            self.purged.add(task.id)
        elif answer.json()["data"]:  # else it was out of the trash when it should be taken out
            self.restored.add(task.id)


class Outcome(NamedTuple):
    restored: set[int]
    purged: set[int]  # by somebody, who was told so
    by_job: set[int]
    violations: list[str]


def one_round(town: Town, people: list[Person], seed: int, acts: tuple[str, ...]) -> Outcome:
    made = fill(town, people)
    clients = [Client(town.servers[n % 2], CLIENTS * seed + n, acts) for n in range(CLIENTS)]
    with emptied_all_the_time(town.url), ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(lambda client: client.work(made), clients))
    restored = set.union(*(client.restored for client in clients))
    purged = set.union(*(client.purged for client in clients))
    return judge(town, people, made, restored, purged)


def judge(
    town: Town, people: list[Person], made: list[Trashed], restored: set[int], purged: set[int]
) -> Outcome:
    violations, by_job = [], set()
    log, live, in_trash = (
        ask_all(town, people, path) for path in ("/v1/changes", "tasks", "/v1/trash")
    )
    for person in people:
        numbers = [change["seq"] for change in log[person.id]]
        [[latest]] = sql(town.url, "SELECT seq FROM change_counters WHERE user_id = $1", person.id)
        if numbers != list(range(1, latest + 1)):
            violations.append("the log has gaps")
    [[dangling]] = sql(
        town.url, "SELECT count(*) FROM tasks AS t WHERE deleted_at IS NULL AND " + DANGLES
    )
    if dangling:
        violations.append(f"{dangling} living tasks refer to what is in the trash")
    for task in made:
        own = [change for change in log[task.owner.id] if change["entity_id"] == task.id]
        purges = [change for change in own if change["op"] == "purge"]
        is_live = task.id in {one["id"] for one in live[task.owner.id]}
        is_trashed = task.id in {one["id"] for one in in_trash[task.owner.id]}
        if [is_live, is_trashed, bool(purges)].count(True) != 1 or len(purges) > 1:
            violations.append(
                f"task {task.id} is in {is_live + is_trashed} places, and was purged {len(purges)} times"
            )
        if task.id in restored and not is_live:
            violations.append(f"task {task.id} was restored and is missing")
        if (task.id in purged) != (bool(purges) and purges[0]["actor"]["kind"] == "user"):
            violations.append(f"of task {task.id} another purge is told than was answered")
        if purges and own[-1] is not purges[0]:
            violations.append(f"task {task.id} was changed after its end")
        if purges and any(change["fields"] for change in own):
            violations.append(f"the log has values of task {task.id}, which was purged")
        if purges and purges[0]["actor"] == {"kind": "system", "id": "retention"}:
            by_job.add(task.id)
            if task.id % 2 == 0:
                violations.append(f"task {task.id} was purged by the job before its time")
    return Outcome(restored, purged, by_job, violations)


def ask_all(town: Town, people: list[Person], path: str) -> dict[str, list[Any]]:
    """All that either server says; they must agree."""
    found = {}
    for person in people:
        target = path if path.startswith("/") else person.tasks
        answers = []
        for server in town.servers:
            said: list[Any] = []
            with httpx.Client(
                base_url=server.url, headers=person.client.headers, timeout=20, verify=False
            ) as client:
                while True:
                    query = (
                        {"since": len(said), "limit": 500}
                        if path == "/v1/changes"
                        else {"limit": 500}
                    )
                    page = client.get(target, params=query).json()["data"]
                    said += page
                    if path != "/v1/changes" or len(page) < 500:
                        break
            answers.append(said)
        assert answers[0] == answers[1]
        found[person.id] = answers[0]
    return found


@pytest.fixture
def people(town: Town) -> Iterator[list[Person]]:
    met = [Person(town.servers[0].url, f"eve{number}") for number in range(PEOPLE)]
    yield met
    for one in met:
        one.client.close()


def test_what_was_restored_stays_and_what_was_purged_stays_away(
    town: Town, people: list[Person]
) -> None:
    restored, purged, by_job = set[int](), set[int](), set[int]()
    for seed in range(ROUNDS):
        outcome = one_round(town, people, seed, ("restore", "undo", "restore", "undo", "purge"))
        assert outcome.violations == []
        restored |= outcome.restored
        purged |= outcome.purged
        by_job |= outcome.by_job
    assert min(len(restored), len(purged), len(by_job)) >= ROUNDS  # each of them was at work
    assert any(id % 2 for id in restored)  # and somebody was quicker than the job
    assert not restored & (purged | by_job)
    before = ask_all(town, people, "/v1/changes")
    for person in people:
        for change in before[person.id]:
            if change["entity_id"] in purged | by_job:  # nothing brings it back
                assert (
                    person.request("POST", f"/v1/changes/{change['seq']}/undo").status_code == 409
                )
                assert (
                    person.request("POST", f"/v1/trash/{change['entity_id']}/restore").status_code
                    == 404
                )
    assert ask_all(town, people, "/v1/changes") == before


def test_a_purge_that_does_not_ask_whether_it_is_in_the_trash_still_is_found_out(
    town: Town, people: list[Person]
) -> None:
    """The control. Nobody purges but the job."""
    assert WRONG.count("(e_op <> 'purge' AND ") == 2 * len(ENTITIES)
    sql(town.url, WRONG)
    try:
        found = next(
            (one for seed in range(CONTROL_ROUNDS) if (one := violations(town, people, seed))), []
        )
    finally:
        sql(town.url, STORE)
    assert any("was restored and is missing" in violation for violation in found)


def violations(town: Town, people: list[Person], seed: int) -> list[str]:
    return one_round(town, people, seed, ("restore", "undo")).violations
