"""Undo restores exactly what was, loses nothing that is newer, and does a group as a whole or not
at all."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import changes
import storage
import tasks
import trash
import undo
from database import OwnerDatabase
from entities import TASK
from errors import NotFound, UndoConflict
from postgres import dsn, migrate
from postgres.pool import Pool
from storage import Edit
from tests.conftest import sql
from tests.people import Person

Act = Callable[[Person, int], Any]

# --- through the front door ---


NOTED = """UPDATE changes SET fields = fields || '{"note": [null, "two"]}' WHERE user_id = $1 AND seq = $2"""


def state(person: Person, id: int) -> tuple[str, Any]:
    """Where the task is, and everything of it but `version` and `updated_at`, which every change
    moves."""
    found = person.get(f"/{id}")
    if found.status_code == 200:
        return "live", without_marks(found.json()["data"])
    for task in person.request("GET", "/v1/trash").json()["data"]:
        if (task.pop("entity"), task["id"]) == ("task", id):
            return "in the trash", without_marks(task)
    return "nowhere", None


def without_marks(task: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in task.items() if name not in ("version", "updated_at")}


def log(person: Person) -> list[Any]:
    found: list[Any] = person.request("GET", "/v1/changes").json()["data"]
    return found


def everything(person: Person) -> tuple[Any, ...]:
    """All that a user can see of their data, with versions."""
    return person.get().json(), person.request("GET", "/v1/trash").json(), log(person)


def take_back(person: Person, seq: int) -> list[Any]:
    answer = person.request("POST", f"/v1/changes/{seq}/undo")
    assert answer.status_code == 200, answer.text
    made: list[Any] = answer.json()["data"]
    return made


def put(**fields: Any) -> Act:
    return lambda person, task_id: person.put(task_id, fields)


def complete(person: Person, id: int) -> Any:
    return person.patch(f"/{id}/complete")


def set_completed(completed: bool) -> Act:
    return lambda person, task_id: person.patch(
        f"/{task_id}/complete", json={"completed": completed}
    )


def delete(person: Person, id: int) -> Any:
    return person.delete(id)


def restore(person: Person, id: int) -> Any:
    return person.request("POST", f"/v1/trash/{id}/restore")


def purge(person: Person, id: int) -> Any:
    return person.request("DELETE", f"/v1/trash/{id}")


def do(person: Person, id: int, *acts: Act) -> int:
    """The number of the last change."""
    for act in acts:
        answer = act(person, id)
        assert answer.status_code == 200, answer.text
    return int(log(person)[-1]["seq"])


OPERATIONS: dict[str, list[Act]] = {  # the last one is undone
    "title": [put(title="Buy oat milk")],
    "description": [put(description="One litre")],
    "description cleared": [put(description=None)],
    "several fields": [put(title="Buy oat milk", description=None, completed=True)],
    "complete": [complete],
    "complete by set": [set_completed(True)],
    "complete by update": [put(completed=True)],
    "reopen": [complete, complete],
    "reopen by set": [complete, set_completed(False)],
    "reopen by update": [complete, put(completed=False)],
    "delete": [delete],
    "delete completed": [complete, delete],
    "restore": [delete, restore],
    "restore completed": [complete, delete, restore],
}


@pytest.mark.parametrize("acts", OPERATIONS.values(), ids=OPERATIONS)
def test_undo_restores_the_exact_earlier_state_and_undo_of_undo_the_later(
    acts: list[Act], ada: Person
) -> None:
    id = ada.has("Buy milk", "Two litres")["id"]
    for act in acts[:-1]:
        do(ada, id, act)
    before = state(ada, id)
    done = do(ada, id, acts[-1])
    after = state(ada, id)
    assert after != before
    for number in range(3):  # the undo of each is the redo of the one before
        [made] = take_back(ada, done + number)
        assert made["seq"] == done + number + 1
        assert state(ada, id) == (after if number % 2 else before)
    seen = everything(ada)
    assert take_back(ada, done + 2) == take_back(ada, done) == []
    assert everything(ada) == seen


def test_undoing_a_creation_moves_it_to_the_trash_and_undoing_that_takes_it_out(
    ada: Person,
) -> None:
    task = ada.has("Buy milk", "Two litres")
    created = state(ada, task["id"])
    [made] = take_back(ada, 1)
    assert (made["op"], list(made["fields"])) == ("delete", ["deleted_at"])
    assert ada.get(f"/{task['id']}").status_code == 404
    place, shown = state(ada, task["id"])
    assert (place, shown) == ("in the trash", {**created[1], "deleted_at": made["at"]})
    [restored] = take_back(ada, 2)
    assert (restored["op"], state(ada, task["id"])) == ("restore", created)
    [again] = take_back(ada, 3)
    assert (again["op"], state(ada, task["id"])) == ("delete", (place, shown))
    assert take_back(ada, 1) == []


def test_an_update_that_changed_nothing_is_undone_by_doing_nothing(ada: Person) -> None:
    id = ada.has("Buy milk")["id"]
    ada.put(id, {})
    seen = everything(ada)
    assert take_back(ada, 2) == []
    assert everything(ada) == seen


def test_a_task_in_the_trash_is_put_right_where_it_is(ada: Person) -> None:
    id = ada.has("Buy milk")["id"]
    do(ada, id, put(title="Buy oat milk"), delete)
    place, shown = state(ada, id)
    take_back(ada, 2)
    assert state(ada, id) == (place, {**shown, "title": "Buy milk"}) != (place, shown)


NEWER: dict[
    str, tuple[list[Act], Act, list[str]]
] = {  # before; after what is undone; the fields in conflict
    "title": ([put(title="B")], put(title="C"), ["title"]),
    "one of two": ([put(title="B", description="b")], put(description="c"), ["description"]),
    "both": (
        [put(title="B", description="b")],
        put(title="C", description=None),
        ["description", "title"],
    ),
    "cleared since": ([put(description="b")], put(description=None), ["description"]),
    "completed at another time": (
        [complete],
        lambda *of: [complete(*of), complete(*of)][-1],
        ["completed_at"],
    ),
    "deleted at another time": (
        [delete],
        lambda *of: [restore(*of), delete(*of)][-1],
        ["deleted_at"],
    ),
    "restored and deleted again": ([delete, restore], delete, ["deleted_at"]),
    "a creation, title edited": ([], put(title="B"), ["title"]),
    "a creation, completed": ([], complete, ["completed", "completed_at"]),
    "a creation, all edited": (
        [],
        put(title="B", description="b", completed=True),
        ["completed", "completed_at", "description", "title"],
    ),
    "a creation, edited and deleted": (
        [],
        lambda *of: [put(title="B")(*of), delete(*of)][-1],
        ["title"],
    ),
}


@pytest.mark.parametrize(("acts", "newer", "fields"), NEWER.values(), ids=NEWER)
def test_what_is_newer_is_a_conflict_by_name_and_nothing_changes(
    acts: list[Act], newer: Act, fields: list[str], ada: Person
) -> None:
    id = ada.has("A", "a")["id"]
    undone = do(ada, id, *acts)
    do(ada, id, newer)
    seen = everything(ada)
    by_number = ada.request("POST", f"/v1/changes/{undone}/undo")
    by_group = ada.request("POST", "/v1/undo", json={"group": log(ada)[undone - 1]["group"]})
    for answer in (by_number, by_group):
        assert (answer.status_code, answer.json()["code"]) == (409, "UNDO_CONFLICT")
        assert [problem["field"] for problem in answer.json()["errors"]] == fields
    assert everything(ada) == seen


UNRELATED: dict[str, tuple[list[Act], list[Act], dict[str, Any]]] = {
    "another field was edited": (
        [put(title="B")],
        [put(description="b", completed=True), delete, restore],
        {"title": "A", "description": "b", "completed": True},
    ),
    "one field is the old one already": (
        [put(title="B", description="b")],
        [put(title="A")],
        {"title": "A", "description": "a"},
    ),
    "edited, and back": ([put(title="B")], [put(title="C"), put(title="B")], {"title": "A"}),
    "a creation, edited and back": ([], [put(title="B"), put(title="A")], {"title": "A"}),
    "a creation, completed and reopened": ([], [complete, complete], {"completed": False}),
}


@pytest.mark.parametrize(("acts", "since", "wanted"), UNRELATED.values(), ids=UNRELATED)
def test_what_is_not_newer_is_no_conflict(
    acts: list[Act], since: list[Act], wanted: dict[str, Any], ada: Person
) -> None:
    id = ada.has("A", "a")["id"]
    undone = do(ada, id, *acts)
    do(ada, id, *since)
    before = state(ada, id)[1]
    [made] = take_back(ada, undone)
    place, after = state(ada, id)
    assert after == {**before, **wanted, **({} if acts else {"deleted_at": made["at"]})}
    assert place == ("live" if acts else "in the trash")


NEWER_TIMES: dict[str, tuple[list[Act], list[Act], str]] = {
    "a start that is later": (
        [put(due="2026-12-03"), put(due=None)],
        [put(start="2026-12-04")],
        "Due must not be before start",
    ),
    "a due that is earlier": (
        [put(start="2026-12-03"), put(start=None)],
        [put(due="2026-12-02")],
        "Due must not be before start",
    ),
    "a start of another kind": (
        [put(due="2026-12-03"), put(due=None)],
        [put(start="2026-12-01T09:00")],
        "Due must be of the same kind as start",
    ),
}


@pytest.mark.parametrize(("acts", "since", "sentence"), NEWER_TIMES.values(), ids=NEWER_TIMES)
def test_a_time_that_does_not_fit_the_newer_other_one_does_not_come_back(
    acts: list[Act], since: list[Act], sentence: str, ada: Person
) -> None:
    id = ada.has("A")["id"]
    undone = do(ada, id, *acts)
    do(ada, id, *since)
    before = everything(ada)
    group = log(ada)[undone - 1]["group"]
    for path, body in ((f"/v1/changes/{undone}/undo", None), ("/v1/undo", {"group": group})):
        reply = ada.request("POST", path, json=body)
        assert (reply.status_code, reply.json()["code"]) == (409, "UNDO_CONFLICT")
        assert (reply.json()["error"], reply.json().get("errors")) == (sentence, None)
    assert everything(ada) == before


def test_two_times_come_back_together_as_another_kind(ada: Person) -> None:
    id = ada.has_task("A", start="2026-12-01", due="2026-12-02")["id"]
    undone = do(ada, id, put(start="2027-01-01T09:00", due="2027-01-01T10:00"))
    take_back(ada, undone)
    shown = ada.get(f"/{id}").json()["data"]
    assert (shown["start"], shown["due"]) == ("2026-12-01", "2026-12-02")


def test_fields_of_a_newer_release_are_left_to_it(ada: Person, database_url: str) -> None:
    """Servers of two releases work side by side: this one may meet fields in the log that it does
    not know."""
    id = ada.has("Buy milk")["id"]
    seq = do(ada, id, put(title="Buy oat milk"))
    sql(database_url, NOTED, ada.id, seq)
    [made] = take_back(ada, seq)
    assert made["fields"] == {"title": ["Buy oat milk", "Buy milk"]}
    assert ada.get(f"/{id}").json()["data"]["title"] == "Buy milk"


def test_a_purge_is_not_undone_nor_is_what_came_before_it(ada: Person) -> None:
    id = ada.has("Buy milk")["id"]
    last = do(ada, id, put(title="Buy oat milk"), put(), complete, delete, restore, delete, purge)
    seen = everything(ada)
    for seq in range(1, last + 1):
        answer = ada.request("POST", f"/v1/changes/{seq}/undo")
        assert (answer.status_code, answer.json()["code"]) == (409, "UNDO_CONFLICT")
        assert "errors" not in answer.json()
    assert everything(ada) == seen


# --- groups ---


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Pool]:
    pool = Pool(dsn.parse(url), migrate.ROLE)
    yield pool
    await pool.close()


def in_one_call(url: str, person: Person, edits: list[Edit]) -> str:
    """The group of the changes that these edits made."""

    async def run() -> None:
        async with opened(url) as pool:
            outcomes = await OwnerDatabase(pool, person.id).store(*edits)
            assert {outcome.status for outcome in outcomes} == {"done"}

    asyncio.run(run())
    return str(log(person)[-1]["group"])


def one_by_one(url: str, person: Person, edits: list[Edit]) -> str:
    """As before migration 0005: a group's UUID is random, and other changes may lie between those
    of the group."""

    async def run() -> None:
        async with opened(url) as pool:
            for edit in edits:
                [outcome] = await OwnerDatabase(pool, person.id).store(edit)
                assert outcome.status == "done"

    before = len(log(person))
    asyncio.run(run())
    return grouped(url, person, range(before + 1, len(log(person)) + 1))


def grouped(url: str, person: Person, numbers: Iterable[int]) -> str:
    """These changes, made one group after the fact."""
    group = str(uuid4())
    regroup = "UPDATE changes SET group_id = $1 WHERE user_id = $2 AND seq = ANY ($3)"
    sql(url, regroup, group, person.id, list(numbers))
    return group


Together = Callable[[str, Person, list[Edit]], str]
both_ways = pytest.mark.parametrize("together", [in_one_call, one_by_one])


def take_group_back(person: Person, group: str) -> list[Any]:
    answer = person.request("POST", "/v1/undo", json={"group": group})
    assert answer.status_code == 200, answer.text
    made: list[Any] = answer.json()["data"]
    return made


@both_ways
def test_a_group_is_undone_as_one_change_of_each_task_and_back_again(
    together: Together, ada: Person, database_url: str
) -> None:
    milk, bread = ada.has("Buy milk", "Two litres")["id"], ada.has("Buy bread")["id"]
    before = [state(ada, milk), state(ada, bread)]
    edits = [
        storage.update(TASK, milk, {"title": "Buy oat milk"}),
        storage.update(TASK, milk, {"description": None}),
        storage.toggle(TASK, bread),
        storage.create(TASK, {"title": "Buy eggs"}),
        storage.delete(TASK, bread),
    ]
    group = together(database_url, ada, edits)
    eggs = log(ada)[5]["entity_id"]
    after = [state(ada, id) for id in (milk, bread, eggs)]
    made = take_group_back(ada, group)
    assert [(change["seq"], change["entity_id"], change["op"]) for change in made] == [
        (8, bread, "restore"),
        (9, eggs, "delete"),
        (10, milk, "update"),
    ]
    assert len({change["group"] for change in made}) == 1
    assert made == log(ada)[7:]
    assert [state(ada, milk), state(ada, bread)] == before
    assert state(ada, eggs)[0] == "in the trash"
    assert take_group_back(ada, group) == []

    assert len(take_group_back(ada, made[0]["group"])) == 3
    assert [state(ada, id) for id in (milk, bread, eggs)] == after
    assert take_group_back(ada, made[0]["group"]) == []


def test_a_creation_and_its_edits_in_one_group_are_undone_as_a_creation(
    ada: Person, database_url: str
) -> None:
    eggs = ada.has("Buy eggs")["id"]
    edits = [storage.update(TASK, eggs, {"title": "Buy ten eggs"}), storage.toggle(TASK, eggs)]
    one_by_one(database_url, ada, edits)
    edited = state(ada, eggs)
    group = grouped(database_url, ada, (1, 2, 3))
    [made] = take_group_back(ada, group)
    assert (made["op"], state(ada, eggs)[0]) == ("delete", "in the trash")
    assert take_group_back(ada, group) == []
    take_group_back(ada, made["group"])
    assert state(ada, eggs) == edited


@both_ways
@pytest.mark.parametrize("place", range(3))
def test_a_group_of_which_one_change_is_in_conflict_is_not_undone_at_all(
    place: int, together: Together, ada: Person, database_url: str
) -> None:
    ids = [ada.has(f"Task {number}")["id"] for number in range(3)]
    edits = [storage.update(TASK, id, {"title": "Changed", "description": "Changed"}) for id in ids]
    group = together(database_url, ada, edits)
    ada.put(ids[place], {"description": "Newer"})
    seen = everything(ada)
    answer = ada.request("POST", "/v1/undo", json={"group": group})
    assert (answer.status_code, answer.json()["code"]) == (409, "UNDO_CONFLICT")
    assert [problem["field"] for problem in answer.json()["errors"]] == ["description"]
    assert everything(ada) == seen

    do(ada, ids[place], delete, purge)
    seen = everything(ada)
    answer = ada.request("POST", "/v1/undo", json={"group": group})
    assert (answer.status_code, answer.json()["code"], "errors" in answer.json()) == (
        409,
        "UNDO_CONFLICT",
        False,
    )
    assert everything(ada) == seen


TWICE: dict[str, Callable[[int], list[Edit]]] = {
    "edited twice": lambda id: [
        storage.update(TASK, id, {"title": "B"}),
        storage.update(TASK, id, {"title": "C"}),
    ],
    "completed and reopened": lambda id: [storage.toggle(TASK, id), storage.toggle(TASK, id)],
    "deleted and restored": lambda id: [storage.delete(TASK, id), storage.restore(TASK, id)],
}


@both_ways
@pytest.mark.parametrize("edits", TWICE.values(), ids=TWICE)
def test_a_group_that_changed_a_field_twice_is_undone_and_then_nothing_of_it_is_left(
    edits: Callable[[int], list[Edit]], together: Together, ada: Person, database_url: str
) -> None:
    id = ada.has("A")["id"]
    before = state(ada, id)
    group = together(database_url, ada, edits(id))
    take_group_back(ada, group)
    assert state(ada, id) == before
    seen = everything(ada)
    assert take_group_back(ada, group) == []
    assert everything(ada) == seen


def test_what_somebody_else_wrote_between_two_changes_of_a_group_is_not_lost(
    ada: Person, database_url: str
) -> None:
    id = ada.has("A")["id"]
    do(
        ada,
        id,
        put(title="B", description="One"),
        put(title="Between"),
        put(title="C", description="Two"),
    )
    group = grouped(database_url, ada, (2, 4))
    seen = everything(ada)
    answer = ada.request("POST", "/v1/undo", json={"group": group})
    assert (answer.status_code, answer.json()["code"]) == (409, "UNDO_CONFLICT")
    assert [problem["field"] for problem in answer.json()["errors"]] == ["title"]
    assert everything(ada) == seen


@both_ways
def test_of_a_group_that_is_undone_in_part_the_rest_is_undone(
    together: Together, ada: Person, database_url: str
) -> None:
    ids = [ada.has(f"Task {number}")["id"] for number in range(3)]
    before = [state(ada, id) for id in ids]
    group = together(database_url, ada, [storage.toggle(TASK, id) for id in ids])
    take_back(ada, 5)
    assert [change["entity_id"] for change in take_group_back(ada, group)] == [ids[2], ids[0]]
    assert [state(ada, id) for id in ids] == before


# --- whatever is done, in whatever order, against a model that knows the rule ---

FIELDS = ("uid", "title", "description", "completed", "completed_at", "position")
TITLES = ("A", "B")
DESCRIPTIONS = (None, "", "d")
FEW = 4  # tasks
EXAMPLES = 150

Fields = dict[str, Any]


class Done(NamedTuple):
    """A change, as the model has it. Times are the numbers of the changes that set them."""

    seq: int
    group: UUID
    id: int
    op: str
    fields: dict[str, list[Any]]


def net_of(which: list[Done]) -> tuple[dict[str, list[Any]], set[str]]:
    """What changes of one task come to: first old and last new values; and the fields written by
    others in between."""
    net: dict[str, list[Any]] = {}
    between: set[str] = set()
    for done in which:
        for name, (old, new) in done.fields.items():
            if name in net and net[name][1] != old:
                between.add(name)
            net[name] = [net.get(name, [old])[0], new]
    return {
        name: pair for name, pair in net.items() if pair[0] != pair[1] or name in between
    }, between


class Model:
    """What docs/undo.md says, of one user: tasks by id, with a `deleted_at`, and the log."""

    def __init__(self) -> None:
        self.tasks: dict[int, Fields] = {}
        self.log: list[Done] = []
        self.began = 0  # number of the first change of this call, whose time all its deletions have

    @property
    def now(self) -> int:
        return len(self.log) + 1

    def create(self, group: UUID, id: int, **fields: Any) -> None:
        new = {**dict.fromkeys((*FIELDS, "deleted_at")), **fields}
        self._note(
            group,
            id,
            "create",
            {name: [None, value] for name, value in new.items() if value is not None},
        )
        self.tasks[id] = new

    def update(self, group: UUID, id: int, fields: Fields, skips_same: bool = False) -> None:
        new = {**self._find(id, in_trash=False), **fields}
        if new["completed"] != self.tasks[id]["completed"]:
            new["completed_at"] = self.now if new["completed"] else None
        if not skips_same or new != self.tasks[id]:
            self._store(group, id, new)

    def toggle(self, group: UUID, id: int) -> None:
        self.update(group, id, {"completed": not self._find(id, in_trash=False)["completed"]})

    def delete(self, group: UUID, id: int) -> None:
        self._store(
            group, id, {**self._find(id, in_trash=False), "deleted_at": self.began or self.now}
        )

    def restore(self, group: UUID, id: int) -> None:
        self._store(group, id, {**self._find(id, in_trash=True), "deleted_at": None})

    def purge(self, group: UUID, id: int) -> None:
        self._find(id, in_trash=True)
        del self.tasks[id]
        self.log = [done._replace(fields={}) if done.id == id else done for done in self.log]
        self._note(group, id, "purge", {})

    def undo(self, group: UUID, which: list[Done]) -> None:
        """UndoConflict with exactly the fields."""
        if not which:
            raise NotFound("Nothing to undo")
        before = copy.deepcopy((self.tasks, self.log))
        for id in dict.fromkeys(done.id for done in reversed(which)):
            conflicts = self._undo(group, id, [done for done in which if done.id == id])
            if conflicts is not None:
                self.tasks, self.log = before
                raise UndoConflict(conflicts)

    def _undo(self, group: UUID, id: int, which: list[Done]) -> list[str] | None:
        task = self.tasks.get(id)
        if task is None:
            return []
        net, newer = net_of(which)
        if any(done.op == "create" for done in which):
            newer = {
                name
                for name in FIELDS
                if name in newer or task[name] != net.get(name, [None, None])[1]
            }
            new = {**task, "deleted_at": task["deleted_at"] or self.began or self.now}
        else:
            newer |= {name for name, pair in net.items() if task[name] not in pair}
            new = {**task, **{name: old for name, (old, _) in net.items()}}
        if newer:
            return sorted(newer)
        if new != task:
            self._store(group, id, new)
        return None

    def _find(self, id: int, in_trash: bool) -> Fields:
        task = self.tasks.get(id)
        if task is None or (task["deleted_at"] is not None) != in_trash:
            raise NotFound("Task not found")
        return task

    def _store(self, group: UUID, id: int, new: Fields) -> None:
        was = self.tasks[id]
        moved = (was["deleted_at"] is None) != (new["deleted_at"] is None)
        op = ("delete" if new["deleted_at"] else "restore") if moved else "update"
        self._note(
            group, id, op, {name: [was[name], new[name]] for name in new if was[name] != new[name]}
        )
        self.tasks[id] = new

    def _note(self, group: UUID, id: int, op: str, fields: dict[str, list[Any]]) -> None:
        self.began = self.began or self.now
        self.log.append(Done(self.now, group, id, op, fields))


class Step(NamedTuple):
    """`at` and `back` choose among the tasks and the changes that there are; `same` goes on with
    the group before, as only groups of before migration 0005 do."""

    kind: str
    at: int
    back: int
    same: bool
    fields: Fields


KINDS = (
    "create",
    "update",
    "toggle",
    "set",
    "delete",
    "restore",
    "purge",
    "several",
    "undo",
    "undo group",
)
CHANGED = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(TITLES),
        "description": st.sampled_from(DESCRIPTIONS),
        "completed": st.booleans(),
    },
)
STEP = st.builds(
    Step,
    st.sampled_from((*KINDS, "delete", "several", "undo", "undo", "undo group", "undo group")),
    st.integers(0, FEW - 1),
    st.integers(0, 9),
    st.booleans(),
    CHANGED,
)


class Call(NamedTuple):
    """A step, once it is clear which tasks and which changes it is about."""

    kind: str
    ids: list[int]
    seq: int
    group: UUID
    fields: Fields

    @property
    def id(self) -> int:
        return self.ids[0]


async def ask(db: OwnerDatabase, call: Call, group: UUID) -> Any:
    """`group` as the database has it."""
    match call.kind:
        case "several":
            await db.store(*several(call))
        case "toggle":
            await tasks.complete(db, call.id)
        case "set":
            await tasks.complete(db, call.id, call.fields.get("completed", True))
        case "delete":
            await tasks.delete(db, call.id)
        case "restore":
            await tasks.restore(db, call.id)
        case "purge":
            await trash.purge(db, TASK, call.id)
        case "undo":
            return await undo.change(db, call.seq)
        case "undo group":
            return await undo.group(db, group)
        case _:
            await tasks.update(db, call.id, call.fields)


def several(call: Call) -> list[Edit]:
    """In one call of the writer. Those that cannot be done are left out."""
    first, second, third = call.ids[:3]
    return [
        storage.update(TASK, first, call.fields),
        storage.toggle(TASK, second),
        storage.delete(TASK, third),
        storage.update(TASK, first, {"title": "A"}, skips_same=True),
        storage.restore(TASK, second),
    ]


def imagine_several(model: Model, group: UUID, call: Call) -> None:
    first, second, third = call.ids[:3]
    acts: list[Callable[[], None]] = [
        lambda: model.update(group, first, call.fields),
        lambda: model.toggle(group, second),
        lambda: model.delete(group, third),
        lambda: model.update(group, first, {"title": "A"}, skips_same=True),
        lambda: model.restore(group, second),
    ]
    for act in acts:
        with suppress(NotFound):
            act()


def imagine(model: Model, group: UUID, call: Call) -> None:
    match call.kind:
        case "several":
            imagine_several(model, group, call)
        case "toggle":
            model.toggle(group, call.id)
        case "set":
            model.update(
                group, call.id, {"completed": call.fields.get("completed", True)}, skips_same=True
            )
        case "delete":
            model.delete(group, call.id)
        case "restore":
            model.restore(group, call.id)
        case "purge":
            model.purge(group, call.id)
        case "undo":
            model.undo(group, [done for done in model.log if done.seq == call.seq])
        case "undo group":
            model.undo(group, [done for done in model.log if done.group == call.group])
        case _:
            model.update(group, call.id, call.fields)


class Pair:
    """The model and the database, side by side: each step is done in both."""

    def __init__(self, pool: Pool, superuser: asyncpg.Connection) -> None:
        self.superuser = superuser
        self.owner = f"eve-{uuid4().hex}"
        self.model = Model()
        self.ids: list[int] = []
        self.db = OwnerDatabase(pool, self.owner)
        self.groups: dict[UUID, UUID] = {}  # of the model: in the database

    async def take(self, step: Step) -> str:
        """What came of it."""
        self.model.began = 0
        before = len(self.model.log)
        goes_on = step.same and before > 0
        self.group = self.model.log[-1].group if goes_on else uuid4()
        if not self.ids or (step.kind == "create" and len(self.ids) < FEW):
            came = await self._create(step.fields)
        else:
            came = await self._act(step)
        if len(self.model.log) > before:
            await self._name_group(before, goes_on)
        assert await self._stored() == self._modelled(), step
        return f"{step.kind}: {came}"

    async def _name_group(self, before: int, goes_on: bool) -> None:
        made = await changes.since(self.db, before, 500)
        [group] = {UUID(change["group"]) for change in made}  # one step, one group
        if goes_on:
            older, group = self.groups[self.group], uuid4()
            regroup = "UPDATE changes SET group_id = $1 WHERE user_id = $2 AND (group_id = $3 OR seq > $4)"
            await self.superuser.execute(regroup, group, self.owner, older, before)
        self.groups[self.group] = group

    async def _create(self, fields: Fields) -> str:
        known = {"title": fields.get("title", "A"), "description": fields.get("description")}
        task, _ = await tasks.create(self.db, known)
        self.ids.append(task["id"])
        made = {"completed": False, "uid": task["uid"], "position": task["position"]}
        self.model.create(self.group, task["id"], **known, **made)
        return "done"

    async def _act(self, step: Step) -> str:
        """Both do it, or both refuse it in the same way."""
        done = self.model.log[-1 - step.back % len(self.model.log)]
        seq = done.seq if step.back else done.seq + 1  # which is not there
        ids = [self.ids[(step.at + number) % len(self.ids)] for number in range(3)]
        call = Call(step.kind, ids, seq, done.group, step.fields)
        before = len(self.model.log)
        expected, got, answer = None, None, None
        try:
            imagine(self.model, self.group, call)
        except (NotFound, UndoConflict) as error:
            expected = about(error)
        try:
            answer = await ask(self.db, call, self.groups[call.group])
        except (NotFound, UndoConflict) as error:
            got = about(error)
        assert got == expected, call
        if answer is not None:
            assert answer == await changes.since(self.db, before, 500)
        if got is None:
            return f"{min(len(self.model.log) - before, 2)} done"
        return "absent" if got == "absent" else f"conflict in {min(len(got), 2)}"

    async def _stored(self) -> tuple[Any, ...]:
        """What the database has, its times by the changes in which they were set."""
        stored = await changes.since(self.db, 0, 500)
        numbers = {text_of(change["at"]): change["seq"] for change in stored}
        numbers_of_times = {change["at"]: change["seq"] for change in stored}
        groups = {group: known for known, group in self.groups.items()}
        log = [
            Done(
                change["seq"],
                groups[UUID(change["group"])],
                change["entity_id"],
                change["op"],
                {
                    name: [
                        numbers[value] if value and name.endswith("_at") else value
                        for value in pair
                    ]
                    for name, pair in change["fields"].items()
                },
            )
            for change in stored
        ]
        _, live = await tasks.list_newest_first(self.db, "all", 500)
        _, in_trash = await trash.list_latest_first(self.db, 500)
        shown = {}
        for row in (*live, *in_trash):
            task = {"deleted_at": None, **row}
            times = {
                name: numbers_of_times.get(task[name]) for name in ("completed_at", "deleted_at")
            }
            assert numbers_of_times[task["updated_at"]] == task["version"]
            shown[row["id"]] = {
                **{name: task[name] for name in FIELDS},
                **times,
                "version": task["version"],
            }
        assert len(shown) == len(live) + len(in_trash)
        return shown, log

    def _modelled(self) -> tuple[Any, ...]:
        versions = {done.id: done.seq for done in self.model.log}
        return {
            id: {**task, "version": versions[id]} for id, task in self.model.tasks.items()
        }, self.model.log


def about(error: NotFound | UndoConflict) -> list[str] | str:
    """The fields of a conflict."""
    return (
        [problem.field for problem in error.problems]
        if isinstance(error, UndoConflict)
        else "absent"
    )


def text_of(at: datetime) -> str:
    """As `fields` has it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_whatever_is_done_the_model_and_the_database_agree(database_url: str) -> None:
    came: Counter[str] = Counter()

    async def take_all(pool: Pool, superuser: asyncpg.Connection, steps: list[Step]) -> None:
        pair = Pair(pool, superuser)
        came.update([await pair.take(step) for step in steps])

    with asyncio.Runner() as runner:
        runner.run(migrate.upgrade(dsn.parse(database_url)))
        pool = Pool(dsn.parse(database_url), migrate.ROLE)
        superuser = runner.run(asyncpg.connect(database_url))

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
        @given(st.lists(STEP, min_size=8, max_size=24))
        def agree(steps: list[Step]) -> None:
            runner.run(take_all(pool, superuser, steps))

        agree()
        runner.run(superuser.close())
        runner.run(pool.close())

    rare = [
        f"{kind}: {what}"
        for kind in ("undo", "undo group")
        for what in ("0 done", "1 done", "conflict in 0")
    ]
    rare += [
        "undo: conflict in 1",
        "undo: conflict in 2",
        "undo group: 2 done",
        "undo group: conflict in 1",
    ]
    rare += ["undo: absent", "purge: 1 done", "restore: 1 done", "restore: absent", "set: 0 done"]
    rare += ["several: 0 done", "several: 1 done", "several: 2 done"]
    assert [what for what in rare if not came[what]] == []  # it was not idle
