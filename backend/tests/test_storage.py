"""The one writer: what becomes of each edit, and what a call leaves behind: one group of numbers,
or nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest

import changes
import storage
import texts
import times
import undo
from changes import Change
from database import OwnerDatabase
from entities import KEPT_BY_WRITER, LIST, TASK, Entity
from errors import Unavailable
from postgres import dsn, migrate
from postgres import pool as pools
from postgres.pool import Pool
from storage import Edit, GuardLost, Outcome
from tests.conftest import sql

ABSENT_ID = 2**62
WRITERS = 4
BATCHES = 10
EDITS = 60
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

Result = TypeVar("Result")


class Desk(NamedTuple):
    """Where edits are handed in, as the restricted role; and a look at what they left, past all
    isolation."""

    url: str
    runner: asyncio.Runner
    pool: Pool
    superuser: asyncpg.Connection

    def ask(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def store(self, owner: str, *edits: Edit, **how: bool) -> list[Outcome]:
        return self.ask(OwnerDatabase(self.pool, owner).store(*edits, **how))

    def one(self, owner: str, edit: Edit) -> Outcome:
        [outcome] = self.store(owner, edit)
        return outcome

    def log(self, owner: str) -> list[Change]:
        return self.ask(changes.since(OwnerDatabase(self.pool, owner), 0, 2_000))

    def row(self, id: int) -> Any:
        row = self.ask(self.superuser.fetchrow("SELECT * FROM tasks WHERE id = $1", id))
        return row and dict(row)

    def rows_of(self, *owners: str) -> list[Any]:
        """All that is stored of these people."""
        queries = [
            f"SELECT t::text FROM {table} AS t WHERE user_id = ANY ($1)"
            for table in migrate.ISOLATED
        ]
        return self.ask(self.superuser.fetch(f"{' UNION ALL '.join(queries)} ORDER BY 1", owners))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Pool]:
    await migrate.upgrade(dsn.parse(url))
    pool = Pool(dsn.parse(url), migrate.ROLE)
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture(scope="module")
def desk(database_url: str) -> Iterator[Desk]:
    with asyncio.Runner() as runner:
        context = opened(database_url)
        pool = runner.run(context.__aenter__())
        superuser = runner.run(asyncpg.connect(database_url))
        yield Desk(database_url, runner, pool, superuser)
        runner.run(superuser.close())
        runner.run(context.__aexit__(None, None, None))


@pytest.fixture
def ada() -> str:
    return f"ada-{uuid4().hex}"


@pytest.fixture
def bob() -> str:
    return f"bob-{uuid4().hex}"


def has(
    desk: Desk, owner: str, title: str = "Old", description: str | None = "Text"
) -> dict[str, Any]:
    made = desk.one(
        owner, storage.create(TASK, {"title": title, "description": description})
    ).object
    assert made
    return made


def has_in_trash(desk: Desk, owner: str) -> dict[str, Any]:
    deleted = desk.one(owner, storage.delete(TASK, has(desk, owner)["id"])).object
    assert deleted
    return deleted


# --- what becomes of an edit ---

Make = Callable[[int, storage.Versions], Edit]
OPERATIONS: dict[str, Make] = {
    "update": lambda id, versions: storage.update(TASK, id, {"title": "New"}, versions),
    "update to what it is": lambda id, versions: storage.update(
        TASK, id, {"title": "Old"}, versions
    ),
    "update nothing": lambda id, versions: storage.update(TASK, id, {}, versions),
    "update what differs": lambda id, versions: storage.update(
        TASK, id, {"title": "New"}, versions, skips_same=True
    ),
    "update what does not": lambda id, versions: storage.update(
        TASK, id, {"title": "Old"}, versions, skips_same=True
    ),
    "update wherever": lambda id, versions: storage.update(
        TASK, id, {"title": "New"}, versions, in_trash=None
    ),
    "update in the trash": lambda id, versions: storage.update(
        TASK, id, {"title": "New"}, versions, in_trash=True
    ),
    "toggle": lambda id, versions: storage.toggle(TASK, id, versions),
    "delete": lambda id, versions: storage.delete(TASK, id, versions),
    "delete if it is not yet": lambda id, versions: storage.delete(
        TASK, id, versions, skips_same=True
    ),
    "restore": lambda id, versions: storage.restore(TASK, id, versions),
    "purge": lambda id, versions: storage.purge(TASK, id, versions),
}
OUTCOMES = {  # of a living one, and of one in the trash
    "update": ("done", "absent"),
    "update to what it is": ("done", "absent"),
    "update nothing": ("done", "absent"),
    "update what differs": ("done", "absent"),
    "update what does not": ("same", "absent"),
    "update wherever": ("done", "done"),
    "update in the trash": ("absent", "done"),
    "toggle": ("done", "absent"),
    "delete": ("done", "absent"),
    "delete if it is not yet": ("done", "same"),
    "restore": ("absent", "done"),
    "purge": ("absent", "done"),
}
LOGGED = {"toggle": "update", "delete if it is not yet": "delete"} | {
    op: op for op in ("delete", "restore", "purge")
}


def right(task: dict[str, Any]) -> storage.Versions:
    return [[99, None], [task["version"], storage.microseconds(task["updated_at"])]]


VERSIONS: dict[
    str, tuple[Callable[[dict[str, Any]], storage.Versions], bool]
] = {  # and whether they hold
    "whatever it is": (lambda task: None, True),
    "at its version": (lambda task: [[task["version"], None]], True),
    "at its version of that time": (right, True),
    "at another version": (lambda task: [[task["version"] + 1, None]], False),
    "at its version of another time": (
        lambda task: [[task["version"], storage.microseconds(task["updated_at"]) + 1]],
        False,
    ),
    "at another version of its time": (
        lambda task: [[task["version"] - 1, storage.microseconds(task["updated_at"])]],
        False,
    ),
    "at no version": (lambda task: [], False),
}


@pytest.mark.parametrize("versions", VERSIONS)
@pytest.mark.parametrize("place", [0, 1], ids=["living", "in the trash"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_edit_is_done_or_says_why_not(
    operation: str, place: int, versions: str, desk: Desk, ada: str
) -> None:
    task = has_in_trash(desk, ada) if place else has(desk, ada)
    before, stored = desk.log(ada), desk.rows_of(ada)
    named, holds = VERSIONS[versions]
    expected = OUTCOMES[operation][place]
    if not holds and expected != "absent":
        expected = "stale"
    outcome = desk.one(ada, OPERATIONS[operation](task["id"], named(task)))
    assert outcome.status == expected
    if expected == "done":
        [change] = desk.log(ada)[len(before) :]
        assert (change["seq"], change["entity"], change["entity_id"]) == (
            len(before) + 1,
            "task",
            task["id"],
        )
        assert change["op"] == LOGGED.get(operation, "update")
        row = desk.row(task["id"])
        if operation == "purge":
            assert (outcome.object, row) == (None, None)
        else:
            assert row is not None
            assert outcome.object == {**{name: row[name] for name in task}, "uid": str(row["uid"])}
            assert (row["version"], row["updated_at"]) == (change["seq"], change["at"])
            assert row["created_at"] == task["created_at"]
    else:
        assert outcome.object == (None if expected == "absent" else task)
        assert desk.rows_of(ada) == stored


@pytest.mark.parametrize("versions", [None, [[1, None]], [[2, None]]], ids=repr)
@pytest.mark.parametrize("whose", ["nobody's", "Bob's", "Bob's, in his trash"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_anothers_is_as_absent_as_what_is_nowhere(
    operation: str, whose: str, versions: storage.Versions, desk: Desk, ada: str, bob: str
) -> None:
    living, trashed = has(desk, bob)["id"], has_in_trash(desk, bob)["id"]
    has(desk, ada)
    before = desk.rows_of(ada, bob)
    id = {"nobody's": ABSENT_ID, "Bob's": living, "Bob's, in his trash": trashed}[whose]
    assert desk.one(ada, OPERATIONS[operation](id, versions)) == ("absent", None)
    assert desk.rows_of(ada, bob) == before


def test_a_creation_is_done_once_for_each_uid_of_ones_own(desk: Desk, ada: str, bob: str) -> None:
    living, trashed, foreign = has(desk, ada), has_in_trash(desk, ada), has(desk, bob)
    before = desk.rows_of(ada, bob)
    fields = {"title": "Another"}
    assert desk.one(ada, storage.create(TASK, fields, living["uid"])) == ("exists", living)
    assert desk.one(ada, storage.create(TASK, fields, trashed["uid"])) == ("in_trash", trashed)
    assert desk.rows_of(ada, bob) == before
    for uid in (uuid4(), UUID(foreign["uid"])):
        status, made = desk.one(ada, storage.create(TASK, fields, uid))
        assert made
        assert (status, made["uid"], made["title"]) == ("done", str(uid), "Another")
        assert made["created_at"] == made["updated_at"]
    assert desk.log(bob)[-1]["seq"] == 1


@pytest.mark.parametrize(("days", "status"), [(-1, "absent"), (1, "done")])
def test_a_purge_of_what_was_touched_meanwhile_is_left(
    days: int, status: str, desk: Desk, ada: str
) -> None:
    task = has_in_trash(desk, ada)
    since = datetime.now(UTC) + timedelta(days=days)
    assert desk.one(ada, storage.purge(TASK, task["id"], untouched_since=since)).status == status


@pytest.mark.parametrize("change", ["done", "same", "stale"])
def test_without_rows_no_object_comes_back(change: str, desk: Desk, ada: str) -> None:
    task = has(desk, ada)
    edits = {
        "done": storage.toggle(TASK, task["id"]),
        "same": storage.update(TASK, task["id"], {"title": "Old"}, skips_same=True),
        "stale": storage.toggle(TASK, task["id"], [[0, None]]),
    }
    assert desk.store(ada, edits[change], rows=False) == [(change, None)]


# --- what an edit cannot do ---

NOT_THEIRS: dict[str, Any] = {
    "id": ABSENT_ID,
    "user_id": "bob",
    "created_at": LONG_AGO,
    "updated_at": LONG_AGO,
    "uid": uuid4(),
    "version": 99,
}


def test_every_column_that_the_writer_keeps_is_tried() -> None:
    assert set(NOT_THEIRS) == {column.name for column in KEPT_BY_WRITER} - {"deleted_at"}


@pytest.mark.parametrize("name", [*NOT_THEIRS, "unknown"])
def test_an_update_never_changes_what_the_writer_keeps(name: str, desk: Desk, ada: str) -> None:
    task = has(desk, ada)
    desk.one(ada, storage.update(TASK, task["id"], {name: NOT_THEIRS.get(name, 1), "title": "New"}))
    row, [_, change] = desk.row(task["id"]), desk.log(ada)
    kept = {**task, "title": "New", "version": 2, "updated_at": change["at"]}
    assert {**{column: row[column] for column in task}, "uid": str(row["uid"])} == kept
    assert change["fields"] == {"title": ["Old", "New"]}


@pytest.mark.parametrize("name", [*NOT_THEIRS, "deleted_at", "unknown"])
def test_nor_does_a_creation_choose_it(name: str, desk: Desk, ada: str) -> None:
    value = NOT_THEIRS.get(name, LONG_AGO)
    made = desk.one(ada, storage.create(TASK, {name: value, "title": "Old"})).object
    assert made
    row, [change] = desk.row(made["id"]), desk.log(ada)
    assert (row["user_id"], row["version"], row["deleted_at"]) == (ada, 1, None)
    assert row["created_at"] == row["updated_at"] == change["at"] > LONG_AGO
    assert str(row.get(name)) != str(value)
    assert change["fields"] == {
        "uid": [None, made["uid"]],
        "title": [None, "Old"],
        "completed": [None, False],
        "position": [None, "a1"],
    }


@pytest.mark.parametrize(
    ("how", "logged"),
    [
        (storage.toggle, {"completed", "completed_at"}),
        (
            lambda entity, id: storage.update(entity, id, {"completed": True}),
            {"completed", "completed_at"},
        ),
        (
            lambda entity, id: storage.update(entity, id, {"completed": True, "title": "New"}),
            {"completed"},
        ),
    ],
    ids=["toggle", "update", "update of more"],
)
def test_since_when_it_is_completed_follows_from_that_it_is(
    how: Any, logged: set[str], desk: Desk, ada: str
) -> None:
    task = has(desk, ada)
    done = desk.one(ada, how(TASK, task["id"])).object
    assert done
    assert done["completed_at"] == done["updated_at"]
    assert set(desk.log(ada)[-1]["fields"]) >= logged
    again = desk.one(ada, storage.update(TASK, task["id"], {"completed": True})).object
    assert again
    assert again["completed_at"] == done["completed_at"] < again["updated_at"]
    assert desk.log(ada)[-1]["fields"] == {}
    reopened = desk.one(ada, storage.update(TASK, task["id"], {"completed": False})).object
    assert reopened
    assert reopened["completed_at"] is None


# --- what refers to what ---

ELSEWHERE = ("nobody's", "Bob's", "in the trash")  # where no task may refer to
REFERENCES = {"list_id": LIST, "parent_id": TASK}
FIELDS: dict[str, dict[str, Any]] = {"list": {"name": "Home"}, "task": {"title": "Old"}}


def makes(desk: Desk, owner: str, entity: Entity, **fields: Any) -> int:
    made = desk.one(owner, storage.create(entity, {**FIELDS[entity.name], **fields})).object
    assert made
    return int(made["id"])


def is_elsewhere(desk: Desk, ada: str, bob: str, entity: Entity, where: str) -> int:
    if where == "nobody's":
        return ABSENT_ID
    id = makes(desk, bob if where == "Bob's" else ada, entity)
    if where == "in the trash":
        desk.one(ada, storage.delete(entity, id))
    return id


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("column", REFERENCES)
def test_nothing_refers_to_what_is_not_there(
    column: str, where: str, desk: Desk, ada: str, bob: str
) -> None:
    other = is_elsewhere(desk, ada, bob, REFERENCES[column], where)
    task, trashed = has(desk, ada), has_in_trash(desk, ada)
    before = desk.rows_of(ada, bob)
    refused = {
        "created": storage.create(TASK, {"title": "New", column: other}),
        "updated": storage.update(TASK, task["id"], {column: other}),
        "updated wherever": storage.update(TASK, task["id"], {column: other}, in_trash=None),
        "restored": storage.restore(TASK, trashed["id"], fields={column: other}),
    }
    outcomes = {how: desk.one(ada, edit) for how, edit in refused.items()}
    assert {how: status for how, (status, _) in outcomes.items()} == dict.fromkeys(
        refused, "dangling"
    )
    assert [outcomes[how].object for how in ("created", "updated")] == [None, task]
    for edit in refused.values():
        with pytest.raises(Unavailable):  # it is tried again, and again refused
            desk.store(ada, storage.create(TASK, {"title": "New"}), edit, all=True)
    assert desk.rows_of(ada, bob) == before


@pytest.mark.parametrize("column", REFERENCES)
def test_what_is_in_the_trash_may_refer_to_what_is_in_the_trash(
    column: str, desk: Desk, ada: str
) -> None:
    other = makes(desk, ada, REFERENCES[column])
    task = makes(desk, ada, TASK, **{column: other})
    desk.one(ada, storage.delete(TASK, task))
    desk.one(ada, storage.delete(REFERENCES[column], other))
    renamed = storage.update(TASK, task, {"title": "New"}, in_trash=True)
    assert desk.one(ada, renamed).status == "done"
    assert desk.one(ada, storage.restore(TASK, task)).status == "dangling"
    assert desk.one(ada, storage.restore(TASK, task, fields={column: None})).status == "done"


@pytest.mark.parametrize("column", REFERENCES)
def test_what_something_refers_to_stays_until_that_has_gone(
    column: str, desk: Desk, ada: str, bob: str
) -> None:
    entity = REFERENCES[column]
    other = makes(desk, ada, entity)
    task = makes(desk, ada, TASK, **{column: other})
    before = desk.rows_of(ada)
    status, left = desk.one(ada, storage.delete(entity, other))
    assert (status, left and left["id"]) == ("in_use", other)
    assert desk.one(ada, storage.delete(entity, other, skips_same=True)).status == "in_use"
    assert desk.rows_of(ada) == before

    both = [storage.delete(TASK, task), storage.delete(entity, other)]
    assert [outcome.status for outcome in desk.store(ada, *both)] == ["done", "done"]
    before = desk.rows_of(ada)
    assert desk.one(ada, storage.purge(entity, other)).status == "in_use"
    assert desk.rows_of(ada) == before
    assert desk.one(ada, storage.purge(TASK, task)).status == "done"
    assert desk.one(ada, storage.purge(entity, other)) == ("done", None)


def test_an_edit_that_refers_to_what_it_did_is_not_asked_again(desk: Desk, ada: str) -> None:
    """A toggle and an edit of other fields look at nothing, whatever became of the list meanwhile."""
    home = makes(desk, ada, LIST)
    task = makes(desk, ada, TASK, list_id=home)
    sql(desk.url, "UPDATE lists SET deleted_at = now() WHERE id = $1", home)  # as an older server
    for edit in (
        storage.toggle(TASK, task),
        storage.update(TASK, task, {"title": "New"}),
        storage.update(TASK, task, {"list_id": home}),
    ):
        assert desk.one(ada, edit).status == "done"


# --- what is made of other columns ---

MADE: dict[str, tuple[Any, Any]] = {  # of each of these columns: values, one after the other
    "title": ("Äpfel 10", "öl 9"),
    "description": ("Straße, naïve", None),
    "labels": (["Straße", "WORK"], []),
    "start": ("2026-12-01T09:00:00+01:00[Europe/Berlin]", None),
    "due": ("2026-12-02T09:00:00+01:00[Europe/Berlin]", "2026-12-02T09:00:00Z"),
}


def made_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Said once more, so that a change of the declaration is seen."""
    description, start, due = (values[name] for name in ("description", "start", "due"))
    return {
        "title_key": texts.sort_key(values["title"]),
        "title_words": texts.searchable(values["title"]),
        "description_words": None if description is None else texts.searchable(description),
        "label_keys": [texts.fold(label) for label in values["labels"]],
        "start_key": None if start is None else times.key(start),
        "due_key": None if due is None else times.key(due),
    }


