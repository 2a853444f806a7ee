"""Where a task stands: in which list, below which task, and what stands below it.

What is read here is true for as long as the user's lock is held: call these in
`OwnerDatabase.locked`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ids
import order
import statements
from database import OwnerDatabase
from entities import LIST, TASK
from errors import Invalid, Problem, UndoConflict
from postgres.pool import Row
from rules import Place
from statements import SCOPE

LEVELS_MAX = 5  # a task without a parent is on level 1
TOO_DEEP = f"Subtasks must not be nested deeper than {LEVELS_MAX} levels"

# From the top down. Of a task in the trash: what was deleted with it, which has the same time.

BELOW = f"""
WITH RECURSIVE {SCOPE}, tree AS (
    SELECT task.*, 1 AS level FROM scope CROSS JOIN LATERAL (
        SELECT id, list_id, deleted_at FROM tasks WHERE user_id = scope.user_id AND id = $2 OFFSET 0
    ) AS task
    UNION ALL
    SELECT task.id, task.list_id, task.deleted_at, tree.level + 1
    FROM tree JOIN tasks AS task ON task.user_id = $1 AND task.parent_id = tree.id
        AND task.deleted_at IS NOT DISTINCT FROM tree.deleted_at
)
SELECT id, list_id, level FROM tree ORDER BY level, id
"""  # noqa: S608  # of constants only

# A task that is not in the trash, and all above it.

ABOVE = f"""
WITH RECURSIVE {SCOPE}, above AS (
    SELECT task.* FROM scope CROSS JOIN LATERAL (
        SELECT id, list_id, parent_id FROM tasks
        WHERE user_id = scope.user_id AND id = $2 AND deleted_at IS NULL
        OFFSET 0
    ) AS task
    UNION ALL
    SELECT task.id, task.list_id, task.parent_id
    FROM above JOIN tasks AS task ON task.user_id = $1 AND task.id = above.parent_id
)
SELECT id, list_id FROM above
"""  # noqa: S608  # of constants only

LIST_IS_THERE = statements.objects(LIST, "id = $2 AND deleted_at IS NULL")

STANDING = "id, parent_id, list_id, deleted_at IS NULL AS is_there"
THESE = statements.rows("tasks", STANDING, "id IN (SELECT unnest($2::text::bigint[]))")
CHILDREN = statements.rows(
    "tasks",
    STANDING,
    "parent_id IN (SELECT unnest($2::text::bigint[])) AND deleted_at IS NULL",
)


class Stand(NamedTuple):
    """Where a task stands, and how many levels it is with what is below it."""

    list_id: int | None = None
    parent_id: int | None = None
    id: int = 0
    height: int = 1


NOWHERE = Stand()  # of a task that is yet to be made


def moves(fields: Mapping[str, Any]) -> bool:
    """Whether `fields` say where a task is to stand, so that others must be read first."""
    place = isinstance(fields.get("position"), Place)
    return place or "parent_id" in fields or "list_id" in fields


async def below(db: OwnerDatabase, id: int) -> list[Row]:
    """The task and all below it, from the top down."""
    return await db.read(BELOW, id)


async def list_is_there(db: OwnerDatabase, id: int) -> bool:
    return bool(await db.read(LIST_IS_THERE, id))


async def are_sound(db: OwnerDatabase, task_ids: Iterable[int]) -> bool:
    """Whether these tasks, and all below them, stand as tasks must.

    They are at most 5 levels deep, and all above them are there and in the same list. No task is
    below itself, not even in the trash.
    """
    found = await _read(db, THESE, task_ids)
    level = [id for id, task in found.items() if task["is_there"]]
    for _ in range(LEVELS_MAX):
        children = await _read(db, CHILDREN, level)
        level = [id for id in children if id not in found]
        found |= children
    while above := {task["parent_id"] for task in found.values()} - {None, *found}:
        found |= await _read(db, THESE, above)
    return not level and all(_is_sound(task, found) for task in found.values())


async def _read(db: OwnerDatabase, sql: str, task_ids: Iterable[int]) -> dict[int, Row]:
    """The tasks by their ids."""
    wanted = list(task_ids)
    if not wanted:
        return {}
    return {task["id"]: task for task in await db.read(sql, statements.array(wanted))}


def _is_sound(task: Row, found: Mapping[int, Row]) -> bool:
    above = [task]
    while above[-1]["parent_id"] is not None:
        above.append(found[above[-1]["parent_id"]])
        if len(above) > len(found):  # it or one above it is below itself
            return False
    if not task["is_there"]:
        return True
    return len(above) <= LEVELS_MAX and all(
        one["is_there"] and one["list_id"] == task["list_id"] for one in above
    )


async def placed(
    db: OwnerDatabase, fields: Mapping[str, Any], stand: Stand = NOWHERE
) -> dict[str, Any]:
    """`fields` as they are stored: ids for uids, the parent's list, and a key for the place among
    siblings.

    `stand` is where the task stands now. Invalid if it cannot stand where `fields` say.
    """
    wanted = dict(fields)
    if "list_id" in fields:
        wanted["list_id"] = await _list(db, fields["list_id"])
        wanted.setdefault("parent_id", None)
    if wanted.get("parent_id") is not None:
        wanted["parent_id"], wanted["list_id"] = await _parent(db, wanted["parent_id"], stand)
    if isinstance(wanted.get("position"), Place):
        list_id = wanted.get("list_id", stand.list_id)
        parent_id = wanted.get("parent_id", stand.parent_id)
        wanted["position"] = await order.key(
            db, TASK, wanted["position"], stand.id, list_id, parent_id
        )
    return wanted


async def restored(db: OwnerDatabase, stand: Stand) -> Stand:
    """Where a task out of the trash can stand: where it stood, or on level 1 of the Inbox.
    UndoConflict if too deep."""
    above = await db.read(ABOVE, stand.parent_id) if stand.parent_id else []
    if len(above) + stand.height > LEVELS_MAX:
        raise UndoConflict([], TOO_DEEP)
    if above:
        return stand._replace(list_id=above[0]["list_id"])
    is_there = stand.list_id is None or await list_is_there(db, stand.list_id)
    if stand.parent_id is None and is_there:
        return stand
    return stand._replace(list_id=None, parent_id=None)


async def _list(db: OwnerDatabase, name: ids.Name | None) -> int | None:
    if name is None:
        return None
    id = await ids.of(db, LIST, name)
    if not await list_is_there(db, id):
        raise _invalid("list_id", "List does not exist")
    return id


async def _parent(db: OwnerDatabase, name: ids.Name, stand: Stand) -> tuple[int, int | None]:
    """The parent's id and its list's."""
    above = await db.read(ABOVE, await ids.of(db, TASK, name))
    if not above:
        raise _invalid("parent_id", "Parent does not exist")
    if any(task["id"] == stand.id for task in above):
        raise _invalid("parent_id", "A task cannot be below itself")
    if len(above) + stand.height > LEVELS_MAX:
        raise _invalid("parent_id", TOO_DEEP)
    return above[0]["id"], above[0]["list_id"]


def _invalid(field: str, sentence: str) -> Invalid:
    return Invalid([Problem(field, sentence)])
