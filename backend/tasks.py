"""What can be done to a task. Every door comes through here.

Writes are edits, which storage/ stores. What depends on other rows is decided under the user's
lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, NamedTuple
from uuid import UUID

import changes
import ids
import statements
import storage
import times
import trees
from changes import NOTHING_YET, Revision
from database import OwnerDatabase
from entities import DELETED_AT, TASK
from errors import Invalid, NotFound, PreconditionFailed, Problem, UidInTrash
from ids import Name
from postgres.pool import Row
from rules import Place
from storage import GuardLost, Outcome, Versions
from trees import Stand

Filter = Literal["all", "pending", "completed"]
Task = Mapping[str, Any]

# Rows of one statement of a whole list: half a millisecond of the worker. 500 take 1.2 and double
# others' p99; 100 cost a sixth more in all (a list of 100,000: 280 ms instead of 240).
BATCH = 200
BATCH_POOLED = 1_000  # behind a pooler, across a network, where each takes four round trips

GET = {
    int: statements.objects(TASK, "id = $2 AND deleted_at IS NULL"),
    UUID: statements.objects(TASK, "uid = $2 AND deleted_at IS NULL"),
}
GET_TRASHED = statements.objects(TASK, "id = $2 AND deleted_at IS NOT NULL", DELETED_AT)


def _list(condition: str) -> str:
    return statements.listing(
        TASK,
        f"deleted_at IS NULL {condition}AND (created_at, id) < ($3, $4)",
        "created_at DESC, id DESC",
    )


# Each has a text of its own, so that PostgreSQL sees which index serves it.
LIST = {
    "all": _list(""),
    "pending": _list("AND NOT completed "),
    "completed": _list("AND completed "),
}


class Position(NamedTuple):
    """A place in the list, newest first: what comes after it is older."""

    created_at: datetime
    id: int


NEWEST = Position(datetime.max.replace(tzinfo=UTC), 0)


class Listing(NamedTuple):
    """`revision` is the user's last change: what the list may show is the same as long as that is."""

    revision: Revision
    tasks: list[Task]


async def list_newest_first(
    db: OwnerDatabase, filter: Filter, limit: int, after: Position = NEWEST
) -> Listing:
    """At most `limit` tasks that come after `after`."""
    own, *found = await db.read(LIST[filter], limit, *after)
    return Listing(changes.last(own), [shown(task) for task in found])


async def list_all(
    db: OwnerDatabase, filter: Filter = "all", after: Position = NEWEST
) -> tuple[Listing, AsyncIterator[list[Task]] | None]:
    """All tasks that come after `after`: the first, and those after them if there are more than a
    batch.

    The latter come in batches, none of them empty, each read when it is asked for and as it then
    is. A task that is there all the time is in one of them: its place in the list never changes.
    """
    size = BATCH_POOLED if db.is_pooled else BATCH
    first = await list_newest_first(db, filter, size + 1, after)
    has_more = len(first.tasks) > size
    return first, _rest(db, filter, size, _place(first.tasks[-1])) if has_more else None


async def _rest(
    db: OwnerDatabase, filter: Filter, size: int, after: Position
) -> AsyncIterator[list[Task]]:
    is_full = True
    while is_full:
        _, batch = await list_newest_first(db, filter, size, after)
        is_full = len(batch) == size
        if batch:
            after = _place(batch[-1])
            yield batch


def _place(task: Task) -> Position:
    return Position(task["created_at"], task["id"])


async def get(db: OwnerDatabase, name: Name) -> Task:
    rows = await db.read(GET[type(name)], name)
    if not rows:
        raise NotFound("Task not found")
    return shown(rows[0])


async def create(
    db: OwnerDatabase, fields: Mapping[str, Any], uid: UUID | None = None, if_match: Versions = None
) -> tuple[Task, bool]:
    """The task, and whether it is new: where there is one with this `uid`, that one is returned as
    it is.

    `if_match` is about the user's last change, which only a new task must not miss.
    """
    _check_times(fields)
    must_look = if_match is not None or _needs_others(fields)

    async def work(db: OwnerDatabase) -> Outcome:
        latest = NOTHING_YET if if_match is None else await changes.latest(db)
        placed = await _placed(db, fields, uid) if must_look else fields
        [created] = await db.store(storage.create(TASK, placed, uid))
        if created.status == "done" and not latest.is_one_of(if_match):
            raise PreconditionFailed  # and nothing was created
        return created

    made = await (db.locked(work) if must_look else work(db))
    if made.status == "dangling":
        raise Invalid([Problem("list_id", "List does not exist")])
    if made.status == "in_trash" or made.object is None:
        raise UidInTrash(TASK.name)
    return shown(made.object), made.status == "done"


async def _placed(
    db: OwnerDatabase, fields: Mapping[str, Any], uid: UUID | None
) -> Mapping[str, Any]:
    """`fields` as they are stored; none of them if there is a task with this `uid` already, which
    stays as it is."""
    if uid and await ids.of(db, TASK, uid):
        return {}
    return await trees.placed(db, fields)


def _needs_others(fields: Mapping[str, Any]) -> bool:
    """Whether others must be read before a task with `fields` is made. The writer checks the id of
    a list itself."""
    has_parent = fields.get("parent_id") is not None
    names_list_by_uid = isinstance(fields.get("list_id"), UUID)
    return has_parent or names_list_by_uid or isinstance(fields.get("position"), Place)