def test_every_column_that_is_made_of_another_is_tried() -> None:
    assert {column.made_from for column in TASK.made} == set(MADE)
    assert {column.name for column in TASK.made} == set(
        made_of({name: values[0] for name, values in MADE.items()})
    )
    assert not LIST.made


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_of_a_column_follows_it(name: str, desk: Desk, ada: str) -> None:
    values = {each: before for each, (before, _) in MADE.items()}

    def stored(id: int) -> dict[str, Any]:
        row = desk.row(id)
        values = {column.name: row[column.name] for column in TASK.made}
        return {
            column: value.isoformat() if isinstance(value, datetime) else value
            for column, value in values.items()
        }

    made = desk.one(ada, storage.create(TASK, values)).object
    assert made
    id = made["id"]
    assert stored(id) == made_of(values)
    changed = {**values, name: MADE[name][1]}
    assert made_of(changed) != made_of(values)
    desk.one(ada, storage.update(TASK, id, {name: changed[name]}))
    assert stored(id) == made_of(changed)
    desk.one(ada, storage.toggle(TASK, id))
    assert stored(id) == made_of(changed)
    desk.ask(undo.change(OwnerDatabase(desk.pool, ada), 2))
    assert stored(id) == made_of(values)
    assert set(desk.log(ada)[1]["fields"]) == {name}  # nothing made is in the log


