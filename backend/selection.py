"""Tasks that a query selects, in the order that is asked for, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import ids
import lists
import statements
from database import OwnerDatabase
from entities import TASK
from query import reader, sql
from query.arguments import Arguments
from query.reader import Reader
from query.sorting import Key, Order
from query.tree import Node
from tasks import Task, shown


class Wanted(NamedTuple):
    """Which tasks, in which order, read by whom."""

    query: Node
    sort: tuple[Key, ...]
    zone: ZoneInfo
    now: datetime


class Page(NamedTuple):
    tasks: list[Task]
    end: str | None  # the place of the last one; None if no others come after it


async def page(db: OwnerDatabase, wanted: Wanted, limit: int, after: str | None = None) -> Page:
    """At most `limit` tasks that come after the place `after`."""
    arguments = Arguments(first=3)  # after the owner and the limit
    order = Order(wanted.sort, wanted.zone, arguments)
    condition = sql.condition(wanted.query, await _reader(db, wanted), arguments)
    if after is not None:
        condition = f"{condition} AND {order.after(after)}"
    rows = await db.read_once(_statement(order, condition), limit + 1, *arguments.values)
    found = [shown({name: row[name] for name in TASK.names}) for row in rows[:limit]]
    return Page(found, rows[limit - 1]["place"] if len(rows) > limit else None)


def _statement(order: Order, condition: str) -> str:
    """First where the page's tasks are, then what they have: sorting whole rows takes twice the
    time."""
    return f"""
WITH {statements.SCOPE}
SELECT task.*, {order.place} AS place
FROM scope CROSS JOIN LATERAL (
    SELECT id, {order.columns}
    FROM tasks
    WHERE user_id = scope.user_id AND deleted_at IS NULL AND {condition}
    ORDER BY {order.by}
    LIMIT $2
) AS page CROSS JOIN LATERAL (
    SELECT {statements.columns(TASK)}
    FROM tasks
    WHERE user_id = scope.user_id AND id = page.id
    OFFSET 0
) AS task
"""  # noqa: S608  # values are arguments


async def _reader(db: OwnerDatabase, wanted: Wanted) -> Reader:
    """With the names of lists and the ids of parents, if the query needs them."""
    known: tuple[tuple[int, str], ...] = ()
    if reader.names_lists(wanted.query):
        known = tuple((one["id"], one["name"]) for one in (await lists.all(db)).lists)
    parents: Mapping[UUID, int] = {
        uid: await ids.of(db, TASK, uid) for uid in reader.parents_named(wanted.query)
    }
    return Reader(wanted.zone, wanted.now, known, parents)
