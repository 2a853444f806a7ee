"""Nobody sees, changes, or can tell the existence of another person's tasks and lists: not through
any door, and not if the where-clauses are missing, or row-level security is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest

import changes
import config
import ids
import lists
import order
import selection
import storage
import tasks
import trash
import trees
import undo
from database import Database, OwnerDatabase
from entities import BY_NAME, ENTITIES, LIST, TASK, Entity
from errors import ApiError, NotFound, SettingError
from main import app
from postgres import dsn, embedded, migrate
from postgres.pool import Pool, Row
from query import sorting
from query.arguments import Arguments
from query.parser import parse
from query.sorting import Order
from rules import Place
from selection import Wanted
from storage import Edit, Outcome
from tests import servers
from tests.conftest import sql
from tests.people import Person
from web.doors import Door

# --- the matrix: every door × what is asked for × caller ---

FRONT: Any = app.build_middleware_stack()
DOORS: tuple[Door, ...] = tuple(door for doors in FRONT.doors.values() for door in doors)
THINGS = ("own", "foreign", "absent", "deleted")  # as the owner of the path sees them
CALLERS = ("owner", "stranger", "visitor", "nobody")  # a visitor asks on a path of their own
ALL, ONE = "/api/{user_id}/tasks", "/api/{user_id}/tasks/{task_id}"
TASKS, TASK_ = "/v1/tasks", "/v1/tasks/{task_id}"
LISTS, LIST_ = "/v1/lists", "/v1/lists/{list_id}"
TRASH, TRASHED = "/v1/trash", "/v1/trash/{task_id}"
TRASHED_TASK, TRASHED_LIST = "/v1/trash/tasks/{task_id}", "/v1/trash/lists/{list_id}"
CHANGES = "/v1/changes"
ABSENT_ID = 2**62
NO_BRACES = str.maketrans("{}", "--")
ABSENT_UID = "00000000-0000-4000-8000-000000000000"


class Entry(NamedTuple):
    """What is sent through a door, and the status that says it was done."""

    status: int
    body: Any = None


# Sent along: conditions that hold for every task, for none; a version that none has; a key that all
# callers use.
ALONG: dict[str, dict[str, str]] = {
    "nothing": {},
    "a condition that holds": {"If-Match": "*"},
    "a condition that fails": {"If-Match": '"0"'},
    "a version": {"If-None-Match": '"0"'},
    "a key": {},
}


PRIVATE = {
    ("GET", ALL): Entry(200),
    ("HEAD", ALL): Entry(200),
    ("POST", ALL): Entry(201, {"title": "Something new"}),
    ("GET", ONE): Entry(200),
    ("HEAD", ONE): Entry(200),
    ("PUT", ONE): Entry(200, {"title": "Something else", "completed": True}),
    ("PATCH", ONE): Entry(200, {"description": None}),
    ("DELETE", ONE): Entry(200),
    ("PATCH", f"{ONE}/complete"): Entry(200),
    ("GET", TASKS): Entry(200),
    ("HEAD", TASKS): Entry(200),
    ("POST", TASKS): Entry(201, {"title": "Something new", "position": "first"}),
    ("GET", TASK_): Entry(200),
    ("HEAD", TASK_): Entry(200),
    ("PATCH", TASK_): Entry(200, {"labels": ["new"], "list_id": None, "position": "last"}),
    ("DELETE", TASK_): Entry(200),
    ("POST", f"{TASK_}/complete"): Entry(200),
    ("GET", LISTS): Entry(200),
    ("HEAD", LISTS): Entry(200),
    ("POST", LISTS): Entry(201, {"name": "Something new"}),
    ("GET", LIST_): Entry(200),
    ("HEAD", LIST_): Entry(200),
    ("PATCH", LIST_): Entry(200, {"name": "Something else", "position": "first"}),
    ("DELETE", LIST_): Entry(200),
    ("GET", TRASH): Entry(200),
    ("HEAD", TRASH): Entry(200),
    ("POST", f"{TRASHED}/restore"): Entry(200),
    ("DELETE", TRASHED): Entry(200),
    ("POST", f"{TRASHED_TASK}/restore"): Entry(200),
    ("DELETE", TRASHED_TASK): Entry(200),
    ("POST", f"{TRASHED_LIST}/restore"): Entry(200),
    ("DELETE", TRASHED_LIST): Entry(200),
    ("GET", CHANGES): Entry(200),
    ("HEAD", CHANGES): Entry(200),
}
# Theirs are the changes of whoever asks: another's cannot even be named. A test of their own is
# below.
UNDOING = {("POST", f"{CHANGES}/{{seq}}/undo"), ("POST", "/v1/undo")}
PUBLIC = {"/health", "/ready", "/", "/docs", "/openapi.json"}  # and what lies under /static/


def alone(path: str) -> dict[str, int]:
    """Who gets the same whatever they ask for. Without an owner in the path, a stranger asks as
    themselves."""
    return {"nobody": 401, **({"stranger": 403} if "{user_id}" in path else {})}


def names_one(path: str) -> bool:
    return "_id}" in path.replace("{user_id}", "")


class Answered(NamedTuple):
    """An answer, byte for byte but for the date and the request's id."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def of(cls, reply: httpx.Response) -> Answered:
        told = [
            field
            for field in reply.headers.raw
            if field[0].lower() not in (b"date", b"x-request-id")
        ]
        return cls(reply.status_code, tuple(told), reply.content)


class Thing(NamedTuple):
    """What a task or a list is called."""

    id: int
    uid: str


