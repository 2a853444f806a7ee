"""Nobody sees, changes, or can tell the existence of another person's task: not through any door, and not if the
where-clauses are missing, or row-level security is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import product
from types import ModuleType
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import httpx
import pytest

import changes
import config
import storage
import tasks
import trash
import undo
from database import Database, OwnerDatabase
from entities import TASK
from errors import ApiError, NotFound, SettingError
from main import app
from postgres import dsn, embedded, migrate
from postgres.pool import Pool, Row
from storage import Edit, Outcome
from tests import servers
from tests.conftest import sql
from tests.people import Person
from web.doors import Door

# --- the matrix: every door × task × caller ---

FRONT: Any = app.build_middleware_stack()
DOORS: tuple[Door, ...] = tuple(door for doors in FRONT.doors.values() for door in doors)
TASKS = ("own", "foreign", "absent", "deleted")  # as the owner of the path sees them
CALLERS = ("owner", "stranger", "visitor", "nobody")  # a visitor asks on a path of their own
ALL, ONE = "/api/{user_id}/tasks", "/api/{user_id}/tasks/{task_id}"
TRASH, TRASHED = "/v1/trash", "/v1/trash/{task_id}"
CHANGES = "/v1/changes"
COLLECTIONS = (ALL, TRASH, CHANGES)
ABSENT_ID = 2**62


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
    ("GET", TRASH): Entry(200),
    ("HEAD", TRASH): Entry(200),
    ("POST", f"{TRASHED}/restore"): Entry(200),
    ("DELETE", TRASHED): Entry(200),
    ("GET", CHANGES): Entry(200),
    ("HEAD", CHANGES): Entry(200),
}
# Theirs are the changes of whoever asks: another's cannot even be named. A test of their own is
# below.
UNDOING = {("POST", f"{CHANGES}/{{seq}}/undo"), ("POST", "/v1/undo")}
PUBLIC = {"/health", "/ready", "/", "/docs", "/openapi.json"}  # and what lies under /static/


def alone(path: str) -> dict[str, int]:
    """Who gets the same whatever they ask for. Without an owner in the path, a stranger asks as themselves."""
    return {"nobody": 401, **({"stranger": 403} if "{user_id}" in path else {})}


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


class Town:
    """Ada owns the path, Bob is the stranger, Cem owns what is foreign to both. Their ids give them away."""

    def __init__(self, database_url: str, ada: Person, bob: Person, cem: Person) -> None:
        self.database_url = database_url
        self.ada, self.bob, self.cem = ada, bob, cem
        self.foreign_id = self.new(cem)
        self.trashed_foreign_id = self.new(cem)
        cem.delete(self.trashed_foreign_id)
        self.new(bob)

    def new(self, person: Person) -> int:
        return int(person.has(f"Title of {person.id}", f"Description of {person.id}")["id"])

    def id_of(self, task: str, path: str) -> int:
        """In the trash, a task is deleted when it was deleted for good."""
        in_trash = path.startswith(TRASH)
        if task == "absent":
            return ABSENT_ID
        if task == "foreign":
            return self.trashed_foreign_id if in_trash else self.foreign_id
        task_id = self.new(self.ada)
        if task == "deleted" or in_trash:
            self.ada.delete(task_id)
        if task == "deleted" and in_trash:
            self.ada.request("DELETE", f"{TRASH}/{task_id}")
        return task_id

    def ask(
        self,
        caller: str,
        method: str,
        path: str,
        task_id: int = 0,
        body: Any = None,
        along: dict[str, str] | None = None,
    ) -> Answered:
        person = self.ada if caller == "owner" else self.bob
        owner = self.bob if caller == "visitor" else self.ada
        url = path.format(user_id=owner.id, task_id=task_id)
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

    def rows(self) -> set[tuple[Any, ...]]:
        people = [self.ada.id, self.bob.id, self.cem.id]
        return {
            tuple(row)
            for row in sql(
                self.database_url, "SELECT id, tasks.* FROM tasks WHERE user_id = ANY($1)", people
            )
        }


@pytest.fixture
def town(database_url: str, person: Callable[[str], Person]) -> Town:
    return Town(database_url, person("ada"), person("bob"), person("cem"))


def expected(caller: str, task: str, path: str, entry: Entry, along: str = "nothing") -> int:
    """What the table says."""
    if caller in alone(path):
        return alone(path)[caller]
    found = path in COLLECTIONS or (caller, task) == ("owner", "own")
    return (412 if along == "a condition that fails" else entry.status) if found else 404


def goes_along(along: str, method: str) -> bool:
    """A condition for reading is none for writing; a key is a writer's."""
    reads = method in ("GET", "HEAD")
    return along == "nothing" or (along == "a version") is reads


