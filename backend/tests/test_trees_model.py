"""Whatever is done to lists and trees of tasks, in whatever order: a small model in Python and the
database agree.

For longer than the suite has time: `python -m tests.test_trees_model URL 200000`, with the URL of
an empty database.
"""

from __future__ import annotations

import asyncio
import copy
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import changes
import lists
import positions
import tasks
import trash
import undo
from database import OwnerDatabase
from entities import LIST, TASK
from errors import Invalid, LimitReached, NotFound, UndoConflict
from postgres import dsn, migrate
from postgres.pool import Pool
from rules import Place

LEVELS = 5
LISTS = 3  # in place of 500, so that the limit is met
EXAMPLES = 16
WHERES = ("first", "last", "before", "after")
Fields = dict[str, Any]


# --- the model: model.md, of one user ---


class Refused(Exception):
    """`why` is the same for the model and the database."""

    def __init__(self, *why: str) -> None:
        super().__init__(*why)
        self.why = why


class Done(NamedTuple):
    """A change. A time is the number of the change that set it."""

    group: int  # the number of its first change
    id: int
    op: str
    fields: dict[str, list[Any]]


@dataclass
class Thing:
    """A list or a task."""

    id: int
    is_list: bool
    title: str
    position: str
    list_id: int | None = None
    parent_id: int | None = None
    deleted_at: int | None = None

    @property
    def fields(self) -> Fields:
        place = {} if self.is_list else {"list_id": self.list_id, "parent_id": self.parent_id}
        name = "name" if self.is_list else "title"
        title = {name: self.title, "position": self.position}
        return {**title, **place, "deleted_at": self.deleted_at}

    @property
    def order(self) -> tuple[str, int]:
        return self.position, self.id

    def set(self, fields: Fields) -> None:
        for name, value in fields.items():
            setattr(self, "title" if name == "name" else name, value)