class Town:
    """Ada owns the path, Bob is the stranger, Cem owns what is foreign to both. Their ids give them
    away."""

    def __init__(self, database_url: str, ada: Person, bob: Person, cem: Person) -> None:
        self.database_url = database_url
        self.ada, self.bob, self.cem = ada, bob, cem
        self.foreign = {entity: self.new(cem, entity) for entity in BY_NAME}
        self.trashed_foreign = {entity: self.new(cem, entity) for entity in BY_NAME}
        for entity, thing in self.trashed_foreign.items():
            self.delete(cem, entity, thing)
        for entity in BY_NAME:
            self.new(bob, entity)

    def new(self, person: Person, entity: str = "task", **fields: Any) -> Thing:
        named = {
            "task": {
                "title": f"Title of {person.id}",
                "description": f"Description of {person.id}",
            },
            "list": {"name": f"Of {person.id}"},
        }
        made = person.request("POST", f"/v1/{entity}s", json={**named[entity], **fields})
        assert made.status_code == 201, made.text
        return Thing(made.json()["data"]["id"], made.json()["data"]["uid"])

    def delete(self, person: Person, entity: str, thing: Thing, for_good: bool = False) -> None:
        assert person.request("DELETE", f"/v1/{entity}s/{thing.id}").status_code == 200
        if for_good:
            purged = person.request("DELETE", f"{TRASH}/{entity}s/{thing.id}")
            assert purged.status_code == 200

    def find(self, which: str, path: str) -> Thing:
        """In the trash, what is deleted was deleted for good."""
        in_trash = path.startswith(TRASH)
        entity = "list" if "{list_id}" in path else "task"
        if which == "absent":
            return Thing(ABSENT_ID, ABSENT_UID)
        if which == "foreign":
            return (self.trashed_foreign if in_trash else self.foreign)[entity]
        thing = self.new(self.ada, entity)
        if which == "deleted" or in_trash:
            self.delete(self.ada, entity, thing, for_good=which == "deleted" and in_trash)
        return thing

    def ask(
        self,
        caller: str,
        method: str,
        path: str,
        name: int | str = 0,
        body: Any = None,
        along: dict[str, str] | None = None,
    ) -> Answered:
        person = self.ada if caller == "owner" else self.bob
        owner = self.bob if caller == "visitor" else self.ada
        url = path.format(user_id=owner.id, task_id=name, list_id=name)
        request = person.client.build_request(method, url, json=body, headers=along)
        if caller == "nobody":
            del request.headers["Authorization"]
        return Answered.of(person.client.send(request))

    def tells_of_others(self, caller: str, answered: Answered) -> bool:
        knows = {"owner": self.ada, "stranger": self.bob, "visitor": self.bob, "nobody": None}[
            caller
        ]
        heard = answered.body + b"".join(b"".join(field) for field in answered.headers)
        return any(
            person.id.encode() in heard
            for person in (self.ada, self.bob, self.cem)
            if person is not knows
        )

    def rows(self) -> set[tuple[int, str]]:
        """All that is theirs: the id, and the whole row as a text."""
        people = [self.ada.id, self.bob.id, self.cem.id]
        found = [
            sql(
                self.database_url,
                f"SELECT id, t::text AS row FROM {entity.table} AS t WHERE user_id = ANY($1)",
                people,
            )
            for entity in ENTITIES
        ]
        return {(row["id"], row["row"]) for rows in found for row in rows}


@pytest.fixture
def town(database_url: str, person: Callable[[str], Person]) -> Town:
    return Town(database_url, person("ada"), person("bob"), person("cem"))


def expected(caller: str, thing: str, path: str, entry: Entry, along: str = "nothing") -> int:
    """What the table says."""
    if caller in alone(path):
        return alone(path)[caller]
    found = not names_one(path) or (caller, thing) == ("owner", "own")
    return (412 if along == "a condition that fails" else entry.status) if found else 404


def goes_along(along: str, method: str) -> bool:
    """A condition for reading is none for writing; a key is a writer's."""
    reads = method in ("GET", "HEAD")
    return along == "nothing" or (along == "a version") is reads


def is_asked(method: str, path: str, name: str, along: str) -> bool:
    """Only under /v1 is anything named by its uid."""
    by_uid = name == "uid"
    return goes_along(along, method) and not (by_uid and not (names_one(path) and "/v1" in path))


def test_every_door_has_its_entry() -> None:
    private = {(method, door.path) for door in DOORS if not door.public for method in door.answers}
    assert private == set(PRIVATE) | UNDOING
    public = {door.path for door in DOORS if door.public}
    assert {path for path in public if not path.startswith("/static/")} == PUBLIC
    assert not [path for path in public if "{" in path]


@pytest.mark.parametrize("name", Thing._fields)
@pytest.mark.parametrize("along", ALONG)
def test_no_door_shows_or_changes_what_is_anothers(along: str, name: str, town: Town) -> None:
    cases, wrong = 0, list[Any]()
    asked = {door: entry for door, entry in PRIVATE.items() if is_asked(*door, name, along)}
    for (method, path), entry in asked.items():
        things = {case: town.find(case[0], path) for case in product(THINGS, CALLERS)}
        before = {row for row in town.rows() if row[0] != things["own", "owner"].id}
        answers = {}
        for case, thing in things.items():
            headers = ALONG[along]
            if along == "a key":  # the same for all callers, and the owner asks first
                headers = {"Idempotency-Key": f"{method}-{path.translate(NO_BRACES)}-{case[0]}"}
            called = getattr(thing, name)
            answers[case] = town.ask(case[1], method, path, called, entry.body, headers)
        for (which, caller), answered in answers.items():
            known = expected(caller, which, path, entry, along)
            if answered.status != known or town.tells_of_others(caller, answered):
                wrong.append((method, path, which, caller, answered))
        for caller in CALLERS if names_one(path) else alone(path):
            alike = {answers[one, caller] for one in THINGS if (one, caller) != ("own", "owner")}
            if len(alike) != 1:
                wrong.append((method, path, "tells apart", caller, alike))
        if names_one(path) and answers["foreign", "owner"] != answers["own", "visitor"]:
            wrong.append(
                (method, path, "tells apart", "a visitor from an owner", answers["own", "visitor"])
            )
        if not before <= town.rows():
            wrong.append((method, path, "changes", "what is anothers", before - town.rows()))
        cases += len(answers)
    assert wrong == []
    assert cases == len(asked) * len(THINGS) * len(CALLERS)
    assert len(PRIVATE) * len(THINGS) * len(CALLERS) == 544


# --- bodies that refer to another's ---

NEW = {"task": {"title": "Something new"}, "list": {"name": "Something new"}}
REFERENCES: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {  # and to what they refer
    "list_id": ("list", lambda name: {"list_id": name}),
    "parent_id": ("task", lambda name: {"parent_id": name}),
    "before": ("task", lambda name: {"position": {"before": name}}),
    "after": ("task", lambda name: {"position": {"after": name}}),
    "list before": ("list", lambda name: {"position": {"before": name}}),
    "list after": ("list", lambda name: {"position": {"after": name}}),
}
REFERRING = [
    (method, path, reference, name)
    for method, path in (
        *(("POST", ALL), ("PUT", ONE), ("PATCH", ONE)),
        *(("POST", TASKS), ("PATCH", TASK_), ("POST", LISTS), ("PATCH", LIST_)),
    )
    for reference in REFERENCES
    if reference.startswith("list ") is ("lists" in path)
    for name in (Thing._fields if "/v1" in path else ["id"])  # the plan's doors take integers only
]


@pytest.mark.parametrize("along", ["nothing", "a condition that holds"])
@pytest.mark.parametrize(("method", "path", "reference", "name"), REFERRING)
def test_a_body_that_refers_to_anothers_looks_as_if_it_referred_to_nothing(
    method: str, path: str, reference: str, name: str, along: str, town: Town
) -> None:
    entity, body = REFERENCES[reference]
    own, deleted, purged = (town.new(town.ada, entity) for _ in range(3))
    town.delete(town.ada, entity, deleted)
    town.delete(town.ada, entity, purged, for_good=True)
    changed = town.new(town.ada, "list" if "lists" in path else "task")
    before = town.rows()

    def ask(other: Thing) -> Answered:
        sent = {**NEW["list" if "lists" in path else "task"], **body(getattr(other, name))}
        return town.ask("owner", method, path, changed.id, sent, ALONG[along])

    others = {
        "foreign": town.foreign[entity],
        "in another's trash": town.trashed_foreign[entity],
        "absent": Thing(ABSENT_ID, ABSENT_UID),
        "deleted": deleted,
        "purged": purged,
    }
    answers = {which: ask(other) for which, other in others.items()}
    assert len(set(answers.values())) == 1, answers
    assert answers["foreign"].status == 400
    assert not town.tells_of_others("owner", answers["foreign"])
    assert town.rows() == before
    assert ask(own).status == (201 if method == "POST" else 200)  # so it can be done