def test_of_what_is_not_given_nothing_is_made(desk: Desk, ada: str) -> None:
    made = desk.one(ada, storage.create(TASK, {"title": "Old"})).object
    assert made
    row = desk.row(made["id"])
    names = ("description_words", "label_keys", "start_key", "due_key")
    assert [row[name] for name in names] == [None] * 4


# --- many in one call ---


def test_what_is_deleted_in_one_call_has_one_time_and_what_in_another_another(
    desk: Desk, ada: str
) -> None:
    """So that what was deleted together can be told, and comes back together."""
    ids = [has(desk, ada)["id"] for _ in range(4)]
    for pair in (ids[:2], ids[2:]):
        edits = [storage.toggle(TASK, pair[0]), *(storage.delete(TASK, id) for id in pair)]
        assert [outcome.status for outcome in desk.store(ada, *edits)] == ["done"] * 3
    rows = [desk.row(id) for id in ids]
    times_of = [row["deleted_at"] for row in rows]
    assert times_of[0] == times_of[1] < times_of[2] == times_of[3]
    log = {change["seq"]: change for change in desk.log(ada)}
    assert times_of[0] == log[5]["at"]  # that of the first change of the call, whatever that was
    for row in rows:
        told = log[row["version"]]["fields"]["deleted_at"][1]
        assert datetime.fromisoformat(told) == row["deleted_at"] <= row["updated_at"]