@dataclass
class Model:
    things: dict[int, Thing] = field(default_factory=dict)
    log: list[Done] = field(default_factory=list)
    began: int = 0  # the number of the first change of this step

    # what there is

    def find(self, id: int | None, is_list: bool, in_trash: bool = False) -> Thing | None:
        thing = self.things.get(id or 0)
        fits = thing and (thing.is_list, thing.deleted_at is not None) == (is_list, in_trash)
        return thing if fits else None

    def must(self, id: int, is_list: bool, in_trash: bool = False) -> Thing:
        thing = self.find(id, is_list, in_trash)
        if thing is None:
            raise Refused("absent")
        return thing

    def living(self, is_list: bool) -> list[Thing]:
        all = self.things.values()
        return [one for one in all if one.is_list is is_list and one.deleted_at is None]

    def children(self, parent: Thing) -> list[Thing]:
        """Of a task in the trash: those that were deleted with it."""
        return [
            one
            for one in self.things.values()
            if one.parent_id == parent.id and one.deleted_at == parent.deleted_at
        ]

    def levels(self, *roots: Thing) -> list[list[Thing]]:
        """The tasks, then those right below them, and so on."""
        found: list[list[Thing]] = []
        level = list(roots)
        while level:
            found.append(sorted(level, key=lambda one: one.id))
            level = [child for one in level for child in self.children(one)]
        return found

    def above(self, task: Thing) -> list[Thing]:
        """The task, its parent, and so on up."""
        found = [task]
        while found[-1].parent_id is not None:
            found.append(self.things[found[-1].parent_id])
        return found

    # what can be done

    def create_list(self, id: int, title: str, place: Place | None) -> None:
        if len(self.living(is_list=True)) >= LISTS:
            raise Refused("limit")
        key = self.key(place, self.living(is_list=True))
        self._create(Thing(id, True, title, key))

    def create_task(self, id: int, title: str, wanted: Fields) -> None:
        task = Thing(id, False, title, "")
        fields = self._placed(task, wanted)
        task.set({"position": self.key(None, []), **fields})
        self._create(task)

    def update_list(self, id: int, wanted: Fields) -> None:
        found = self.must(id, is_list=True)
        if isinstance(wanted.get("position"), Place):
            others = [one for one in self.living(is_list=True) if one is not found]
            wanted = {**wanted, "position": self.key(wanted["position"], others)}
        self._change(found, wanted)

    def update_task(self, id: int, wanted: Fields) -> None:
        task = self.must(id, is_list=False)
        _, *below = self.levels(task)
        fields = self._placed(task, wanted)
        self._change(task, fields)
        for one in flat(below):
            if one.list_id != task.list_id:
                self._change(one, {"list_id": task.list_id})

    def delete(self, id: int, is_list: bool) -> None:
        found = self.must(id, is_list)
        roots = [found]
        if is_list:
            inside = [one for one in self.living(is_list=False) if one.list_id == id]
            roots = [one for one in inside if one.parent_id is None]
        for one in reversed(flat(self.levels(*roots))):
            self._change(one, {"deleted_at": self.began})
        if is_list:
            self._change(found, {"deleted_at": self.began})

    def restore_task(self, id: int) -> None:
        task = self.must(id, is_list=False, in_trash=True)
        levels = self.levels(task)
        list_id, parent = task.list_id, self.find(task.parent_id, is_list=False)
        if len(levels) + (len(self.above(parent)) if parent else 0) > LEVELS:
            raise Refused("conflict")
        if parent:
            list_id = parent.list_id
        elif task.parent_id or (list_id and not self.find(list_id, is_list=True)):
            list_id = None
        parent_id = parent.id if parent else None
        self._change(task, {"deleted_at": None, "list_id": list_id, "parent_id": parent_id})
        for one in flat(levels[1:]):
            self._change(one, {"deleted_at": None, "list_id": list_id})

    def restore_list(self, id: int) -> None:
        found = self.must(id, is_list=True, in_trash=True)
        if len(self.living(is_list=True)) >= LISTS:
            raise Refused("limit")
        levels = self._levels_in_trash(found)
        if len(levels) > LEVELS:
            raise Refused("conflict")
        self._change(found, {"deleted_at": None})
        for number, level in enumerate(levels):
            alone: Fields = {} if number else {"parent_id": None}
            for one in level:
                self._change(one, {"deleted_at": None, **alone})

    def _levels_in_trash(self, found: Thing) -> list[list[Thing]]:
        together = [
            one
            for one in self.things.values()
            if (one.list_id, one.deleted_at) == (found.id, found.deleted_at)
        ]
        levels: list[list[Thing]] = []
        above = {one.parent_id for one in together} - {one.id for one in together}
        while level := [one for one in together if one.parent_id in above]:
            levels.append(sorted(level, key=lambda one: one.id))
            above = {one.id for one in level}
        return levels

    def purge(self, id: int, is_list: bool) -> None:
        found = self.must(id, is_list, in_trash=True)
        name = "list_id" if is_list else "parent_id"
        for one in sorted(self.things.values(), key=lambda one: one.id):
            if getattr(one, name) == id:
                self._change(one, {name: None})
        del self.things[id]
        self.log = [done._replace(fields={}) if done.id == id else done for done in self.log]
        self.log.append(Done(self.began, found.id, "purge", {}))

    def undo(self, which: list[Done]) -> None:
        if not which:
            raise Refused("absent")
        ids = list(dict.fromkeys(done.id for done in reversed(which)))
        wanted = {id: self._before(id, [done for done in which if done.id == id]) for id in ids}
        for id in ids:
            now = self.things[id].fields
            if wanted[id] != {name: now[name] for name in wanted[id]}:
                self._change(self.things[id], wanted[id])
            if dangling(self.rows()):  # on the way neither, even if the next one would mend it
                raise Refused("conflict")
        if unsound(self.rows()):
            raise Refused("conflict")
        has_list = any("name" in done.fields or self.things[done.id].is_list for done in which)
        if has_list and len(self.living(is_list=True)) > LISTS:
            raise Refused("limit")

    def _before(self, id: int, which: list[Done]) -> Fields:
        """What undoing these changes sets."""
        if id not in self.things:
            raise Refused("conflict")
        now = self.things[id].fields
        net, newer = net_of(which)
        if any(done.op == "create" for done in which):
            for name in now.keys() - {"deleted_at"}:
                if now[name] != net.get(name, [None, None])[1]:
                    newer.add(name)
            wanted = {"deleted_at": now["deleted_at"] or self.began}
        else:
            newer |= {name for name, pair in net.items() if now[name] not in pair}
            wanted = {name: old for name, (old, _) in net.items()}
        if newer:
            raise Refused("conflict", *sorted(newer))
        return wanted

    # how it is written

    def rows(self) -> list[Fields]:
        return [vars(one) for one in self.things.values()]

    def key(self, place: Place | None, others: list[Thing]) -> str:
        """Where `place` says, among `others`."""
        number = str(len(self.log) + 1)
        if place is None:
            return chr(ord("a") + len(number) - 1) + number
        keys = sorted(one.position for one in others)
        if place.where == "first":
            return positions.between(None, keys[0] if keys else None)
        if place.where == "last":
            return positions.between(keys[-1] if keys else None, None)
        sibling = next((one.position for one in others if one.id == place.sibling), None)
        if sibling is None:
            raise Refused("invalid", "position")
        before = [key for key in keys if key < sibling]
        after = [key for key in keys if key > sibling]
        if place.where == "before":
            return positions.between(before[-1] if before else None, sibling)
        return positions.between(sibling, after[0] if after else None)

    def _placed(self, task: Thing, wanted: Fields) -> Fields:
        fields = dict(wanted)
        if wanted.get("list_id") and not self.find(wanted["list_id"], is_list=True):
            raise Refused("invalid", "list_id")
        if "list_id" in wanted:
            fields.setdefault("parent_id", None)
        if fields.get("parent_id"):
            fields["list_id"] = self._below(task, fields["parent_id"])
        if isinstance(wanted.get("position"), Place):
            stand = {**task.fields, **fields}
            siblings = [
                one
                for one in self.living(is_list=False)
                if one.id != task.id
                and (one.list_id, one.parent_id) == (stand["list_id"], stand["parent_id"])
            ]
            fields["position"] = self.key(wanted["position"], siblings)
        return fields

    def _below(self, task: Thing, parent_id: int) -> int | None:
        """The list of a parent that the task can have."""
        parent = self.find(parent_id, is_list=False)
        if parent is None:
            raise Refused("invalid", "parent_id")
        above = self.above(parent)
        if any(one.id == task.id for one in above):
            raise Refused("invalid", "parent_id")
        if len(above) + len(self.levels(task)) > LEVELS:
            raise Refused("invalid", "parent_id")
        return parent.list_id

    def _create(self, thing: Thing) -> None:
        self.things[thing.id] = thing
        fields = {name: [None, value] for name, value in thing.fields.items() if value is not None}
        self.log.append(Done(self.began, thing.id, "create", fields))

    def _change(self, thing: Thing, wanted: Fields) -> None:
        was = thing.fields
        thing.set(wanted)
        now = thing.fields
        moved = (was["deleted_at"] is None) != (now["deleted_at"] is None)
        op = ("restore" if now["deleted_at"] is None else "delete") if moved else "update"
        differs = {name: [was[name], now[name]] for name in now if was[name] != now[name]}
        self.log.append(Done(self.began, thing.id, op, differs))