@pytest.mark.parametrize("entity", BY_NAME)
def test_a_uid_of_anothers_is_free(entity: str, town: Town) -> None:
    for foreign in (town.foreign[entity], town.trashed_foreign[entity]):
        made = town.new(town.ada, entity, uid=foreign.uid)
        assert (made.uid, made.id != foreign.id) == (foreign.uid, True)


def test_public_doors_tell_everybody_the_same(town: Town) -> None:
    cases, wrong = 0, list[Any]()
    for door in (door for door in DOORS if door.public):
        for method in door.answers:
            answers = {caller: town.ask(caller, method, door.path) for caller in CALLERS}
            if {answered.status for answered in answers.values()} != {200} or len(
                set(answers.values())
            ) != 1:
                wrong.append((method, door.path, answers))
            wrong += [
                (method, door.path, caller)
                for caller in CALLERS
                if town.tells_of_others(caller, answers[caller])
            ]
            cases += len(answers)
    assert wrong == []
    assert cases == sum(len(door.answers) for door in DOORS if door.public) * len(CALLERS)


def test_anothers_change_cannot_be_undone_nor_told_from_none(town: Town) -> None:
    theirs = town.cem.request("GET", CHANGES).json()["data"]
    before = {row for row in town.rows() if town.cem.id in row[1]}
    for number in (theirs[-1]["seq"], ABSENT_ID):  # Bob has made fewer changes
        assert number > len(town.bob.request("GET", CHANGES).json()["data"])
        undone = town.ask("visitor", "POST", f"{CHANGES}/{number}/undo")
        assert undone == town.ask("visitor", "POST", f"{CHANGES}/0/undo")
        assert undone.status == 404
    answers = {
        town.ask("visitor", "POST", "/v1/undo", body={"group": group})
        for group in [str(UUID(int=0)), *(change["group"] for change in theirs)]
    }
    assert [answered.status for answered in answers] == [404]
    assert town.ask("nobody", "POST", "/v1/undo", body={}).status == 401
    assert before == {row for row in town.rows() if town.cem.id in row[1]}


def test_everybody_has_a_log_of_their_own(town: Town) -> None:
    for person in (town.ada, town.bob, town.cem):
        logged = person.request("GET", CHANGES).json()["data"]
        assert {change["actor"]["id"] for change in logged} <= {person.id}
        assert [change["seq"] for change in logged] == list(range(1, len(logged) + 1))


def test_a_foreign_id_looks_like_one_that_cannot_exist(town: Town) -> None:
    for path, entity in ((ONE, "task"), (TASK_, "task"), (LIST_, "list")):
        foreign = town.ask("owner", "GET", path, town.foreign[entity].id)
        assert foreign.status == 404
        for impossible in (0, -1, -ABSENT_ID, 2**63 - 1, 2**63, 10**30):
            assert town.ask("owner", "GET", path, impossible) == foreign


def test_a_cursor_opens_nothing_for_anybody_else(town: Town) -> None:
    for _ in range(3):
        town.new(town.cem)
    cursor = town.cem.get("", params={"limit": 2}).json()["next_cursor"]
    assert cursor
    refused = town.bob.get("", params={"limit": 2, "cursor": cursor})
    assert (refused.status_code, refused.json()["error"]) == (400, "Cursor is not valid")
    assert town.cem.id not in refused.text


# --- mutation: each where-clause that names the owner, taken away ---

NAMES_THE_OWNER = re.compile(r"\b(?:\w+\.)?user_id = (?:scope\.user_id|p_user_id|\$1)( AND )?")
FUNCTIONS = {
    "storage.STORE": storage.STORE,
    "storage.FIND_ANSWER": storage.FIND_ANSWER,
    "storage.KEEP_ANSWER": storage.KEEP_ANSWER,
}
MODULES = (changes, ids, lists, order, tasks, trash, trees, undo)
STATEMENTS: dict[str, tuple[Any, Any]] = {  # name -> where it is, and under which name or key
    f"{module.__name__}.{name}": (vars(module), name)
    for module in MODULES
    for name, text in vars(module).items()
    if isinstance(text, str) and text.startswith("\nWITH ")
} | {
    f"{module.__name__}.{name} {getattr(key, '__name__', key)}": (texts, key)
    for module in MODULES
    for name, texts in vars(module).items()
    if name.isupper() and isinstance(texts, dict)
    for key, text in texts.items()
    if isinstance(text, str) and text.startswith("\nWITH ")
}
REFERRING_TO = {  # a tuple in trash.py, for each entity and each column that refers to it
    f"trash.REFERRING {entity}.{number}": (entity, number)
    for entity, referring in trash.REFERRING.items()
    for number in range(len(referring))
}
SELECT_PAGE = selection._statement  # makes a statement of the query that is asked
SQL = {
    "selection.page": SELECT_PAGE(
        Order(sorting.read("title"), ZoneInfo("UTC"), Arguments(first=3)), "completed"
    ),
    **{name: function.text for name, function in FUNCTIONS.items()},
    **{name: place[key] for name, (place, key) in STATEMENTS.items()},
    **{name: trash.REFERRING[entity][n][2] for name, (entity, n) in REFERRING_TO.items()},
}
MUTATIONS = [
    (name, place)
    for name, text in SQL.items()
    for place in range(len(NAMES_THE_OWNER.findall(text)))
]
# Alone no breach: the object that it belongs to was found among its owner's, and ids are nobody
# else's.
FOUND_BEFORE = re.compile(
    r"\b(?:id|\w+_id) (?:=|BETWEEN) (?:(?:was|page|tree)\.id|above\.parent_id)\b"
)
FURTHER_IN = {
    ("changes.GROUPED", 1),  # says where one's own group ends
    ("selection.page", 0),  # what it finds is read once more, as the owner's
}
BOBS_SEQ = 77_777  # of his last change; his next one would have the number after it
HERS = 2**40  # Ada's task, and the first of ids that the sequence does not come to
HER_LIST = HERS + 1
BOBS_UID = UUID("b0bb0bb0-b0bb-4bbb-8bbb-b0bb0bb0bb0b")


class Bobs(NamedTuple):
    """A task of his, its list, and its uid, which that list has, too; below it stands another task."""

    task: int
    list: int
    uid: UUID


LIVING = Bobs(HERS + 10, HERS + 11, BOBS_UID)
TRASHED_ = Bobs(HERS + 20, HERS + 21, UUID("b0bb0bb0-b0bb-4bbb-8bbb-b0bb0bb0bb0c"))
NOW = datetime(2026, 1, 12, tzinfo=UTC)
RING = HERS + 28  # is below itself
BOBS_IDS = range(HERS + 10, HERS + 30)


