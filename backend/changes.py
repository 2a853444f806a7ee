"""The change log: every committed change of a user's data, numbered in order. Only the writer
(storage/) adds to it.

A user's changes are numbered from 1 without gaps, in the order in which they were committed. A
write that is refused takes no number, and writes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

import statements
import storage
from database import OwnerDatabase
from errors import CursorExpired
from postgres.pool import Row
from statements import SCOPE
from storage import Versions

Change = dict[str, Any]


class Revision(NamedTuple):
    """A change of a user: its number, and when it was made.

    The number alone is not enough: after a restore from a backup, or with a fresh database, the
    same numbers come again for other changes. The times do not.
    """

    number: int
    at: datetime

    def is_one_of(self, versions: Versions) -> bool:
        """Whether an If-Match that names `versions` lets a write pass. None lets every write pass."""
        own = (self.number, storage.microseconds(self.at))
        return versions is None or any(
            tuple(pair) in (own, (self.number, None)) for pair in versions
        )


NOTHING_YET = Revision(0, datetime(1970, 1, 1, tzinfo=UTC))


def last(first_row: Row) -> Revision:
    """The user's last change, which the first row of a listing says (statements.py)."""
    if not first_row["version"]:
        return NOTHING_YET
    return Revision(first_row["version"], first_row["updated_at"])


CHANGE = "seq, at, actor_kind, actor_id, group_id::text, entity, entity_id, op, fields"

LATEST = statements.rows("change_counters", "seq, at")

# The first row is the user's last change, by its number alone: whoever asks for what came after it
# is told if there is no such place. A second statement could meet a change that was made in
# between.

SINCE = f"""
WITH {SCOPE}
SELECT (SELECT seq FROM change_counters WHERE user_id = scope.user_id) AS seq, NULL::timestamptz AS at,
       NULL AS actor_kind, NULL AS actor_id, NULL AS group_id, NULL AS entity, NULL::bigint AS entity_id, NULL AS op,
       NULL::jsonb AS fields
FROM scope
UNION ALL
SELECT change.* FROM scope CROSS JOIN LATERAL (
    SELECT {CHANGE}
    FROM changes
    WHERE user_id = scope.user_id AND seq > $2
    ORDER BY seq
    LIMIT $3
) AS change
"""  # noqa: S608  # of constants only

NUMBERED = statements.rows("changes", CHANGE, "seq = $2")

# The numbers of a group are consecutive, so that the log's key finds it: from its first number to
# the next one of another group.

WITHIN = f"""seq >= $3 AND group_id = $2
        AND seq < coalesce((
            SELECT seq FROM changes
            WHERE user_id = scope.user_id AND seq > $3 AND group_id <> $2 AND $3 > 0
            ORDER BY seq LIMIT 1
        ), {2**63 - 1})"""  # noqa: S608  # of constants only
GROUPED = statements.rows("changes", CHANGE, WITHIN, order="seq")


async def latest(db: OwnerDatabase) -> Revision:
    """The user's last change."""
    rows = await db.read(LATEST)
    return Revision(rows[0]["seq"], rows[0]["at"]) if rows else NOTHING_YET


async def since(db: OwnerDatabase, seq: int, limit: int) -> list[Change]:
    """At most `limit` changes after the one numbered `seq`, oldest first. CursorExpired if there is
    no such number."""
    last, *found = await db.read(SINCE, seq, limit)
    if seq > (last["seq"] or 0):
        raise CursorExpired(seq, last["seq"] or 0)
    return [from_row(row) for row in found]


async def numbered(db: OwnerDatabase, seq: int) -> list[Change]:
    """The change numbered `seq`, if it is in the log."""
    return [from_row(row) for row in await db.read(NUMBERED, seq)]


async def grouped(db: OwnerDatabase, group: UUID) -> list[Change]:
    """The changes of `group`, oldest first. A group of before migration 0005 does not say where it
    begins."""
    first = storage.first_of_group(group) or 0
    return [from_row(row) for row in await db.read(GROUPED, group, first)]


def from_row(row: Row) -> Change:
    return {
        "seq": row["seq"],
        "at": row["at"],
        "actor": {"kind": row["actor_kind"], "id": row["actor_id"]},
        "group": row["group_id"],
        "entity": row["entity"],
        "entity_id": row["entity_id"],
        "op": row["op"],
        "fields": orjson.loads(row["fields"]),
    }
