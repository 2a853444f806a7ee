"""An undo of what can be done to lists, trees and the fields of a task restores every column of
every row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest

import changes
import lists
import storage
import tasks
import trash
import undo
from database import OwnerDatabase
from entities import ENTITIES, LIST, TASK
from postgres import dsn, migrate
from postgres.pool import Pool
from rules import Place

Result = TypeVar("Result")
MANY = 1_000
MARKS = {"version", "updated_at"}  # which every change moves


class House(NamedTuple):
    """One person's lists and tasks: `work` has `a`, below it `b`, below that `c`; `home` is empty;
    `d` is in the Inbox.

    In the trash: the list `gone` with the tree `e`, `f`; and the tree `g`, `h`, whose parent `a` is
    still there.
    """

    runner: asyncio.Runner
    superuser: asyncpg.Connection
    db: OwnerDatabase
    ids: dict[str, int]

    def ask(self, work: Awaitable[Result]) -> Result:
        async def wait() -> Result:
            return await work

        return self.runner.run(wait())

    def rows(self) -> list[dict[str, Any]]:
        """All that is stored of the person, but for the marks of the last change."""
        found: list[dict[str, Any]] = []
        for entity in ENTITIES:
            sql = f"SELECT * FROM {entity.table} WHERE user_id = $1 ORDER BY id"
            rows = self.ask(self.superuser.fetch(sql, self.db.owner))
            found += [without_marks(row) for row in rows]
        return found

    def log(self, since: int = 0) -> list[changes.Change]:
        return self.ask(changes.since(self.db, since, 5_000))

    def undo_last(self) -> list[changes.Change]:
        latest = self.ask(changes.latest(self.db)).number
        group = UUID(self.log(latest - 1)[0]["group"])
        return self.ask(undo.group(self.db, group))


def without_marks(row: Mapping[str, Any]) -> dict[str, Any]:
    """No labels have no keys: null and an empty array are the same to a query."""
    found = {name: value for name, value in row.items() if name not in MARKS}
    if "label_keys" in found:
        found["label_keys"] = found["label_keys"] or []
    return found


async def furnish(db: OwnerDatabase) -> dict[str, int]:
    ids: dict[str, int] = {}

    async def add_list(name: str) -> None:
        ids[name] = (await lists.create(db, {"name": name, "color": "#2f6fed"}))[0]["id"]

    async def add(name: str, **fields: Any) -> None:
        titled = {"title": name, "description": "Text", "due": "2026-12-01", **fields}
        ids[name] = (await tasks.create(db, titled))[0]["id"]

    for name in ("work", "home", "gone"):
        await add_list(name)
    await add("a", list_id=ids["work"], labels=["x"], priority="low")
    await add("b", parent_id=ids["a"])
    await add("c", parent_id=ids["b"])
    await add("d", start="2026-11-01")
    await add("e", list_id=ids["gone"])
    await add("f", parent_id=ids["e"])
    await add("g", parent_id=ids["a"])
    await add("h", parent_id=ids["g"])
    await lists.delete(db, ids["gone"])
    await tasks.delete(db, ids["g"])
    return ids


@pytest.fixture(scope="module")
def way(database_url: str) -> Iterator[tuple[asyncio.Runner, Pool, asyncpg.Connection]]:
    with asyncio.Runner() as runner:
        runner.run(migrate.upgrade(dsn.parse(database_url)))
        pool = Pool(dsn.parse(database_url), migrate.ROLE)
        superuser = runner.run(asyncpg.connect(database_url))
        yield runner, pool, superuser
        runner.run(superuser.close())
        runner.run(pool.close())


@pytest.fixture
def house(way: tuple[asyncio.Runner, Pool, asyncpg.Connection]) -> House:
    runner, pool, superuser = way
    db = OwnerDatabase(pool, f"ada-{uuid4().hex}")
    return House(runner, superuser, db, runner.run(furnish(db)))


Act = Callable[[OwnerDatabase, dict[str, int]], Awaitable[Any]]


def update(what: str, /, **fields: Any) -> Act:
    """Ids may be given by name."""

    def named(ids: dict[str, int], value: Any) -> Any:
        if isinstance(value, Place) and value.sibling:
            return Place(value.where, ids[str(value.sibling)])
        return ids[value[1:]] if isinstance(value, str) and value.startswith("@") else value

    def act(db: OwnerDatabase, ids: dict[str, int]) -> Awaitable[Any]:
        wanted = {field: named(ids, value) for field, value in fields.items()}
        module: Any = lists if what in ("work", "home", "gone") else tasks
        return module.update(db, ids[what], wanted)  # type: ignore[no-any-return]

    return act


UPDATES: dict[str, Act] = {
    "title": update("a", title="New"),
    "description": update("a", description=None),
    "completed": update("a", completed=True),
    "priority": update("a", priority="high"),
    "labels": update("a", labels=["y", "z"]),
    "labels gone": update("a", labels=[]),
    "start": update("a", start="2026-11-30"),
    "due": update("a", due="2026-12-24T18:00:00+01:00[Europe/Berlin]"),
    "due gone": update("a", due=None),
    "times of another kind": update("d", start="2026-11-01T09:00:00", due="2026-11-01T10:00:00"),
    "position": update("a", position="Zz"),
    "position first": update("d", position=Place("first")),
    "all fields": update(
        "d",
        title="New",
        description=None,
        completed=True,
        priority="medium",
        labels=["y"],
        start=None,
        due=None,
        list_id="@home",
        position=Place("last"),
    ),
    "a list for one": update("d", list_id="@home"),
    "a list for a tree": update("a", list_id="@home"),
    "the Inbox for a tree": update("a", list_id=None),
    "a list for a part of a tree": update("b", list_id="@home"),
    "its own list, which takes it out": update("b", list_id="@work"),
    "a parent": update("d", parent_id="@b"),
    "a parent for a tree": update("a", parent_id="@d"),
    "no parent": update("b", parent_id=None),
    "a parent further up, and a place": update("c", parent_id="@a", position=Place("first")),
    "the name of a list": update("work", name="New"),
    "the color of a list": update("work", color="#000000"),
    "no color of a list": update("work", color=None),
    "the position of a list": update("work", position=Place("last")),
    "all of a list": update("work", name="New", color=None, position="Zz"),
}
MOVES: dict[str, Act] = {
    "complete": lambda db, ids: tasks.complete(db, ids["a"]),
    "delete one": lambda db, ids: tasks.delete(db, ids["c"]),
    "delete a part of a tree": lambda db, ids: tasks.delete(db, ids["b"]),
    "delete a tree": lambda db, ids: tasks.delete(db, ids["a"]),
    "delete a list": lambda db, ids: lists.delete(db, ids["work"]),
    "delete an empty list": lambda db, ids: lists.delete(db, ids["home"]),
    "restore a tree": lambda db, ids: tasks.restore(db, ids["g"]),
    "restore a part of a tree": lambda db, ids: tasks.restore(db, ids["h"]),
    "restore a tree out of a list in the trash": lambda db, ids: tasks.restore(db, ids["e"]),
    "restore a list": lambda db, ids: lists.restore(db, ids["gone"]),
}


@pytest.mark.parametrize("act", [*UPDATES.values(), *MOVES.values()], ids=[*UPDATES, *MOVES])
def test_an_undo_restores_every_column_of_every_row_and_its_undo_takes_that_back(
    act: Act, house: House
) -> None:
    before = house.rows()
    house.ask(act(house.db, house.ids))
    after = house.rows()
    assert after != before
    made = house.undo_last()
    assert house.rows() == before
    assert len({change["group"] for change in made}) == 1
    house.undo_last()
    assert house.rows() == after
    house.undo_last()
    assert house.rows() == before


@pytest.mark.parametrize("act", MOVES.values(), ids=MOVES)
def test_an_undo_of_each_change_from_the_last_one_does_the_same(act: Act, house: House) -> None:
    before, latest = house.rows(), house.ask(changes.latest(house.db)).number
    house.ask(act(house.db, house.ids))
    for change in reversed(house.log(latest)):
        house.ask(undo.change(house.db, change["seq"]))
    assert house.rows() == before


CREATIONS: dict[str, Act] = {
    "a task": lambda db, ids: tasks.create(db, {"title": "New"}),
    "a task with all fields": lambda db, ids: tasks.create(
        db,
        {
            "title": "New",
            "description": "Text",
            "parent_id": ids["b"],
            "position": Place("first"),
            "priority": "high",
            "labels": ["x"],
            "start": "2026-12-01",
            "due": "2026-12-02",
        },
        uuid4(),
    ),
    "a task in a list": lambda db, ids: tasks.create(db, {"title": "New", "list_id": ids["home"]}),
    "a list": lambda db, ids: lists.create(db, {"name": "New", "position": Place("first")}),
}


@pytest.mark.parametrize("act", CREATIONS.values(), ids=CREATIONS)
def test_an_undo_of_a_creation_puts_it_in_the_trash_and_its_undo_takes_it_out(
    act: Act, house: House
) -> None:
    before = house.rows()
    house.ask(act(house.db, house.ids))
    after = house.rows()
    known = {row["id"] for row in before}
    [made] = [row for row in after if row["id"] not in known]
    [undone] = house.undo_last()
    assert undone["op"] == "delete"
    now = {row["id"]: row for row in house.rows()}
    assert now.pop(made["id"]) == {**made, "deleted_at": undone["at"]}
    assert list(now.values()) == before
    house.undo_last()
    assert house.rows() == after


# --- a thousand tasks ---


async def fill(db: OwnerDatabase, list_id: int) -> None:
    """MANY tasks, some of them below others, five levels deep."""
    parents: list[int | None] = [None]
    for _ in range(5):
        made = [
            storage.create(
                TASK,
                {"title": "Task", "list_id": list_id, "parent_id": parents[n % len(parents)]},
            )
            for n in range(MANY // 5)
        ]
        outcomes = await db.store(*made)
        parents = [outcome.object["id"] for outcome in outcomes if outcome.object][::2]


def test_a_list_of_a_thousand_tasks_goes_and_comes_as_one_group(house: House) -> None:
    list_id = house.ids["home"]
    house.ask(fill(house.db, list_id))
    house.ask(house.superuser.execute("ANALYZE tasks"))  # autovacuum does it within a minute
    before, latest = house.rows(), house.ask(changes.latest(house.db)).number
    took: dict[str, float] = {}

    def timed(name: str, work: Awaitable[Any]) -> None:
        began = time.monotonic()
        house.ask(work)
        took[name] = time.monotonic() - began

    timed("delete", lists.delete(house.db, list_id))
    made = house.log(latest)
    assert len(made) == MANY + 1
    assert len({change["group"] for change in made}) == 1
    group = UUID(made[0]["group"])
    timed("undo", undo.group(house.db, group))
    assert house.rows() == before
    assert len(house.log(latest)) == 2 * (MANY + 1)
    timed("delete again", lists.delete(house.db, list_id))
    timed("restore", lists.restore(house.db, list_id))
    assert house.rows() == before
    timed("delete once more", lists.delete(house.db, list_id))
    timed("delete for good", trash.purge(house.db, LIST, list_id))
    print({name: f"{seconds:.2f} s" for name, seconds in took.items()})