def test_every_door_has_its_entry() -> None:
    private = {(method, door.path) for door in DOORS if not door.public for method in door.answers}
    assert private == set(PRIVATE) | UNDOING
    public = {door.path for door in DOORS if door.public}
    assert {path for path in public if not path.startswith("/static/")} == PUBLIC
    assert not [path for path in public if "{" in path]


@pytest.mark.parametrize("along", ALONG)
def test_no_door_shows_or_changes_anothers_task(along: str, town: Town) -> None:
    cases, wrong = 0, list[Any]()
    for (method, path), entry in PRIVATE.items():
        if not goes_along(along, method):
            continue
        ids = {(task, caller): town.id_of(task, path) for task, caller in product(TASKS, CALLERS)}
        before = {row for row in town.rows() if row[0] != ids["own", "owner"]}
        answers = {}
        for case, task_id in ids.items():
            headers = ALONG[along]
            if along == "a key":  # the same for all callers, and the owner asks first
                headers = {"Idempotency-Key": f"{method}-{path.count('/')}-{case[0]}"}
            answers[case] = town.ask(case[1], method, path, task_id, entry.body, headers)
        for (task, caller), answered in answers.items():
            known = expected(caller, task, path, entry, along)
            if answered.status != known or town.tells_of_others(caller, answered):
                wrong.append((method, path, task, caller, answered))
        for caller in CALLERS if path not in COLLECTIONS else alone(path):
            alike = {answers[task, caller] for task in TASKS if (task, caller) != ("own", "owner")}
            if len(alike) != 1:
                wrong.append((method, path, "tells apart", caller, alike))
        if path not in COLLECTIONS and answers["foreign", "owner"] != answers["own", "visitor"]:
            wrong.append(
                (method, path, "tells apart", "a visitor from an owner", answers["own", "visitor"])
            )
        if not before <= town.rows():
            wrong.append((method, path, "changes", "another's task", before - town.rows()))
        cases += len(answers)
    assert wrong == []
    doors = [method for method, _ in PRIVATE if goes_along(along, method)]
    assert cases == len(doors) * len(TASKS) * len(CALLERS)
    assert len(PRIVATE) * len(TASKS) * len(CALLERS) == 240


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
    before = {row for row in town.rows() if town.cem.id in row}
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
    assert before == {row for row in town.rows() if town.cem.id in row}


def test_everybody_has_a_log_of_their_own(town: Town) -> None:
    for person in (town.ada, town.bob, town.cem):
        logged = person.request("GET", CHANGES).json()["data"]
        assert {change["actor"]["id"] for change in logged} <= {person.id}
        assert [change["seq"] for change in logged] == list(range(1, len(logged) + 1))


def test_a_foreign_id_looks_like_one_that_cannot_exist(town: Town) -> None:
    foreign = town.ask("owner", "GET", ONE, town.foreign_id)
    for impossible in (0, -1, -ABSENT_ID, 2**63 - 1, 2**63, 10**30):
        assert town.ask("owner", "GET", ONE, impossible) == foreign


def test_a_cursor_opens_nothing_for_anybody_else(town: Town) -> None:
    for _ in range(3):
        town.new(town.cem)
    cursor = town.cem.get("", params={"limit": 2}).json()["next_cursor"]
    assert cursor
    refused = town.bob.get("", params={"limit": 2, "cursor": cursor})
    assert (refused.status_code, refused.json()["error"]) == (400, "Cursor is not valid")
    assert town.cem.id not in refused.text