def without_owner(text: str, place: int | None = None) -> str:
    """`text` without its where-clause number `place`; None: without any."""
    clauses = iter(range(len(text)))

    def mutate(found: re.Match[str]) -> str:
        return found[0] if place not in (None, next(clauses)) else "" if found[1] else "true"

    return NAMES_THE_OWNER.sub(mutate, text)


def page_like(text: str) -> Callable[[Order, str], str]:
    """What makes a statement that lacks the same where-clauses as `text`."""
    own = SQL["selection.page"]
    if text == own:
        return SELECT_PAGE
    missing = next(place for place in (None, 0, 1) if without_owner(own, place) == text)
    return lambda order, condition: without_owner(SELECT_PAGE(order, condition), missing)


def is_guarded(name: str, place: int) -> bool:
    """Whether what else its condition says keeps it to the owner's."""
    if (name, place) in FURTHER_IN:
        return True
    clause = [*NAMES_THE_OWNER.finditer(SQL[name])][place]
    rest = SQL[name][clause.end() :].partition("\n")[0]
    return bool(FOUND_BEFORE.search(rest))


class Witness(OwnerDatabase):
    """Ada's database, noting every row that comes out of it."""

    __slots__ = ("seen",)

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, "ada")
        self.seen: list[Row] = []

    async def read(self, sql: str, *arguments: Any, **limits: float) -> list[Row]:
        self.seen += (rows := await super().read(sql, *arguments, **limits))
        return rows

    async def read_once(self, sql: str, *arguments: Any) -> list[Row]:
        self.seen += (rows := await super().read_once(sql, *arguments))
        return rows

    async def store(self, *edits: Edit, all: bool = False, rows: bool = True) -> list[Outcome]:
        outcomes = await super().store(*edits, all=all, rows=rows)
        for edit, (status, found) in zip(edits, outcomes, strict=True):
            is_own = status == "done" and edit.id not in BOBS_IDS
            self.seen.append({**(found or {}), "outcome": "absent" if is_own else status})
        return outcomes


Attack = Coroutine[Any, Any, Any]


def attacks(db: Witness) -> Iterator[Attack]:
    """All that Ada can ask for, and of Bob's where there is a choice."""
    yield tasks.list_all(db)
    yield tasks.list_all(db, "pending")
    yield tasks.list_newest_first(db, "completed", 10)
    for query in ("all", "all | all", "!open | completed | search: his"):
        wanted = Wanted(parse(query), sorting.read("title"), ZoneInfo("UTC"), NOW)
        yield selection.page(db, wanted, 10)
    yield lists.all(db)
    yield trash.list_latest_first(db, 10)
    yield count(db)
    yield guess(db)
    yield live(db, TASK, {"title": "Hers"})
    yield live(db, LIST, {"name": "Hers"})
    yield undo.change(db, BOBS_SEQ)
    yield undo.group(db, BOBS_UID)
    yield changes.latest(db)
    yield changes.since(db, 0, 100)
    yield db.read(storage.FIND_CALL, "bobs-key", 0)
    yield db.read(storage.KEEP_CALL, "bobs-key", b"hers", 200, "{}", "{}", "{}")
    for bobs in (LIVING, TRASHED_):
        yield from attacks_by_name(db, bobs)
        yield from attacks_by_reference(db, bobs)
        yield from attacks_by_statement(db, bobs)
        yield from attacks_on_list(db, bobs)
        yield from attacks_on_task(db, bobs)


def attacks_by_name(db: Witness, bobs: Bobs) -> Iterator[Attack]:
    for name in (bobs.task, bobs.uid):
        yield tasks.get(db, name)
    for name in (bobs.list, bobs.uid):
        yield lists.get(db, name)
    for entity in ENTITIES:
        yield ids.of(db, entity, bobs.uid)
    yield tasks.create(db, {"title": "Hers"}, uid=bobs.uid)
    yield lists.create(db, {"name": "Hers"}, uid=bobs.uid)


def attacks_by_reference(db: Witness, bobs: Bobs) -> Iterator[Attack]:
    yield tasks.update(db, HERS, {"position": Place("before", bobs.task)})
    for reference in ({"list_id": bobs.list}, {"parent_id": bobs.task}):
        yield tasks.create(db, {"title": "Hers", **reference})
        yield tasks.update(db, HERS, reference)
        yield db.store(storage.create(TASK, {"title": "Hers", **reference}))
        yield db.store(storage.update(TASK, HERS, reference))
    yield lists.update(db, HER_LIST, {"position": Place("after", bobs.list)})


def attacks_by_statement(db: Witness, bobs: Bobs) -> Iterator[Attack]:
    """What an operation asks only of an object that it has found."""
    yield trees.below(db, bobs.task)
    yield trees.list_is_there(db, bobs.list)
    yield db.read(trees.ABOVE, bobs.task)
    yield db.read(trees.THESE, f"{{{bobs.task}}}")
    yield db.read(trees.CHILDREN, f"{{{bobs.task}}}")
    yield db.read(lists.TASKS, bobs.list, None)
    yield db.read(order.AROUND["list"], 0, bobs.list)
    yield db.read(order.AROUND["task"], 0, bobs.task, bobs.list, None)
    yield db.read(undo.CURRENT["task"], f"{{{bobs.task}}}")
    yield db.read(undo.CURRENT["list"], f"{{{bobs.list}}}")
    for _, column, text in (*trash.REFERRING["list"], *trash.REFERRING["task"]):
        yield db.read(text, bobs.list if column.refers_to == "list" else bobs.task)


def attacks_on_list(db: Witness, bobs: Bobs) -> Iterator[Attack]:
    for versions in (None, [[0, None]]):
        yield lists.update(db, bobs.list, {"name": "Stolen"}, versions)
        yield lists.delete(db, bobs.list, versions)
        yield lists.restore(db, bobs.list, versions)
        yield trash.purge(db, LIST, bobs.list, versions)


def attacks_on_task(db: Witness, bobs: Bobs) -> Iterator[Attack]:
    for completed in (None, True, False):
        yield tasks.complete(db, bobs.task, completed)
    yield tasks.complete(db, bobs.task, True, [[0, None]])
    for versions in (None, [[0, None]]):
        stolen = {"title": "Stolen", "description": None, "completed": True}
        yield tasks.update(db, bobs.task, stolen, versions)
        yield tasks.update(db, bobs.task, {"list_id": None}, versions)
        yield tasks.delete(db, bobs.task, versions)
        yield tasks.restore(db, bobs.task, versions)
        yield trash.purge(db, TASK, bobs.task, versions)


async def guess(db: Witness) -> None:
    """Is this the number of Bob's last change?"""
    await tasks.create(db, {"title": "Hers"}, if_match=[[BOBS_SEQ, None]])
    db.seen.append({"guessed": BOBS_SEQ})


async def count(db: Witness) -> None:
    """Has anybody but Ada, who has one, a list?"""
    [counted] = await db.read(lists.COUNT)
    db.seen.append({"guessed": BOBS_SEQ} if counted["count"] > 1 else {})


