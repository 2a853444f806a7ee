"""What can be done to a list. Its tasks move to the trash and back with it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import changes
import ids
import order
import statements
import storage
import trees
from changes import NOTHING_YET, Revision
from database import OwnerDatabase
from entities import DELETED_AT, LIST, TASK
from errors import LimitReached, NotFound, PreconditionFailed, UidInTrash, UndoConflict
from ids import Name
from postgres.pool import Row
from rules import Place
from storage import Outcome, Versions

LISTS_MAX = 500  # that are not in the trash

List = Mapping[str, Any]

ALL = statements.listing(LIST, "deleted_at IS NULL", "position, id")
GET = {
    int: statements.objects(LIST, "id = $2 AND deleted_at IS NULL"),
    UUID: statements.objects(LIST, "uid = $2 AND deleted_at IS NULL"),
}
GET_TRASHED = statements.objects(LIST, "id = $2 AND deleted_at IS NOT NULL", DELETED_AT)

COUNT = statements.rows("lists", "count(*)", "deleted_at IS NULL")

# Tasks of the list $2 that were deleted at the time $3; if that is null, those that are not deleted.
TASKS = statements.rows(
    "tasks", "id, parent_id", "list_id = $2 AND deleted_at IS NOT DISTINCT FROM $3", order="id"
)


class Listing(NamedTuple):
    """All lists by position, and the user's last change."""

    revision: Revision
    lists: list[Row]


async def all(db: OwnerDatabase) -> Listing:
    own, *found = await db.read(ALL, LISTS_MAX)
    return Listing(changes.last(own), found)


async def get(db: OwnerDatabase, name: Name) -> List:
    rows = await db.read(GET[type(name)], name)
    if not rows:
        raise NotFound("List not found")
    return rows[0]


async def create(
    db: OwnerDatabase, fields: Mapping[str, Any], uid: UUID | None = None, if_match: Versions = None
) -> tuple[List, bool]:
    """The list, and whether it is new: where there is one with this `uid`, that one is returned as
    it is.

    `if_match` is about the user's last change, which only a new list must not miss.
    """

    async def work(db: OwnerDatabase) -> Outcome:
        latest = NOTHING_YET if if_match is None else await changes.latest(db)
        placed: Mapping[str, Any] = {}  # if it is there already, it stays as it is
        if not (uid and await ids.of(db, LIST, uid)):
            await require_room(db)
            placed = await _placed(db, fields)
        [created] = await db.store(storage.create(LIST, placed, uid))
        if created.status == "done" and not latest.is_one_of(if_match):
            raise PreconditionFailed  # and nothing was created
        return created

    made = await db.locked(work)
    if made.status == "in_trash" or made.object is None:
        raise UidInTrash(LIST.name)
    return made.object, made.status == "done"


async def update(
    db: OwnerDatabase, id: int, fields: Mapping[str, Any], if_match: Versions = None
) -> List:
    """Set `fields`. It is a change, and `updated_at` moves, even where they are empty or what they
    were."""

    async def move(db: OwnerDatabase) -> List:
        await _matching(db, id, if_match)
        placed = await _placed(db, fields, id)
        return _written(await db.store(storage.update(LIST, id, placed)))

    if isinstance(fields.get("position"), Place):
        return await db.locked(move)
    return _written(await db.store(storage.update(LIST, id, fields, if_match)))


async def delete(db: OwnerDatabase, id: int, if_match: Versions = None) -> None:
    """Move it to the trash, with its tasks."""
    [outcome] = await db.store(storage.delete(LIST, id, if_match))
    if outcome.status == "in_use":
        await db.locked(partial(_delete_with_tasks, id=id, if_match=if_match))
    else:
        _written([outcome])


async def _delete_with_tasks(db: OwnerDatabase, id: int, if_match: Versions) -> None:
    await _matching(db, id, if_match)
    levels = _levels(await db.read(TASKS, id, None))
    edits = [storage.delete(TASK, task) for level in reversed(levels) for task in reversed(level)]
    await db.store(*edits, storage.delete(LIST, id), all=True, rows=False)


async def restore(db: OwnerDatabase, id: int, if_match: Versions = None) -> List:
    """Take it out of the trash, with the tasks that were deleted with it."""
    return await db.locked(partial(_restore, id=id, if_match=if_match))


async def _restore(db: OwnerDatabase, id: int, if_match: Versions) -> List:
    trashed = await _matching(db, id, if_match, GET_TRASHED)
    await require_room(db)
    levels = _levels(await db.read(TASKS, id, trashed["deleted_at"]))
    if len(levels) > trees.LEVELS_MAX:
        raise UndoConflict([], trees.TOO_DEEP)
    # Those on the first level may have a parent that does not come back with them: it is in another
    # list by now, or in the trash.
    alone = {"parent_id": None}
    top = [storage.restore(TASK, task, fields=alone) for level in levels[:1] for task in level]
    below = [storage.restore(TASK, task) for level in levels[1:] for task in level]
    return _written(await db.store(storage.restore(LIST, id), *top, *below, all=True))


def _levels(tasks: list[Row]) -> list[list[int]]:
    """The ids of those whose parent is not among them, then of those right below them, and so on."""
    among = {task["id"] for task in tasks}
    children: dict[int | None, list[int]] = {}
    for task in tasks:
        parent = task["parent_id"] if task["parent_id"] in among else None
        children.setdefault(parent, []).append(task["id"])
    levels = [children.get(None, [])]
    while levels[-1]:
        below = [child for parent in levels[-1] for child in children.get(parent, [])]
        levels.append(sorted(below))
    return levels[:-1]


async def require_room(db: OwnerDatabase, more: int = 1) -> None:
    """LimitReached if there are too many lists for `more`."""
    if (await db.read(COUNT))[0]["count"] + more > LISTS_MAX:
        raise LimitReached(f"There can be at most {LISTS_MAX} lists; delete one first")


async def _placed(db: OwnerDatabase, fields: Mapping[str, Any], id: int = 0) -> Mapping[str, Any]:
    place = fields.get("position")
    if not isinstance(place, Place):
        return fields
    return {**fields, "position": await order.key(db, LIST, place, id)}


async def _matching(db: OwnerDatabase, id: int, if_match: Versions, sql: str = GET[int]) -> Row:
    """The list, as `sql` finds it. PreconditionFailed if `if_match` does not let a write pass."""
    rows = await db.read(sql, id)
    if not rows:
        raise NotFound("List not found")
    [found] = rows
    if not Revision(found["version"], found["updated_at"]).is_one_of(if_match):
        raise PreconditionFailed({name: found[name] for name in LIST.names}, LIST.name)
    return found


def _written(outcomes: list[Outcome]) -> List:
    """The list of the first edit. Absent, deleted and another's are the same: not found."""
    status, found = outcomes[0]
    if found is None:
        raise NotFound("List not found")
    if status == "stale":
        raise PreconditionFailed(found, LIST.name)
    return found