# --- mutation: each where-clause that names the owner, taken away ---

NAMES_THE_OWNER = re.compile(r"\buser_id = (?:scope\.user_id|p_user_id)( AND )?")
FUNCTIONS = {
    "storage.STORE": storage.STORE,
    "storage.FIND_ANSWER": storage.FIND_ANSWER,
    "storage.KEEP_ANSWER": storage.KEEP_ANSWER,
}
STATEMENTS: dict[str, tuple[Any, Any]] = {  # name -> where it is, and under which name or key
    **{f"tasks.LIST {filter}": (tasks.LIST, filter) for filter in tasks.LIST},
    **{f"undo.CURRENT {entity}": (undo.CURRENT, entity) for entity in undo.CURRENT},
    **{
        f"{module.__name__}.{name}": (module, name)
        for module in (tasks, trash, undo, changes)
        for name, text in vars(module).items()
        if isinstance(text, str) and text.startswith("\nWITH scope")
    },
}
SQL = {name: function.text for name, function in FUNCTIONS.items()} | {
    name: vars(place)[key] if isinstance(place, ModuleType) else place[key]
    for name, (place, key) in STATEMENTS.items()
}
MUTATIONS = [
    (name, place)
    for name, text in SQL.items()
    for place in range(len(NAMES_THE_OWNER.findall(text)))
]
GUARDED = {  # alone no breach: the function has found the object among its owner's, and ids are nobody else's
    *(("storage.STORE", place) for place in range(3, 10)),
    ("undo.CURRENT task", 0),  # of the ids in one's own log
}
BOBS_SEQ = 77_777  # of his last change; his next one would have the number after it
BOBS_ID = 7_777_777_777  # of his task
BOBS_UID = UUID("b0bb0bb0-b0bb-4bbb-8bbb-b0bb0bb0bb0b")
ALL_ROWS = " UNION ALL ".join(
    f"SELECT user_id, '{table}' || t::text FROM {table} AS t" for table in migrate.ISOLATED
)


def without_owner(text: str, place: int | None = None) -> str:
    """`text` without its where-clause number `place`; None: without any."""
    clauses = iter(range(len(text)))

    def mutate(found: re.Match[str]) -> str:
        return found[0] if place not in (None, next(clauses)) else "" if found[1] else "true"

    return NAMES_THE_OWNER.sub(mutate, text)


class Witness(OwnerDatabase):
    """Ada's database, noting every row that comes out of it."""

    __slots__ = ("seen",)

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, "ada")
        self.seen: list[Row] = []

    async def read(self, sql: str, *arguments: Any, **limits: float) -> list[Row]:
        self.seen += (rows := await super().read(sql, *arguments, **limits))
        return rows

    async def store(self, *edits: Edit, all: bool = False, rows: bool = True) -> list[Outcome]:
        outcomes = await super().store(*edits, all=all, rows=rows)
        for edit, (status, found) in zip(edits, outcomes, strict=True):
            is_own = edit.op == "create" and status == "done"
            self.seen.append({**(found or {}), "outcome": "absent" if is_own else status})
        return outcomes


def attacks(db: Witness, bobs: int) -> Iterator[Coroutine[Any, Any, Any]]:
    """All that Ada can ask for, and of Bob's where there is a choice."""
    yield tasks.list_all(db)
    yield tasks.list_all(db, "pending")
    yield tasks.list_newest_first(db, "completed", 10)
    yield tasks.get(db, bobs)
    yield tasks.create(db, {"title": "Hers"}, uid=BOBS_UID)
    yield db.store(*[storage.create(TASK, {"title": "Hers"})] * 2)
    yield guess(db)
    yield tasks.complete(db, bobs)
    yield tasks.complete(db, bobs, True)
    yield tasks.complete(db, bobs, False)
    yield tasks.complete(db, bobs, True, [[0, None]])
    yield tasks.update(db, bobs, {"title": "Stolen", "description": None, "completed": True})
    yield tasks.delete(db, bobs)
    yield tasks.delete(db, bobs, [[0, None]])
    yield tasks.restore(db, bobs)
    yield tasks.restore(db, bobs, [[0, None]])
    yield trash.list_latest_first(db, 10)
    yield trash.purge(db, bobs)
    yield trash.purge(db, bobs, [[0, None]])
    yield undo.change(db, BOBS_SEQ)
    yield undo.group(db, BOBS_UID)
    yield changes.latest(db)
    yield changes.since(db, 0, 100)
    yield db.read(storage.FIND_CALL, "bobs-key", 0)
    yield db.read(storage.KEEP_CALL, "bobs-key", b"hers", 200, "{}", "{}", "{}")