@pytest.mark.parametrize("count", [storage.EDITS_MAX, storage.EDITS_MAX + 1, 1_000])
def test_a_group_is_found_and_undone_however_long_it_is(count: int, desk: Desk, ada: str) -> None:
    has(desk, ada)
    desk.store(ada, *[storage.create(TASK, {"title": "One of many"})] * count, rows=False)
    has(desk, ada)
    sql(desk.url, "ANALYZE tasks")  # as PostgreSQL does by itself, a minute later
    group = UUID(desk.log(ada)[1]["group"])
    db = OwnerDatabase(desk.pool, ada)
    found = desk.ask(changes.grouped(db, group))
    assert [change["seq"] for change in found] == list(range(2, count + 2))
    undone = desk.ask(undo.group(db, group))
    assert [change["op"] for change in undone] == ["delete"] * count
    assert len({change["group"] for change in undone}) == 1


def test_the_edits_of_a_call_are_one_group_of_consecutive_numbers(desk: Desk, ada: str) -> None:
    first, second = has(desk, ada), has(desk, ada)
    edits = [
        storage.update(TASK, first["id"], {"title": "New"}),
        storage.toggle(TASK, ABSENT_ID),
        storage.create(TASK, {"title": "Third"}),
        storage.update(TASK, second["id"], {"title": "Old"}, skips_same=True),
        storage.delete(TASK, first["id"]),
        storage.toggle(TASK, second["id"], [[99, None]]),
        storage.toggle(TASK, second["id"]),
    ]
    outcomes = desk.store(ada, *edits)
    assert [outcome.status for outcome in outcomes] == [
        "done",
        "absent",
        "done",
        "same",
        "done",
        "stale",
        "done",
    ]
    made = desk.log(ada)[2:]
    assert [change["seq"] for change in made] == [3, 4, 5, 6]
    assert [
        outcome.object["version"]
        for outcome in outcomes
        if outcome.status == "done" and outcome.object
    ] == [*(3, 4, 5, 6)]
    times = [change["at"] for change in made]
    assert times == sorted(set(times))
    [group] = {change["group"] for change in made}
    assert (UUID(group).version, UUID(group).variant) == (8, "specified in RFC 4122")
    assert storage.first_of_group(UUID(group)) == 3
    assert desk.ask(changes.grouped(OwnerDatabase(desk.pool, ada), UUID(group))) == made
    assert desk.one(ada, storage.toggle(TASK, second["id"])).object["version"] == 7  # type: ignore[index]