async def live(db: Witness, entity: Entity, fields: dict[str, Any]) -> None:
    """What Ada does with her own."""
    made, _ = await db.store(*[storage.create(entity, fields)] * 2)
    id = made.object["id"] if made.object else 0
    for edit in (
        storage.update(entity, id, fields),
        storage.delete(entity, id),
        storage.restore(entity, id),
        storage.delete(entity, id),
        storage.purge(entity, id),
    ):
        await db.store(edit)


def is_bobs(row: Row) -> bool:
    values = list(row.values())
    if row.get("outcome") not in (None, "absent", "dangling"):
        return True
    numbers = (*BOBS_IDS, BOBS_SEQ, BOBS_SEQ + 1)
    return any("bob" in str(value).lower() or value in numbers for value in values)


# Bob has one of everything, in the trash as well, and Ada a task and a list.

SETTLE = f"""
DELETE FROM {"; DELETE FROM ".join(reversed(migrate.ISOLATED))};
INSERT INTO lists (id, user_id, name, version) VALUES ({HER_LIST}, 'ada', 'Hers', 1);
INSERT INTO tasks (id, user_id, title, version) VALUES ({HERS}, 'ada', 'Hers', 1);
INSERT INTO changes VALUES
    ('bob', {BOBS_SEQ}, now(), 'user', 'bob', '{BOBS_UID}', 'task', {LIVING.task}, 'update', '{{}}');
INSERT INTO change_counters VALUES ('bob', {BOBS_SEQ}, now());
INSERT INTO idempotency_keys VALUES ('bob', 'bobs-key', now(), 'bobs', 200, '{{}}', '{{}}', 0);
INSERT INTO idempotency_keys (user_id, key, at, fingerprint, status, headers, body)
VALUES ('bob', 'bobs-old-key', now(), 'bobs', 200, '{{}}', '{{"data": "of before migration 0005"}}');
"""
for bobs, deleted_at in ((LIVING, "NULL"), (TRASHED_, "now()")):
    SETTLE += f"""
INSERT INTO lists (id, user_id, name, uid, version, position, deleted_at)
VALUES ({bobs.list}, 'bob', 'His', '{bobs.uid}', {BOBS_SEQ}, 'bobs', {deleted_at});
INSERT INTO tasks (id, user_id, title, uid, version, position, list_id, deleted_at)
VALUES ({bobs.task}, 'bob', 'His', '{bobs.uid}', {BOBS_SEQ}, 'bobs', {bobs.list}, {deleted_at});
INSERT INTO tasks (id, user_id, title, version, list_id, parent_id, completed, completed_at, deleted_at)
VALUES ({bobs.task + 5}, 'bob', 'Bobs', {BOBS_SEQ}, {bobs.list}, {bobs.task}, true, now(), {deleted_at});
"""
# Trees that stand as none should, for the statement that finds such.
SETTLE += f"""
UPDATE tasks SET list_id = NULL WHERE id = {LIVING.task + 5};
INSERT INTO tasks (id, user_id, title, version, parent_id, deleted_at)
VALUES ({RING}, 'bob', 'His', {BOBS_SEQ}, {RING}, now());
"""
OF_BOB = f"""
{" UNION ALL ".join(f"SELECT t::text FROM {table} AS t WHERE user_id = 'bob'" for table in migrate.ISOLATED)}
ORDER BY 1
"""