async def guess(db: Witness) -> None:
    """Is this the number of Bob's last change?"""
    await tasks.create(db, {"title": "Hers"}, if_match=[[BOBS_SEQ, None]])
    db.seen.append({"guessed": BOBS_SEQ})


def is_bobs(row: Row) -> bool:
    values = list(row.values())
    if row.get("outcome") not in (None, "absent"):
        return True
    return any("bob" in str(value).lower() for value in values) or bool(
        {BOBS_SEQ, BOBS_SEQ + 1} & set(values)
    )


class Besieged:
    """A database of Ada's and Bob's, and the sessions to attack and to watch it."""

    def __init__(self, watch: asyncpg.Connection, url: str) -> None:
        self.watch = watch
        self.address = dsn.parse(url)

    async def leaks(self, role: str | None = migrate.ROLE, login: str = "postgres") -> int:
        """How many of Bob's rows Ada saw or changed."""
        pool = Pool(
            replace(self.address, url=self.address.url.replace("postgres@", f"{login}@")), role
        )
        try:
            return sum(
                [
                    await self._leaks_of_one(pool, state)
                    for state in ("pending", "completed", "deleted")
                ]
            )
        finally:
            await pool.close()

    async def _leaks_of_one(self, pool: Pool, state: str) -> int:
        leaks, before = 0, None
        db = Witness(pool)
        for attack in attacks(db, BOBS_ID):
            before = before or await self._settle(state)
            db.seen.clear()
            with suppress(ApiError):
                await attack
            leaks += sum(map(is_bobs, db.seen))
            after = await self._rows()
            leaks += after["bob"] != before["bob"]
            before = before if after == before else None
        return leaks

    async def _settle(self, state: str) -> dict[str, set[str]]:
        """Bob has one of everything, Ada a task."""
        await self.watch.execute(
            f"""
            DELETE FROM {"; DELETE FROM ".join(migrate.ISOLATED)};
            INSERT INTO tasks (user_id, title, version) VALUES ('ada', 'Hers', 1);
            INSERT INTO tasks
                (id, user_id, title, description, uid, version, completed, completed_at, deleted_at)
            SELECT {BOBS_ID}, 'bob', 'His', 'Too', '{BOBS_UID}', {BOBS_SEQ}, is_completed,
                CASE WHEN is_completed THEN now() END, CASE WHEN is_deleted THEN now() END
            FROM (SELECT '{state}' = 'completed', '{state}' = 'deleted') AS s (is_completed, is_deleted);
            INSERT INTO change_counters VALUES ('bob', {BOBS_SEQ}, now());
            INSERT INTO changes VALUES
                ('bob', {BOBS_SEQ}, now(), 'user', 'bob', '{BOBS_UID}', 'task', {BOBS_ID}, 'update', '{{}}');
            INSERT INTO idempotency_keys VALUES
                ('bob', 'bobs-key', now(), 'bobs', 200, '{{}}', '{{}}', 0);
            """
        )
        return await self._rows()

    async def _rows(self) -> dict[str, set[str]]:
        """All that there are, by their owners."""
        rows: dict[str, set[str]] = {"ada": set(), "bob": set()}
        for owner, row in await self.watch.fetch(ALL_ROWS):
            rows[owner].add(row)
        return rows

    async def install(self, monkeypatch: pytest.MonkeyPatch, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            if name in FUNCTIONS:
                await self.watch.execute(
                    text.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
                )
                continue
            place, key = STATEMENTS[name]
            if isinstance(place, ModuleType):
                monkeypatch.setattr(place, key, text)
            else:
                monkeypatch.setitem(place, key, text)

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
    yield city
    await city.everywhere("OWNER TO postgres")
    await city.everywhere("ENABLE ROW LEVEL SECURITY")
    await city.everywhere("FORCE ROW LEVEL SECURITY")
    with pytest.MonkeyPatch.context() as unused:
        await city.install(unused, {name: SQL[name] for name in FUNCTIONS})
    await watch.close()


def test_the_mutations_are_all_the_where_clauses() -> None:
    clauses = [clause for text in SQL.values() for clause in re.findall(r"\bWHERE\b.*", text)]
    others = [clause for clause in clauses if not NAMES_THE_OWNER.search(clause)]
    assert len(MUTATIONS) == len(clauses) - len(others) == 27
    assert others == [
        "WHERE (pair ->> 0)::bigint = was.version AND coalesce("
    ]  # of no table's rows


def test_policies_hold_without_where_clauses_and_where_clauses_without_policies(siege: str) -> None:
    """Each where-clause alone, and all together. The control: without both layers the same attacks succeed."""

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
    assert leaked["policies alone"] == [0] * (len(MUTATIONS) + 1)
    assert leaked["where-clauses alone"] == [0]
    harmless = {
        mutant
        for mutant, leaks in zip([*MUTATIONS, "all"], leaked["neither"], strict=True)
        if not leaks
    }
    assert harmless == GUARDED
    assert leaked["neither"][-1] > max(leaked["neither"][:-1])


def test_the_tables_owner_is_held_by_force_alone(siege: str) -> None:
    """A login that owns the table and cannot take the role. The control: without FORCE it sees everything."""

    async def attack() -> list[tuple[bool, int]]:
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
    assert (proven, held) == (True, 0)
    assert not still_proven
    assert leaked > 0


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
        (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY(f.conkey) AND a.attname = 'user_id'))
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
        *(("tasks", column) for column in ("user_id", "id", "updated_at", "deleted_at")),
    }