def test_a_call_that_changes_nothing_takes_no_number(desk: Desk, ada: str) -> None:
    task = has(desk, ada)
    before = desk.rows_of(ada)
    edits = [storage.toggle(TASK, ABSENT_ID), storage.update(TASK, task["id"], {}, skips_same=True)]
    assert [outcome.status for outcome in desk.store(ada, *edits)] == ["absent", "same"]
    assert desk.store(ada) == []
    assert desk.rows_of(ada) == before
    newcomer = f"eve-{uuid4().hex}"
    desk.store(newcomer, storage.toggle(TASK, ABSENT_ID))
    assert desk.rows_of(newcomer) == []


def test_calls_at_once_keep_their_numbers_together(desk: Desk, ada: str) -> None:
    ids = [has(desk, ada)["id"] for _ in range(3)]

    async def write() -> None:
        db = OwnerDatabase(desk.pool, ada)
        for _ in range(BATCHES):
            await db.store(*(storage.toggle(TASK, id) for id in ids))

    async def all_write() -> None:
        await asyncio.gather(*(write() for _ in range(WRITERS)))

    desk.ask(all_write())
    logged = desk.log(ada)[len(ids) :]
    assert [change["seq"] for change in logged] == list(range(4, 4 + WRITERS * BATCHES * 3))
    for start in range(0, len(logged), 3):
        together = logged[start : start + 3]
        assert len({change["group"] for change in together}) == 1
        assert [change["entity_id"] for change in together] == ids
    assert len({change["group"] for change in logged}) == WRITERS * BATCHES