def flat(levels: Iterable[list[Thing]]) -> list[Thing]:
    return [one for level in levels for one in level]


def net_of(which: list[Done]) -> tuple[dict[str, list[Any]], set[str]]:
    """What changes of one thing come to, and the fields that others wrote in between."""
    net: dict[str, list[Any]] = {}
    between: set[str] = set()
    for done in which:
        for name, (old, new) in done.fields.items():
            if name in net and net[name][1] != old:
                between.add(name)
            net[name] = [net.get(name, [old])[0], new]
    same = [name for name, (old, new) in net.items() if old == new and name not in between]
    return {name: pair for name, pair in net.items() if name not in same}, between


# --- what always holds, whatever the model says ---


def unsound(rows: list[Fields]) -> str:
    """What is wrong with these lists and tasks; "" where nothing is."""
    tasks = {row["id"]: row for row in rows if not row["is_list"]}
    known = {None, *(row["id"] for row in rows)}
    for task in tasks.values():
        above = ancestors(task, tasks)
        if above is None:
            return "a task is below itself, or below what is nowhere"
        if task["list_id"] not in known:
            return "a task is in a list that is nowhere"
        if task["deleted_at"] is not None:
            continue
        if len(above) + 1 > LEVELS:
            return "a task is too deep"
        if any(one["list_id"] != task["list_id"] for one in above):
            return "a task is below one of another list"
    return dangling(rows)


