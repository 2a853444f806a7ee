"""Order: the key that puts something first, last, or beside one of its siblings. Nothing else is
renumbered."""

from __future__ import annotations

from typing import Any

import ids
import positions
from database import OwnerDatabase
from entities import LIST, TASK, Entity
from errors import Invalid, PositionExhausted, Problem
from postgres.pool import Row
from rules import Place
from statements import SCOPE

# Siblings of a task are in the same list and below the same task; all lists are siblings.
SIBLINGS = {
    LIST.name: "deleted_at IS NULL",
    TASK.name: "deleted_at IS NULL AND list_id IS NOT DISTINCT FROM $4 AND parent_id IS NOT DISTINCT FROM $5",
}

# The key of the sibling $3, the nearest keys around it, and those at both ends. $2, which is to be
# moved, does not count.

AROUND = {
    entity.name: f"""
WITH {SCOPE}
SELECT around.* FROM scope CROSS JOIN LATERAL (
    SELECT one.position AS own,
           min(other.position) AS first, max(other.position) AS last,
           max(other.position) FILTER (WHERE other.position < one.position) AS before,
           min(other.position) FILTER (WHERE other.position > one.position) AS after
    FROM (
        SELECT position FROM {entity.table} WHERE user_id = scope.user_id AND id <> $2 AND {SIBLINGS[entity.name]}
    ) AS other
    FULL JOIN (
        SELECT position FROM {entity.table} WHERE user_id = scope.user_id AND id = $3 AND {SIBLINGS[entity.name]}
    ) AS one ON true
    GROUP BY one.position
    OFFSET 0
) AS around
"""  # noqa: S608  # of constants only
    for entity in (LIST, TASK)
}

NOT_A_SIBLING = {
    LIST.name: "Position must name another list",
    TASK.name: "Position must name a task of the same list and parent",
}

NOBODY_AROUND = dict.fromkeys(("own", "first", "last", "before", "after"))


async def key(db: OwnerDatabase, entity: Entity, place: Place, id: int, *siblings_of: Any) -> str:
    """The key that puts the object `id` at `place`. Call it under the user's lock.

    `siblings_of`: the list and the parent of a task; nothing for a list. If several siblings share
    a key, it goes before or after all of them: there is no room between.
    """
    sibling = await ids.of(db, entity, place.sibling)
    rows = await db.read(AROUND[entity.name], id, sibling, *siblings_of)
    around = rows[0] if rows else NOBODY_AROUND
    if place.where in ("before", "after") and (around["own"] is None or sibling == id):
        raise Invalid([Problem("position", NOT_A_SIBLING[entity.name])])
    try:
        return positions.between(*_bounds(place, around))
    except positions.Exhausted:
        # Only a key that a client has made leaves no room before it.
        raise PositionExhausted("last" if place.where == "first" else "first") from None


def _bounds(place: Place, around: Row | dict[str, None]) -> tuple[str | None, str | None]:
    return {
        "first": (None, around["first"]),
        "last": (around["last"], None),
        "before": (around["before"], around["own"]),
        "after": (around["own"], around["after"]),
    }[place.where]