async def update(
    db: OwnerDatabase, id: int, fields: Mapping[str, Any], if_match: Versions = None
) -> Task:
    """Set `fields`. It is a change, and `updated_at` moves, even where they are empty or what they
    were."""
    _check_times(fields)
    if trees.moves(fields):
        return await db.locked(partial(_move, id=id, fields=fields, if_match=if_match))
    if _needs_other_time(fields):
        return await db.guarded(partial(_reschedule, id=id, fields=fields, if_match=if_match))
    return written(await db.store(storage.update(TASK, id, fields, if_match)))


async def _move(db: OwnerDatabase, id: int, fields: Mapping[str, Any], if_match: Versions) -> Task:
    """What is below the task comes along to its new list."""
    task = await _matching(db, id, if_match)
    if _needs_other_time(fields):
        _check_times({**task, **fields})
    tree = await trees.below(db, id)
    stand = Stand(task["list_id"], task["parent_id"], id, tree[-1]["level"])
    placed = await trees.placed(db, fields, stand)
    list_id = placed.get("list_id", task["list_id"])
    along = [
        storage.update(TASK, part["id"], {"list_id": list_id})
        for part in tree[1:]
        if part["list_id"] != list_id
    ]
    return written(await db.store(storage.update(TASK, id, placed), *along, all=True))


async def _reschedule(
    db: OwnerDatabase, id: int, fields: Mapping[str, Any], if_match: Versions
) -> Task:
    """Whether a time is right depends on the other one, so the task must still be what was read."""
    task = await _matching(db, id, if_match)
    _check_times({**task, **fields})
    [outcome] = await db.store(storage.update(TASK, id, fields, _seen(task)))
    if outcome.status == "stale":
        raise GuardLost
    return written([outcome])


async def complete(
    db: OwnerDatabase, id: int, completed: bool | None = None, if_match: Versions = None
) -> Task:
    """Set `completed`, or toggle it where None is given. Setting what it already is changes
    nothing."""
    if completed is None:
        return written(await db.store(storage.toggle(TASK, id, if_match)))
    fields = {"completed": completed}
    return written(await db.store(storage.update(TASK, id, fields, if_match, skips_same=True)))


async def delete(db: OwnerDatabase, id: int, if_match: Versions = None) -> None:
    """Move it to the trash, with what is below it."""
    [outcome] = await db.store(storage.delete(TASK, id, if_match))
    if outcome.status == "in_use":
        await db.locked(partial(_delete_tree, id=id, if_match=if_match))
    else:
        written([outcome])


async def _delete_tree(db: OwnerDatabase, id: int, if_match: Versions) -> None:
    await _matching(db, id, if_match)
    tree = await trees.below(db, id)
    await db.store(*(storage.delete(TASK, one["id"]) for one in reversed(tree)), all=True)


async def restore(db: OwnerDatabase, id: int, if_match: Versions = None) -> Task:
    """Take it out of the trash as it was, with what was deleted with it.

    If its parent or its list is in the trash, it becomes a task of level 1 in the Inbox.
    """
    return await db.locked(partial(_restore, id=id, if_match=if_match))


async def _restore(db: OwnerDatabase, id: int, if_match: Versions) -> Task:
    task = await _matching(db, id, if_match, GET_TRASHED)
    tree = await trees.below(db, id)
    stand = await trees.restored(
        db, Stand(task["list_id"], task["parent_id"], id, tree[-1]["level"])
    )
    fields = {"list_id": stand.list_id, "parent_id": stand.parent_id}
    along = [
        storage.restore(TASK, part["id"], fields={"list_id": stand.list_id}) for part in tree[1:]
    ]
    return written(await db.store(storage.restore(TASK, id, fields=fields), *along, all=True))


async def _matching(db: OwnerDatabase, id: int, if_match: Versions, sql: str = GET[int]) -> Row:
    """The task as it is stored, as `sql` finds it. PreconditionFailed if `if_match` does not let a
    write pass."""
    rows = await db.read(sql, id)
    if not rows:
        raise NotFound("Task not found")
    [task] = rows
    if not Revision(task["version"], task["updated_at"]).is_one_of(if_match):
        raise PreconditionFailed(shown({name: task[name] for name in TASK.names}))
    return task


def _seen(task: Row) -> list[list[int | None]]:
    return [[task["version"], storage.microseconds(task["updated_at"])]]


def _needs_other_time(fields: Mapping[str, Any]) -> bool:
    given = [name for name in ("start", "due") if name in fields]
    return len(given) == 1 and fields[given[0]] is not None


def _check_times(fields: Mapping[str, Any]) -> None:
    if wrong := wrong_times(fields):
        raise Invalid([Problem("due", wrong)])


def wrong_times(fields: Mapping[str, Any]) -> str:
    """What would be right, if the start and the due time of `fields` cannot be those of one task.
    Else nothing."""
    start, due = fields.get("start"), fields.get("due")
    if start is None or due is None:
        return ""
    if not times.are_of_one_kind(start, due):
        return "Due must be of the same kind as start"
    return "Due must not be before start" if times.is_before(due, start) else ""


def written(outcomes: list[Outcome]) -> Task:
    """The task of the first edit that was stored. Absent, deleted and another's are the same: not
    found."""
    status, task = outcomes[0]
    if task is None:
        raise NotFound("Task not found")
    if status == "stale":
        raise PreconditionFailed(shown(task))
    return shown(task)


def shown(task: Task) -> Task:
    """The task as a client reads it: its times in zones have the offsets of today's rules."""
    start, due = task["start"], task["due"]
    if start is None and due is None:
        return task
    again = {name: times.shown(time) for name, time in (("start", start), ("due", due)) if time}
    return {**task, **again}