def dangling(rows: list[Fields]) -> str:
    """Whether something that is there refers to something in the trash."""
    there = {row["id"]: row for row in rows if row["deleted_at"] is None}
    for row in there.values():
        for name in ("list_id", "parent_id"):
            if row[name] is not None and row[name] not in there:
                return f"the {name} of a task is in the trash"
    return ""


def ancestors(task: Fields, tasks: dict[int, Fields]) -> list[Fields] | None:
    found: list[Fields] = []
    parent_id = task["parent_id"]
    while parent_id is not None:
        if parent_id == task["id"] or parent_id not in tasks or len(found) > len(tasks):
            return None
        found.append(tasks[parent_id])
        parent_id = tasks[parent_id]["parent_id"]
    return found


# --- steps, and how they are taken ---


class Step(NamedTuple):
    """Numbers that choose among what there is."""

    kind: str
    one: int
    list: int | None  # None: not said; 0: null; more: a list
    parent: int | None  # likewise
    where: int  # 0 to 3: first, last, before, after; 4: not said
    beside: int
    back: int


KINDS = {  # and how often of each
    "create list": 3,
    "create task": 10,
    "update list": 2,
    "update task": 12,
    "delete list": 3,
    "delete task": 6,
    "restore list": 5,
    "restore task": 6,
    "purge list": 1,
    "purge task": 2,
    "undo": 14,
    "undo group": 8,
}
MOST = 12  # tasks and lists at once, the trash included
CHOICES = 60
NOBODYS = 2**62
STEP = st.builds(
    Step,
    st.sampled_from([kind for kind, often in KINDS.items() for _ in range(often)]),
    st.integers(0, CHOICES),
    st.one_of(st.none(), st.none(), st.integers(0, 4)),
    st.one_of(st.none(), st.integers(0, CHOICES)),
    st.integers(0, 6),
    st.integers(0, CHOICES),
    st.integers(0, 12),
)


def random_step(rng: random.Random) -> Step:
    return Step(
        rng.choices(list(KINDS), list(KINDS.values()))[0],
        rng.randrange(CHOICES),
        rng.choice([None, None, None, None, 0, *range(1, 5)]),
        rng.choice([None, 0, rng.randrange(1, CHOICES), rng.randrange(1, CHOICES)]),
        rng.randrange(7),
        rng.randrange(CHOICES),
        rng.randrange(13),
    )


class Call(NamedTuple):
    """A step, once it is clear what it is about."""

    kind: str
    id: int
    title: str
    fields: Fields
    seq: int
    group: UUID


STATE = """
SELECT id, true AS is_list, name AS title, position, NULL::bigint AS list_id, NULL::bigint AS parent_id, deleted_at,
    version, updated_at
FROM lists WHERE user_id = $1
UNION ALL
SELECT id, false, title, position, list_id, parent_id, deleted_at, version, updated_at FROM tasks WHERE user_id = $1
"""


