"""What can be done to a task. Every door comes through here.

Every read takes the owner as $1, names it in its where-clause, and sets it for row-level security in the same round
trip, in its `scope`. Writes are edits, which storage/ stores.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import changes
import storage
from changes import NOTHING_YET, Revision
from database import OwnerDatabase
from entities import TASK
from errors import NotFound, PreconditionFailed, UidInTrash
from postgres.pool import Row
from storage import Outcome, Versions

Filter = Literal["all", "pending", "completed"]
Task = dict[str, Any]

# Rows of one statement of a whole list: half a millisecond of the worker. 500 take 1.2 and double
# others' p99; 100 cost a sixth more in all (a list of 100,000: 280 ms instead of 240).
BATCH = 200
BATCH_POOLED = 1_000  # behind a pooler, across a network, where each takes four round trips

GET = f"""
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT {storage.columns(TASK)}
    FROM tasks
    WHERE user_id = scope.user_id AND id = $2 AND deleted_at IS NULL
    OFFSET 0
) AS task
"""  # noqa: S608  # of constants only


def _list(condition: str) -> str:
    """Of its rows, the first is the list's own: `version` and `updated_at` are those of the user's last change."""
    return f"""
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT {storage.placeholders(TASK, version="last.seq", updated_at="last.at")}
FROM scope LEFT JOIN LATERAL (
    SELECT seq, at
    FROM change_counters
    WHERE user_id = scope.user_id
    OFFSET 0
) AS last ON true
UNION ALL
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT {storage.columns(TASK)}
    FROM tasks
    WHERE user_id = scope.user_id AND deleted_at IS NULL {condition}AND (created_at, id) < ($3, $4)
    ORDER BY created_at DESC, id DESC
    LIMIT $2
) AS task
"""  # noqa: S608  # of constants only


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
    tasks: list[Row]


async def list_newest_first(
    db: OwnerDatabase, filter: Filter, limit: int, after: Position = NEWEST
) -> Listing:
    """At most `limit` tasks that come after `after`."""
    own, *found = await db.read(LIST[filter], limit, *after)
    return Listing(last_change(own), found)


async def list_all(
    db: OwnerDatabase, filter: Filter = "all", after: Position = NEWEST
) -> tuple[Listing, AsyncIterator[list[Row]] | None]:
    """All tasks that come after `after`: the first, and those after them if there are more than a batch.

    The latter come in batches, none of them empty, each read when it is asked for and as it then is. A task that is
    there all the time is in one of them: its place in the list never changes.
    """
    size = BATCH_POOLED if db.is_pooled else BATCH
    first = await list_newest_first(db, filter, size + 1, after)
    return first, _rest(db, filter, size, _place(first.tasks[-1])) if len(
        first.tasks
    ) > size else None


async def _rest(
    db: OwnerDatabase, filter: Filter, size: int, after: Position
) -> AsyncIterator[list[Row]]:
    is_full = True
    while is_full:
        _, batch = await list_newest_first(db, filter, size, after)
        is_full = len(batch) == size
        if batch:
            after = _place(batch[-1])
            yield batch


def _place(task: Row) -> Position:
    return Position(task["created_at"], task["id"])


def last_change(own: Row) -> Revision:
    """The user's, from a list's own row."""
    return Revision(own["version"], own["updated_at"]) if own["version"] else NOTHING_YET


async def get(db: OwnerDatabase, id: int) -> Row:
    rows = await db.read(GET, id)
    if not rows:
        raise NotFound("Task not found")
    return rows[0]


async def create(
    db: OwnerDatabase, fields: Mapping[str, Any], uid: UUID | None = None, if_match: Versions = None
) -> tuple[Task, bool]:
    """The task, and whether it is new: where there is one with this `uid`, that one is returned as it is.

    `if_match` is about the user's last change, which only a new task must not miss.
    """

    async def work(db: OwnerDatabase) -> Outcome:
        latest = NOTHING_YET if if_match is None else await changes.latest(db)
        [created] = await db.store(storage.create(TASK, fields, uid))
        if created.status == "done" and not latest.is_one_of(if_match):
            raise PreconditionFailed  # and nothing was created
        return created

    made = await (work(db) if if_match is None else db.locked(work))
    if made.status == "in_trash" or made.object is None:
        raise UidInTrash
    return made.object, made.status == "done"


async def update(
    db: OwnerDatabase, id: int, fields: Mapping[str, Any], if_match: Versions = None
) -> Task:
    """Set `fields`. It is a change, and `updated_at` moves, even where they are empty or what they were."""
    return written(await db.store(storage.update(TASK, id, fields, if_match)))


async def complete(
    db: OwnerDatabase, id: int, completed: bool | None = None, if_match: Versions = None
) -> Task:
    """Set `completed`, or toggle it where None is given. Setting what it already is changes nothing."""
    if completed is None:
        return written(await db.store(storage.toggle(TASK, id, if_match)))
    return written(
        await db.store(
            storage.update(TASK, id, {"completed": completed}, if_match, skips_same=True)
        )
    )


async def delete(db: OwnerDatabase, id: int, if_match: Versions = None) -> None:
    """Move it to the trash."""
    written(await db.store(storage.delete(TASK, id, if_match)))


async def restore(db: OwnerDatabase, id: int, if_match: Versions = None) -> Task:
    """Take it out of the trash, as it was."""
    return written(await db.store(storage.restore(TASK, id, if_match)))


def written(outcomes: list[Outcome]) -> Task:
    """The task of the one edit that was stored. Absent, deleted and another's are the same: not found."""
    [(status, task)] = outcomes
    if status == "stale":
        raise PreconditionFailed(task)
    if task is None:
        raise NotFound("Task not found")
    return task