A_TABLE = f"(?:{'|'.join(migrate.ISOLATED)})"


def names_the_owner(text: str) -> bool:
    """Whether every read and write of a table in `text` names the owner, its first argument."""
    touches = re.findall(rf"\b(?:FROM|UPDATE|INTO) {A_TABLE}\b", text)
    owned = re.findall(
        r"\bWHERE user_id = (?:scope\.user_id|p_user_id)\b|(?:VALUES \(|SELECT)\s*p_user_id, ", text
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
    assert len(SQL) == 13
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


def test_a_row_of_somebody_else_cannot_be_written(migrated: str) -> None:
    async def write(statement: str) -> str:
        connection = await asyncpg.connect(migrated, server_settings={"role": migrate.ROLE})
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("SELECT set_config('app.user_id', 'ada', true)")
            await connection.execute(
                "INSERT INTO tasks (user_id, title, version) VALUES ('ada', 'Her own', 1)"
            )
            return str(await connection.execute(statement))
        except asyncpg.InsufficientPrivilegeError as refusal:
            return str(refusal)
        finally:
            await transaction.rollback()
            await connection.close()

    refused = 'new row violates row-level security policy for table "tasks"'
    assert (
        asyncio.run(
            write("INSERT INTO tasks (user_id, title, version) VALUES ('bob', 'Not hers', 1)")
        )
        == refused
    )
    assert asyncio.run(write("UPDATE tasks SET user_id = 'bob'")) == refused
    assert asyncio.run(write("UPDATE tasks SET title = 'Hers'")) == "UPDATE 1"


def test_who_is_nobody_sees_and_writes_nothing(migrated: str) -> None:
    """Without the setting, and with an empty one, which is what it becomes after a transaction has set it."""

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
            """In the session itself: the pool would first set all that a transaction behind a pooler begins with."""
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