class Pair:
    """The model and the database, side by side: each step is taken in both."""

    def __init__(self, pool: Pool, superuser: asyncpg.Connection) -> None:
        self.superuser = superuser
        self.owner = f"eve-{uuid4().hex}"
        self.db = OwnerDatabase(pool, self.owner)
        self.model = Model()
        self.made: dict[bool, list[int]] = {True: [], False: []}
        self.new_id = 0  # of what this step has made
        self.times: dict[datetime, int] = {}
        self.groups: dict[int, UUID] = {}  # of the model: in the database

    async def take(self, step: Step) -> str:
        """What came of it."""
        call = self._call(step)
        before, self.new_id = len(self.model.log), 0
        got = await self._ask(call)
        expected = self._imagine(call)
        assert got == expected, (call, got, expected)
        await self._compare(before, call)
        return f"{call.kind}: {' '.join(got)}"

    def _call(self, step: Step) -> Call:
        kind = step.kind
        is_list = kind.endswith("list")
        known = [id for id in self.made[is_list] if id in self.model.things]
        if kind == "create list" and len(known) >= LISTS + 1:
            kind = "restore list"
        if kind == "create task" and len(known) >= MOST - LISTS - 1:
            kind = "update task"
        if kind not in ("create list", "create task") and not known:
            kind, is_list = "create task", False
        id = self._chosen(is_list, step.one, kind.startswith(("restore", "purge")))
        seq = max(len(self.model.log) - step.back, 0)
        group = self.groups.get(self.model.log[seq - 1].group) if seq else None
        return Call(kind, id, f"{step.beside}", self._fields(step, is_list), seq, group or uuid4())

    def _fields(self, step: Step, is_list: bool) -> Fields:
        fields: Fields = {}
        if not is_list and step.list is not None:
            fields["list_id"] = self._chosen(True, step.list) if step.list else None
        if not is_list and step.parent is not None:
            fields["parent_id"] = self._chosen(False, step.parent) if step.parent else None
        if step.where < len(WHERES):
            where = WHERES[step.where]
            sibling = self._chosen(is_list, step.beside) if step.where > 1 else 0
            fields["position"] = Place(where, sibling)  # type: ignore[arg-type]  # of WHERES
        return fields

    def _chosen(self, is_list: bool, number: int, in_trash: bool = False) -> int:
        """Mostly one that is in the trash, or is not; else any that there ever was."""
        fit = [id for id in self.made[is_list] if self.model.find(id, is_list, in_trash)]
        ids = [*fit, *fit, *fit, *self.made[is_list]] or [NOBODYS]
        return ids[number % len(ids)]

    async def _ask(self, call: Call) -> tuple[str, ...]:
        try:
            await self._operate(call)
        except NotFound:
            return ("absent",)
        except LimitReached:
            return ("limit",)
        except Invalid as error:
            return ("invalid", error.problems[0].field)
        except UndoConflict as error:
            return ("conflict", *(problem.field for problem in error.problems))
        return ("done",)

    async def _operate(self, call: Call) -> None:
        db, id, fields = self.db, call.id, call.fields
        match call.kind:
            case "create list":
                made, _ = await lists.create(db, {"name": call.title, **fields})
                self._note(made["id"], is_list=True)
            case "create task":
                made, _ = await tasks.create(db, {"title": call.title, **fields})
                self._note(made["id"], is_list=False)
            case "update list":
                await lists.update(db, id, fields or {"name": call.title})
            case "update task":
                await tasks.update(db, id, fields or {"title": call.title})
            case "delete list":
                await lists.delete(db, id)
            case "delete task":
                await tasks.delete(db, id)
            case "restore list":
                await lists.restore(db, id)
            case "restore task":
                await tasks.restore(db, id)
            case "purge list":
                await trash.purge(db, LIST, id)
            case "purge task":
                await trash.purge(db, TASK, id)
            case "undo":
                await undo.change(db, call.seq)
            case "undo group":
                await undo.group(db, call.group)

    def _note(self, id: int, is_list: bool) -> None:
        self.made[is_list].append(id)
        self.new_id = id

    def _imagine(self, call: Call) -> tuple[str, ...]:
        before = copy.deepcopy(self.model)
        self.model.began = len(self.model.log) + 1
        try:
            self._imagine_done(call)
        except Refused as refused:
            self.model = before
            return refused.why
        return ("done",)

    def _imagine_done(self, call: Call) -> None:
        model, id, fields = self.model, call.id, call.fields
        match call.kind:
            case "create list":
                model.create_list(self.new_id, call.title, fields.get("position"))
            case "create task":
                model.create_task(self.new_id, call.title, fields)
            case "update list":
                model.update_list(id, fields or {"name": call.title})
            case "update task":
                model.update_task(id, fields or {"title": call.title})
            case "delete list" | "delete task":
                model.delete(id, call.kind == "delete list")
            case "restore list":
                model.restore_list(id)
            case "restore task":
                model.restore_task(id)
            case "purge list" | "purge task":
                model.purge(id, call.kind == "purge list")
            case "undo":
                model.undo(model.log[call.seq - 1 : call.seq] if call.seq else [])
            case "undo group":
                groups = {group: first for first, group in self.groups.items()}
                model.undo([done for done in model.log if done.group == groups.get(call.group)])

    async def _compare(self, before: int, call: Call) -> None:
        made = await changes.since(self.db, before, 500)
        self.times.update({change["at"]: change["seq"] for change in made})
        assert len({change["group"] for change in made}) == min(len(made), 1)
        if made:
            self.groups[before + 1] = UUID(made[0]["group"])
        assert [self._done(change) for change in made] == self.model.log[before:], call
        rows = [dict(row) for row in await self.superuser.fetch(STATE, self.owner)]
        versions = {done.id: seq for seq, done in enumerate(self.model.log, 1)}
        for row in rows:
            assert row.pop("version") == versions[row["id"]], call
            assert self.times[row.pop("updated_at")] == versions[row["id"]], call
            row["deleted_at"] = row["deleted_at"] and self.times[row["deleted_at"]]
        expected = [vars(thing) for thing in self.model.things.values()]
        assert sorted(rows, key=by_id) == sorted(expected, key=by_id), call
        assert unsound(rows) == "", call
        assert sum(row["is_list"] and row["deleted_at"] is None for row in rows) <= LISTS

    def _done(self, change: changes.Change) -> Done:
        """As the model has it: what it knows of, and times as numbers."""
        known = ("title", "name", "position", "list_id", "parent_id", "deleted_at")
        fields = {name: pair for name, pair in change["fields"].items() if name in known}
        if "deleted_at" in fields:
            fields["deleted_at"] = [self._number(text) for text in fields["deleted_at"]]
        group = next(first for first, id in self.groups.items() if str(id) == change["group"])
        return Done(group, change["entity_id"], change["op"], fields)

    def _number(self, text: str | None) -> int | None:
        return None if text is None else self.times[datetime.fromisoformat(text)]