REFUSED: dict[str, Callable[[dict[str, Any]], Edit]] = {
    "absent": lambda task: storage.toggle(TASK, ABSENT_ID),
    "stale": lambda task: storage.toggle(TASK, task["id"], [[99, None]]),
    "in the trash": lambda task: storage.create(TASK, {"title": "Again"}, task["uid"]),
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("refused", REFUSED)
def test_all_or_nothing(refused: str, place: int, desk: Desk, ada: str) -> None:
    first, second = has(desk, ada), has(desk, ada)
    third = has_in_trash(desk, ada) if refused == "in the trash" else has(desk, ada)
    edits = [storage.toggle(TASK, first["id"]), storage.delete(TASK, second["id"])]
    edits.insert(place, REFUSED[refused](third))
    before = desk.rows_of(ada)
    with pytest.raises(Unavailable):
        desk.store(ada, *edits, all=True)
    assert desk.rows_of(ada) == before
    del edits[place]
    assert [outcome.status for outcome in desk.store(ada, *edits, all=True)] == ["done", "done"]


def test_what_exists_or_is_the_same_keeps_nothing_from_being_done(desk: Desk, ada: str) -> None:
    task = has(desk, ada)
    edits = [
        storage.create(TASK, {"title": "Again"}, task["uid"]),
        storage.update(TASK, task["id"], {}, skips_same=True),
        storage.toggle(TASK, task["id"]),
    ]
    assert [outcome.status for outcome in desk.store(ada, *edits, all=True)] == [
        "exists",
        "same",
        "done",
    ]


FAILS = """
CREATE SEQUENCE attempts;
GRANT USAGE ON SEQUENCE attempts TO PUBLIC;
CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('attempts') = 1 THEN RAISE serialization_failure; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fails BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION fails();
"""


def test_all_or_nothing_is_tried_again_and_leaves_no_gap(empty_database: Callable[[], str]) -> None:
    """No transaction takes a number of `attempts` back, so it says how often it was tried."""
    url = empty_database()

    async def store(*edits: Edit) -> list[Outcome]:
        async with opened(url) as pool:
            return await OwnerDatabase(pool, "ada").store(*edits, all=True)

    made = asyncio.run(store(*(storage.create(TASK, {"title": "Old"}) for _ in range(2))))
    first, second = (outcome.object["id"] for outcome in made if outcome.object)
    for statement in migrate.statements(FAILS):
        sql(url, statement)
    outcomes = asyncio.run(store(storage.toggle(TASK, first), storage.toggle(TASK, second)))
    assert [outcome.object["version"] for outcome in outcomes if outcome.object] == [3, 4]
    assert sql(url, "SELECT last_value FROM attempts") == [(3,)]  # one failed, two were done

    with pytest.raises(Unavailable):
        asyncio.run(store(storage.toggle(TASK, first), storage.toggle(TASK, ABSENT_ID)))
    assert sql(url, "SELECT last_value FROM attempts") == [(3 + pools.ATTEMPTS,)]
    assert sql(url, "SELECT seq FROM change_counters") == [(4,)]


def test_as_many_edits_as_one_call_takes(desk: Desk, ada: str) -> None:
    """And the undo of so many: the group is read and taken back as a whole."""
    edits = [
        storage.create(TASK, {"title": f"Task {number}"}) for number in range(storage.EDITS_MAX)
    ]
    created = [outcome.object for outcome in desk.store(ada, *edits)]
    assert [task["version"] for task in created if task] == list(range(1, storage.EDITS_MAX + 1))
    ids = [task["id"] for task in created if task]
    outcomes = desk.store(ada, *(storage.toggle(TASK, id) for id in ids), all=True)
    assert {outcome.status for outcome in outcomes} == {"done"}
    logged = desk.log(ada)
    assert [change["seq"] for change in logged] == list(range(1, 2 * storage.EDITS_MAX + 1))
    assert len({change["group"] for change in logged}) == 2

    undone = desk.ask(undo.group(OwnerDatabase(desk.pool, ada), UUID(logged[-1]["group"])))
    assert [change["entity_id"] for change in undone] == ids[::-1]
    assert sql(desk.url, "SELECT FROM tasks WHERE user_id = $1 AND completed", ada) == []


def test_a_group_says_where_it_begins_unless_it_is_older() -> None:
    assert storage.first_of_group(uuid4()) is None
    assert storage.first_of_group(UUID(f"{storage.new_group()}{12:012x}")) == 12
    assert storage.first_of_group(UUID(f"{storage.new_group()}{2**48 - 1:012x}")) == 2**48 - 1
    assert len({storage.new_group() for _ in range(1_000)}) == 1_000


# --- two who write the same ---


def test_what_is_guarded_is_done_again_under_the_lock(desk: Desk, ada: str) -> None:
    """Somebody else writes between its reading and its writing, the first time."""
    task = has(desk, ada)
    seen: list[int] = []

    async def work(db: OwnerDatabase) -> Outcome:
        [now] = await db.read(undo.CURRENT["task"], f"{{{task['id']}}}")
        seen.append(now["version"])
        if len(seen) == 1:
            await OwnerDatabase(desk.pool, ada).store(storage.toggle(TASK, task["id"]))
        seen_version = [[now["version"], None]]
        [outcome] = await db.store(
            storage.update(TASK, task["id"], {"title": f"{now['title']}!"}, seen_version)
        )
        if outcome.status == "stale":
            raise GuardLost
        return outcome

    outcome = desk.ask(OwnerDatabase(desk.pool, ada).guarded(work))
    assert outcome.object
    assert (outcome.status, outcome.object["title"], outcome.object["completed"]) == (
        "done",
        "Old!",
        True,
    )
    assert seen == [1, 2]
    assert [change["seq"] for change in desk.log(ada)] == [1, 2, 3]


def test_what_is_locked_sees_nobody_elses_write_until_it_is_done(desk: Desk, ada: str) -> None:
    task = has(desk, ada)

    async def write_meanwhile() -> None:
        await OwnerDatabase(desk.pool, ada).store(storage.toggle(TASK, task["id"]))

    async def run() -> tuple[int, Outcome]:
        meanwhile: list[asyncio.Task[None]] = []

        async def work(db: OwnerDatabase) -> tuple[int, Outcome]:
            first = await changes.latest(db)
            meanwhile.append(asyncio.create_task(write_meanwhile()))
            await asyncio.sleep(0.1)
            assert await changes.latest(db) == first
            [outcome] = await db.store(storage.update(TASK, task["id"], {"title": "New"}))
            return first.number, outcome

        done = await OwnerDatabase(desk.pool, ada).locked(work)
        await asyncio.gather(*meanwhile)
        return done

    first, outcome = desk.ask(run())
    assert outcome.object
    assert (first, outcome.object["version"], outcome.object["completed"]) == (1, 2, False)
    assert [change["fields"].keys() for change in desk.log(ada)][1:] == [
        {"title"},
        {"completed", "completed_at"},
    ]


# --- what is kept of what is gone ---


def test_a_purge_forgets_every_answer_that_shows_its_task_and_no_other(
    desk: Desk, ada: str, bob: str
) -> None:
    task, other = has_in_trash(desk, ada)["id"], has(desk, ada)["id"]
    shown = {
        "it": [task],
        "both": [other, task],
        "another": [other],
        "two others": [other, ABSENT_ID],
        "none": [],
    }

    async def keep_all() -> None:
        for owner in (ada, bob):
            for key, ids in shown.items():
                values = (
                    key,
                    b"",
                    200,
                    "{}",
                    '{"data": "a text"}',
                    f"{{{','.join(map(str, ids))}}}",
                )
                await desk.pool.write(storage.KEEP_CALL, owner, *values)

    desk.ask(keep_all())
    assert desk.one(ada, storage.purge(TASK, task)).status == "done"
    emptied = "SELECT user_id, key FROM idempotency_keys WHERE body IS NULL AND user_id = ANY ($1) ORDER BY key"
    assert sql(desk.url, emptied, [ada, bob]) == [(ada, "both"), (ada, "it")]


# --- what it costs ---


def test_an_edit_writes_no_index(empty_database: Callable[[], str]) -> None:
    """PostgreSQL calls such an update HOT. It is none where a column changes that any index knows."""
    url = empty_database()

    async def edit(work: Callable[[int, int], Edit]) -> None:
        async with opened(url) as pool:
            db = OwnerDatabase(pool, "ada")
            [made] = await db.store(storage.create(TASK, {"title": "Old"}))
            assert made.object
            for number in range(EDITS):
                await db.store(work(made.object["id"], number))

    def updates() -> tuple[int, int]:
        query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'tasks'"
        return tuple(sql(url, query)[0])

    def wait_for(count: int) -> tuple[int, int]:
        """A session says what it did when it ends, which may be a little later."""
        deadline = time.monotonic() + 10
        while updates()[0] < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return updates()

    asyncio.run(edit(lambda id, number: storage.update(TASK, id, {"title": f"Title {number}"})))
    count, hot = wait_for(EDITS)
    assert count == EDITS
    assert hot >= 0.9 * EDITS

    def to_the_trash_and_back(id: int, number: int) -> Edit:
        return storage.restore(TASK, id) if number % 2 else storage.delete(TASK, id)

    asyncio.run(edit(to_the_trash_and_back))  # the control: `deleted_at` is indexed
    assert wait_for(2 * EDITS) == (2 * EDITS, hot)