class Besieged:
    """A database of Ada's and Bob's, and the sessions to attack and to watch it."""

    def __init__(self, watch: asyncpg.Connection, url: str) -> None:
        self.watch = watch
        self.address = dsn.parse(url)

    async def leaks(self, role: str | None = migrate.ROLE, login: str = "postgres") -> list[Any]:
        """Bob's rows that Ada saw, and one more if she changed any."""
        await self.watch.execute(SETTLE)
        before = await self.watch.fetch(OF_BOB)
        pool = Pool(
            replace(self.address, url=self.address.url.replace("postgres@", f"{login}@")), role
        )
        db = Witness(pool)
        try:
            for attack in attacks(db):
                try:
                    await attack
                except ApiError:
                    continue
                except (asyncpg.PostgresError, LookupError) as error:  # so there is something
                    db.seen.append({"outcome": str(error)})
        finally:
            await pool.close()
        after = await self.watch.fetch(OF_BOB)
        return [*filter(is_bobs, db.seen), *(["changed"] if after != before else [])]

    async def install(self, monkeypatch: pytest.MonkeyPatch, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            if name in FUNCTIONS:
                await self.watch.execute(
                    text.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
                )
            elif name == "selection.page":
                monkeypatch.setattr(selection, "_statement", page_like(text))
            elif name in REFERRING_TO:
                entity, number = REFERRING_TO[name]
                changed = list(trash.REFERRING[entity])
                changed[number] = (*changed[number][:2], text)
                monkeypatch.setitem(trash.REFERRING, entity, tuple(changed))
            else:
                monkeypatch.setitem(*STATEMENTS[name], text)

    async def everywhere(self, alteration: str) -> None:
        for table in migrate.ISOLATED:
            await self.watch.execute(f"ALTER TABLE {table} {alteration}")


@pytest.fixture(scope="module")
def migrated(cluster: embedded.Server) -> Iterator[str]:
    """A database of this module's own, and logins that it is tried with."""
    sql(cluster.url, "CREATE DATABASE isolation")
    url = cluster.url.replace("/todo?", "/isolation?")
    asyncio.run(migrate.upgrade(dsn.parse(url)))
    for statement in (
        "CREATE ROLE isolation_owner LOGIN",  # owns the table, and nothing more
        "CREATE ROLE isolation_bypass LOGIN BYPASSRLS",  # cannot take the role
        "CREATE ROLE isolation_neon LOGIN BYPASSRLS",  # as Neon's console makes them
        f"GRANT {migrate.ROLE} TO isolation_neon",
        "GRANT SELECT ON todo_schema_version TO PUBLIC",
        *(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO isolation_bypass, isolation_neon"
            for table in migrate.ISOLATED
        ),
        "GRANT CREATE ON SCHEMA public TO isolation_owner",
    ):
        sql(url, statement)
    yield url
    sql(cluster.url, "DROP DATABASE isolation WITH (FORCE)")
    sql(cluster.url, "DROP ROLE isolation_owner, isolation_bypass, isolation_neon")


@pytest.fixture(scope="module")
def siege(cluster: embedded.Server, migrated: str) -> Iterator[str]:
    """A database whose walls are taken down and put up again. Nothing else is tested on it."""
    sql(cluster.url, "CREATE DATABASE siege TEMPLATE isolation")
    yield cluster.url.replace("/todo?", "/siege?")
    sql(cluster.url, "DROP DATABASE siege WITH (FORCE)")


@asynccontextmanager
async def besieged(url: str) -> AsyncIterator[Besieged]:
    watch = await asyncpg.connect(url)
    city = Besieged(watch, url)
    try:
        yield city
    finally:
        await city.everywhere("OWNER TO postgres")
        await city.everywhere("ENABLE ROW LEVEL SECURITY")
        await city.everywhere("FORCE ROW LEVEL SECURITY")
        with pytest.MonkeyPatch.context() as unused:
            await city.install(unused, {name: SQL[name] for name in FUNCTIONS})
        await watch.close()


def test_the_mutations_are_all_the_where_clauses() -> None:
    clauses = [clause for text in SQL.values() for clause in re.findall(r"\bWHERE\b.*", text)]
    others = [clause for clause in clauses if not NAMES_THE_OWNER.search(clause)]
    joins = re.findall(r"\bJOIN tasks AS task ON .*", "".join(SQL.values()))
    assert len(MUTATIONS) == len(clauses) - len(others) + len(joins) == 76
    assert (
        set(others)
        == {
            "WHERE (pair ->> 0)::bigint = was.version AND coalesce(",  # of no table's rows, nor the others
            "WHERE other.position < one.position) AS before,",
            "WHERE other.position > one.position) AS after",
        }
    )


def test_policies_hold_without_where_clauses_and_where_clauses_without_policies(siege: str) -> None:
    """Each where-clause alone, and all together. The control: without both layers the same attacks
    succeed."""

    async def attack() -> dict[str, list[Any]]:
        leaked: dict[str, list[Any]] = {"policies alone": [], "neither": []}
        async with besieged(siege) as city:
            for name, place in [*MUTATIONS, ("all", None)]:
                mutants = [(name, place)] if name != "all" else [(each, None) for each in SQL]
                with pytest.MonkeyPatch.context() as patch:
                    await city.install(
                        patch, {each: without_owner(SQL[each], which) for each, which in mutants}
                    )
                    leaked["policies alone"].append(await city.leaks())
                    await city.everywhere("DISABLE ROW LEVEL SECURITY")
                    leaked["neither"].append(await city.leaks())
                await city.everywhere("ENABLE ROW LEVEL SECURITY")
                await city.install(
                    patch, {each: SQL[each] for each, _ in mutants if each in FUNCTIONS}
                )
            await city.everywhere("DISABLE ROW LEVEL SECURITY")
            leaked["where-clauses alone"] = [await city.leaks()]
        return leaked

    leaked = asyncio.run(attack())
    assert leaked["policies alone"] == [[]] * (len(MUTATIONS) + 1)
    assert leaked["where-clauses alone"] == [[]]
    harmless = {
        mutant
        for mutant, leaks in zip([*MUTATIONS, "all"], leaked["neither"], strict=True)
        if not leaks
    }
    assert harmless ^ {mutant for mutant in MUTATIONS if is_guarded(*mutant)} == set()
    *alone, together = map(len, leaked["neither"])
    assert together > max(alone)


def test_the_tables_owner_is_held_by_force_alone(siege: str) -> None:
    """A login that owns the table and cannot take the role. The control: without FORCE it sees
    everything."""

    async def attack() -> list[tuple[bool, list[Any]]]:
        found = []
        async with besieged(siege) as city:
            await city.everywhere("OWNER TO isolation_owner")
            with pytest.MonkeyPatch.context() as patch:
                await city.install(patch, {name: without_owner(text) for name, text in SQL.items()})
                for force in ("FORCE", "NO FORCE"):
                    await city.everywhere(f"{force} ROW LEVEL SECURITY")
                    schema = await migrate.inspect(dsn.parse(as_login(siege, "isolation_owner")))
                    assert schema.role is None
                    leaked = await city.leaks(schema.role, "isolation_owner")
                    found.append((schema.row_security_proven, leaked))
        return found

    (proven, held), (still_proven, leaked) = asyncio.run(attack())
    assert (proven, held) == (True, [])
    assert not still_proven
    assert leaked


# --- what the catalogue and the texts say ---

TABLES = """
SELECT c.oid::regclass::text AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'user_id') AS has_owner,
       (SELECT array_agg(ARRAY[p.polcmd::text, p.polpermissive::text, pg_get_expr(p.polqual, c.oid),
                               pg_get_expr(p.polwithcheck, c.oid), coalesce(
                                   (SELECT string_agg(rolname, ',') FROM pg_roles WHERE oid = ANY(p.polroles)), 'PUBLIC'
                               )])
        FROM pg_policy p WHERE p.polrelid = c.oid) AS policies,
       (SELECT array_agg(i.indexrelid::regclass::text) FROM pg_index i WHERE i.indrelid = c.oid
        AND pg_get_indexdef(i.indexrelid, 1, true) <> 'user_id') AS indexes_not_led,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key,
       (SELECT array_agg(f.conname) FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = c.oid AND NOT EXISTS
        (SELECT FROM unnest(f.conkey, f.confkey) AS pair(ours, theirs)
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = pair.ours AND a.attname = 'user_id'
         JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = pair.theirs AND b.attname = 'user_id'))
        AS keys_without_owner,
       c.relkind IN ('v', 'm') AS is_view
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
OWNER_ONLY = "(user_id = NULLIF(current_setting('app.user_id'::text, true), ''::text))"
OWNER_POLICY = ["*", "true", OWNER_ONLY, OWNER_ONLY, "PUBLIC"]
DAYS = "(NULLIF(current_setting('app.changes_kept_days'::text, true), ''::text))::integer"
OLDER = f"(({DAYS} > 0) AND (at < (now() - (({DAYS})::double precision * '1 day'::interval))))"
EXPIRED = {
    "tasks": OLDER.replace("(at <", "(deleted_at IS NOT NULL) AND (updated_at <").replace(
        "changes", "trash"
    ),
    "lists": OLDER.replace("(at <", "(deleted_at IS NOT NULL) AND (updated_at <").replace(
        "changes", "trash"
    ),
    "changes": OLDER,
    "idempotency_keys": "(at < (now() - '24:00:00'::interval))",
}
POLICIES = {  # beside the owner, the role of retention.py: what has expired, and nothing else whatever is set
    table: [
        OWNER_POLICY,
        ["*", "true", expired, None, migrate.RETENTION_ROLE],
        ["*", "false", expired, None, migrate.RETENTION_ROLE],
    ]
    for table, expired in EXPIRED.items()
}
NOT_LED = {
    "changes_expiry",
    "idempotency_keys_expiry",
    "tasks_expiry",
    "lists_expiry",
}  # for retention.py; none of them is unique


def in_order(policies: list[Any]) -> list[Any]:
    return sorted(policies, key=str)


async def flaws(connection: asyncpg.Connection) -> set[str]:
    """What in the schema could show one user's rows to another."""
    found = set()
    for table in await connection.fetch(TABLES):
        if table["is_view"]:
            found.add(f"{table['name']}: a view reads as its owner")
        elif not table["has_owner"]:
            found |= (
                set()
                if table["name"] == migrate.VERSION_TABLE
                else {f"{table['name']}: no user_id"}
            )
        else:
            found |= {
                f"{table['name']}: {flaw}"
                for flaw, holds in {
                    "not forced": table["forced"],
                    "policy": in_order(table["policies"] or [])
                    == in_order(POLICIES.get(table["name"], [OWNER_POLICY])),
                    "index": set(table["indexes_not_led"] or ()) <= NOT_LED,
                    "no key": table["has_key"],
                    "foreign key": not table["keys_without_owner"],
                }.items()
                if not holds
            }
    return found


BREAKS = {
    "ALTER TABLE tasks NO FORCE ROW LEVEL SECURITY": {"tasks: not forced"},
    "ALTER TABLE tasks DISABLE ROW LEVEL SECURITY": {"tasks: not forced"},
    "DROP POLICY owner_only ON tasks": {"tasks: policy"},
    "ALTER POLICY owner_only ON tasks WITH CHECK (true)": {"tasks: policy"},
    "ALTER POLICY owner_only ON tasks USING (true)": {"tasks: policy"},
    "CREATE POLICY support ON tasks FOR SELECT USING (true)": {"tasks: policy"},
    "CREATE INDEX ON tasks (created_at)": {"tasks: index"},
    "ALTER TABLE lists NO FORCE ROW LEVEL SECURITY": {"lists: not forced"},
    "ALTER POLICY owner_only ON lists USING (true)": {"lists: policy"},
    "CREATE UNIQUE INDEX ON lists (uid)": {"lists: index"},
    "ALTER TABLE tasks ADD other text, ADD FOREIGN KEY (other, list_id) REFERENCES lists (user_id, id)": {
        "tasks: foreign key"
    },
    "CREATE TABLE notes (user_id text, id int UNIQUE)": {
        *("notes: not forced", "notes: policy", "notes: index", "notes: no key")
    },
    "CREATE TABLE notes (id int)": {"notes: no user_id"},
    "CREATE VIEW everything AS SELECT * FROM tasks": {"everything: a view reads as its owner"},
    "ALTER TABLE tasks ADD UNIQUE (id), ADD parent bigint, ADD FOREIGN KEY (parent) REFERENCES tasks (id)": {
        *("tasks: index", "tasks: foreign key")
    },
}


def test_every_table_with_an_owner_is_forced_and_led_by_them(migrated: str) -> None:
    async def look() -> tuple[set[str], dict[str, set[str]]]:
        connection = await asyncpg.connect(migrated)
        whole, broken = await flaws(connection), {}
        for change in BREAKS:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(change)
            broken[change] = await flaws(connection)
            await transaction.rollback()
        await connection.close()
        return whole, broken

    whole, broken = asyncio.run(look())
    assert whole == set()
    assert broken == BREAKS  # so the check can fail, and says why


PRIVILEGES = {  # TRUNCATE asks no policy, and what is logged stays as it is
    "lists": {"SELECT", "INSERT", "UPDATE", "DELETE"},
    "tasks": {"SELECT", "INSERT", "UPDATE", "DELETE"},
    "change_counters": {"SELECT", "INSERT", "UPDATE"},
    "changes": {"SELECT", "INSERT"},
    "idempotency_keys": {"SELECT", "INSERT", "UPDATE"},
    migrate.VERSION_TABLE: {"SELECT"},
}


@pytest.mark.parametrize("name", [migrate.ROLE, migrate.RETENTION_ROLE])
def test_a_role_to_run_as_has_no_power_and_owns_nothing(name: str, migrated: str) -> None:
    role = sql(migrated, "SELECT * FROM pg_roles WHERE rolname = $1", name)[0]
    powers = (
        "rolsuper",
        "rolcanlogin",
        "rolbypassrls",
        "rolcreaterole",
        "rolcreatedb",
        "rolreplication",
    )
    assert not any(role[power] for power in powers)
    assert (
        sql(migrated, "SELECT FROM pg_shdepend WHERE deptype = 'o' AND refobjid = $1", role["oid"])
        == []
    )


@pytest.mark.parametrize(
    ("role", "privileges"),
    [
        (migrate.ROLE, PRIVILEGES),
        (
            migrate.RETENTION_ROLE,
            {
                "changes": {"DELETE"},
                "idempotency_keys": {"DELETE"},
                migrate.VERSION_TABLE: {"SELECT"},
            },
        ),
    ],
)
def test_a_role_may_do_what_its_work_needs(
    role: str, privileges: dict[str, set[str]], migrated: str
) -> None:
    query = "SELECT table_name::text, privilege_type::text FROM information_schema.table_privileges WHERE grantee = $1"
    granted: dict[str, set[str]] = {}
    for table, privilege in sql(migrated, query, role):
        granted.setdefault(table, set()).add(privilege)
    assert granted == privileges


def test_the_role_of_retention_reads_keys_and_times_alone(migrated: str) -> None:
    query = """
        SELECT table_name::text, column_name::text FROM information_schema.column_privileges
        WHERE grantee = $1 AND table_name <> $2
    """
    assert {
        tuple(row) for row in sql(migrated, query, migrate.RETENTION_ROLE, migrate.VERSION_TABLE)
    } == {
        *(("changes", column) for column in ("user_id", "seq", "at")),
        *(("idempotency_keys", column) for column in ("user_id", "key", "at")),
        *product(("tasks", "lists"), ("user_id", "id", "updated_at", "deleted_at")),
    }


A_TABLE = f"(?:{'|'.join(migrate.ISOLATED)})"


def names_the_owner(text: str) -> bool:
    """Whether every read and write of a table in `text` names the owner, its first argument."""
    touches = re.findall(rf"\b(?:FROM|JOIN|UPDATE|INTO) {A_TABLE}\b", text)
    owned = re.findall(
        r"\b(?:WHERE|ON) (?:\w+\.)?user_id = (?:scope\.user_id|p_user_id|\$1)(?!\w)"
        r"|(?:VALUES \(|SELECT)\s*p_user_id, ",
        text,
    )
    sets = re.search(
        r"AS MATERIALIZED \(SELECT set_config\('app\.user_id', \$1, true\) AS user_id\)"
        rf"|\(\s*p_user_id text\b.*\bPERFORM set_config\('app\.user_id', p_user_id, true\)[;,].*\b{A_TABLE}\b",
        text,
        re.DOTALL,
    )
    calls = re.search(r"\bFROM \w+\(\$1, ", text)
    return (len(touches) == len(owned) and bool(touches) and bool(sets)) or (
        not touches and bool(calls)
    )


def test_every_statement_and_function_names_the_owner() -> None:
    assert [name for name, text in SQL.items() if not names_the_owner(text)] == []
    assert len(SQL) == 35
    for name, place in MUTATIONS:
        assert not names_the_owner(without_owner(SQL[name], place))
    for text in SQL.values():
        assert not names_the_owner(text.replace("$1", "$2").replace("p_user_id", "p_title"))


# --- the proof at start ---


def as_login(url: str, login: str) -> str:
    return url.replace("postgres@", f"{login}@")


@pytest.mark.parametrize(
    ("login", "role", "proven"),
    [
        ("postgres", migrate.ROLE, True),
        ("isolation_neon", migrate.ROLE, True),
        ("isolation_bypass", None, False),
    ],
)
def test_row_security_is_proven_by_trying(
    login: str, role: str | None, proven: bool, migrated: str
) -> None:
    schema = asyncio.run(migrate.inspect(dsn.parse(as_login(migrated, login))))
    assert schema == migrate.Schema(migrate.HEAD, role, proven)


@pytest.mark.parametrize("table", migrate.ISOLATED)
def test_without_the_policy_nothing_is_proven(table: str, migrated: str) -> None:
    sql(migrated, f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    try:
        assert not asyncio.run(migrate.inspect(dsn.parse(migrated))).row_security_proven
    finally:
        sql(migrated, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def settings_for(url: str, **others: str) -> config.Settings:
    variables: dict[str, Any] = {"_env_file": None, "NEON_DATABASE_URL": url, **others}
    return config.Settings(**variables)


def test_production_refuses_a_login_that_is_not_restricted(migrated: str) -> None:
    url = as_login(migrated, "isolation_bypass")
    with pytest.raises(
        SettingError, match=r"^NEON_DATABASE_URL: row-level security .* or set ROW_SECURITY=off\.$"
    ):
        asyncio.run(Database(settings_for(url, environment="production")).open())


def test_production_takes_it_where_row_security_is_off(migrated: str) -> None:
    async def start() -> dict[str, Any]:
        url = as_login(migrated, "isolation_bypass")
        database = Database(settings_for(url, environment="production", row_security="off"))
        await database.open()
        try:
            return await database.checks()
        finally:
            await database.close()

    checks = asyncio.run(start())
    assert all(check.ok for check in checks.values())
    assert "only where-clauses" in checks["row_security"].detail


def test_development_says_that_a_login_is_not_restricted(
    migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("unrestricted")
    with servers.running(
        folder, NEON_DATABASE_URL=as_login(migrated, "isolation_bypass")
    ) as server:
        ready = httpx.get(f"{server.url}/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        assert ready.json()["checks"]["row_security"] == {
            "ok": False,
            "detail": "this login is not restricted; only where-clauses keep users apart",
        }
        assert "row-level security does not hold for this database login" in server.printed()
        ada, bob = Person(server.url, "ada"), Person(server.url, "bob")
        task = ada.has("Only where-clauses guard this")
        assert (bob.get(f"/{task['id']}").status_code, bob.get().json()["data"]) == (404, [])
        ada.client.close()
        bob.client.close()


# --- writing, and what remains ---


TEXTS = {"tasks": "title", "lists": "name"}


def inserted(table: str, owner: str, **columns: Any) -> str:
    names = {"user_id": owner, TEXTS[table]: "Hers", "version": 1, **columns}
    values = ", ".join(repr(value) for value in names.values())
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"


@pytest.mark.parametrize("table", TEXTS)
def test_a_row_of_somebody_else_cannot_be_written(table: str, migrated: str) -> None:
    async def write(statement: str) -> str:
        connection = await asyncpg.connect(migrated, server_settings={"role": migrate.ROLE})
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("SELECT set_config('app.user_id', 'ada', true)")
            await connection.execute(inserted(table, "ada"))
            return str(await connection.execute(statement))
        except asyncpg.InsufficientPrivilegeError as refusal:
            return str(refusal)
        finally:
            await transaction.rollback()
            await connection.close()

    refused = f'new row violates row-level security policy for table "{table}"'
    assert asyncio.run(write(inserted(table, "bob"))) == refused
    assert asyncio.run(write(f"UPDATE {table} SET user_id = 'bob'")) == refused
    assert asyncio.run(write(f"UPDATE {table} SET {TEXTS[table]} = 'Still hers'")) == "UPDATE 1"


@pytest.mark.parametrize(("column", "table"), [("list_id", "lists"), ("parent_id", "tasks")])
def test_no_row_can_refer_to_somebody_elses_whoever_writes_it(
    column: str, table: str, migrated: str
) -> None:
    """Past all policies: the owner is a part of the foreign key."""
    hers, his = (
        sql(migrated, f"{inserted(table, owner)} RETURNING id")[0]["id"] for owner in ("ada", "bob")
    )
    [[task]] = sql(migrated, f"{inserted('tasks', 'ada')} RETURNING id")
    insert = inserted("tasks", "ada", **{column: his})
    update = f"UPDATE tasks SET {column} = {his} WHERE id = {task}"
    for statement in (insert, update):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            sql(migrated, statement)
        sql(migrated, statement.replace(str(his), str(hers)))
    with pytest.raises(asyncpg.ForeignKeyViolationError):  # nor be left when that goes
        sql(migrated, f"DELETE FROM {table} WHERE id = $1", hers)
    sql(migrated, f"UPDATE tasks SET {column} = NULL")


def test_who_is_nobody_sees_and_writes_nothing(migrated: str) -> None:
    """Without the setting, and with an empty one, which is what it becomes after a transaction has
    set it."""

    async def look(before: str) -> tuple[int, str]:
        connection = await asyncpg.connect(migrated, server_settings={"role": migrate.ROLE})
        try:
            await connection.execute(before)
            seen = len(await connection.fetch("SELECT FROM tasks"))
            try:
                return seen, str(
                    await connection.execute(
                        "INSERT INTO tasks (user_id, title, version) VALUES ('', '?', 1)"
                    )
                )
            except asyncpg.PostgresError as refusal:
                return seen, type(refusal).__name__
        finally:
            await connection.close()

    sql(migrated, "INSERT INTO tasks (user_id, title, version) VALUES ('ada', 'Hers', 1)")
    for before in (
        "SELECT 1",
        "SET app.user_id = ''",
        "SELECT set_config('app.user_id', 'ada', true)",
    ):
        assert asyncio.run(look(before)) == (0, "InsufficientPrivilegeError"), before
    assert asyncio.run(look("SET app.user_id = 'ada'"))[0] > 0  # so the look can see something


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_nothing_of_a_user_remains_in_the_session(pooled: bool, migrated: str) -> None:
    async def use() -> list[tuple[Any, ...]]:
        pool = Pool(dsn.parse(migrated, pooled=pooled), migrate.ROLE, size=1)
        db = OwnerDatabase(pool, "ada")
        found: list[tuple[Any, ...]] = []

        async def look() -> None:
            """In the session itself: the pool would first set all that a transaction behind a
            pooler begins with."""
            sql = "SELECT pg_backend_pid(), coalesce(current_setting('app.user_id', true), '')"
            found.append(tuple(await pool._idle[0].fetchrow(sql)))

        task_id = (await tasks.create(db, {"title": "Hers"}))[0]["id"]
        for request in (
            tasks.get(db, task_id),
            tasks.list_all(db),
            tasks.update(db, task_id, {"title": "Still hers"}),
            tasks.complete(db, task_id),
            tasks.delete(db, task_id),
            tasks.get(db, task_id),
        ):
            with suppress(NotFound):
                await request
            await look()
        await pool.read(
            "SELECT set_config('app.user_id', 'ada', false)"
        )  # the control: what must not be done
        await look()
        await pool.close()
        return found

    found = asyncio.run(use())
    assert len({backend for backend, _ in found}) == 1
    assert [user for _, user in found] == [""] * (len(found) - 1) + ["ada"]