def by_id(row: Fields) -> int:
    return int(row["id"])


@contextmanager
def opened(url: str) -> Iterator[tuple[asyncio.Runner, Pool, asyncpg.Connection]]:
    with asyncio.Runner() as runner:
        runner.run(migrate.upgrade(dsn.parse(url)))
        pool = Pool(dsn.parse(url), migrate.ROLE)
        superuser = runner.run(asyncpg.connect(url))
        yield runner, pool, superuser
        runner.run(superuser.close())
        runner.run(pool.close())


async def take_all(
    pool: Pool, superuser: asyncpg.Connection, steps: Iterable[Step], came: Counter[str]
) -> None:
    pair = Pair(pool, superuser)
    for step in steps:
        came[await pair.take(step)] += 1


COMMON = [  # what the steps of the suite have come to, too
    *(f"{kind}: done" for kind in KINDS),
    "update task: absent",
    "restore task: absent",
    "create list: limit",
    "create task: invalid parent_id",
    "update task: invalid list_id",
    "update task: invalid parent_id",
    "update task: invalid position",
    "undo: conflict",
    "undo group: conflict",
]


def test_whatever_is_done_the_model_and_the_database_agree(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LISTS_MAX", LISTS)
    came: Counter[str] = Counter()
    with opened(database_url) as (runner, pool, superuser):

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
        @given(st.lists(STEP, min_size=30, max_size=60))
        def agree(steps: list[Step]) -> None:
            runner.run(take_all(pool, superuser, steps, came))

        agree()
    assert [what for what in COMMON if not came[what]] == []  # it was not idle


def main(url: str, wanted: int, seed: int = 1) -> None:
    """Runs of 20 to 120 steps, until there were `wanted` of them."""
    lists.LISTS_MAX = LISTS
    came: Counter[str] = Counter()
    rng = random.Random(seed)
    with opened(url) as (runner, pool, superuser):
        while came.total() < wanted:
            steps = [random_step(rng) for _ in range(rng.randrange(20, 120))]
            try:
                runner.run(take_all(pool, superuser, steps, came))
            except BaseException:
                print(*steps, sep="\n")
                print("after", came.total(), "steps")
                raise
    print(came.total(), "steps", dict(sorted(came.items())))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
