"""The change log: every committed change of a user's data, numbered in order. Only operations write it.

A user's changes are numbered from 1 without gaps, in the order in which they were committed: the number comes from the
user's own row of `change_counters`. Whoever writes first takes the user's lock, until the writing transaction ends, so
that two writers of one user never wait for each other crosswise, and what they read before they write cannot change
under them. A write that is refused takes no number, and writes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from database import OwnerDatabase
from errors import CursorExpired
from pool import Row

Change = dict[str, Any]


class Revision(NamedTuple):
    """A change of a user: its number, and when it was made.

    The number alone is not enough: after a restore from a backup, or with a fresh database, the same numbers come
    again for other changes. The times do not.
    """

    number: int
    at: datetime


NOTHING_YET = Revision(0, datetime(1970, 1, 1, tzinfo=UTC))

LATEST = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT latest.seq, latest.at FROM scope CROSS JOIN LATERAL (
    SELECT seq, at
    FROM change_counters
    WHERE user_id = scope.user_id
    OFFSET 0
) AS latest
"""

# The first row is the user's last change, by its number alone: whoever asks for what came after it is told if there is
# no such place. A second statement could meet a change that was made in between.

SINCE = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT (SELECT seq FROM change_counters WHERE user_id = scope.user_id) AS seq, NULL::timestamptz AS at,
       NULL AS actor_kind, NULL AS actor_id, NULL AS group_id, NULL AS entity, NULL::bigint AS entity_id, NULL AS op,
       NULL::jsonb AS fields
FROM scope
UNION ALL
SELECT change.* FROM scope CROSS JOIN LATERAL (
    SELECT seq, at, actor_kind, actor_id, group_id::text, entity, entity_id, op, fields
    FROM changes
    WHERE user_id = scope.user_id AND seq > $2
    ORDER BY seq
    LIMIT $3
) AS change
"""

# What every function that writes begins with, and does for each change. These are statements and no functions: called
# as functions they cost 15 µs of a write's 180 in the database.

BEGIN_WRITE = """\
    PERFORM set_config('app.user_id', p_user_id, true), pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
"""

NEXT_CHANGE = """\
        UPDATE change_counters AS c
        SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
        WHERE user_id = p_user_id
        RETURNING c.seq, c.at INTO v_seq, v_at;
        IF NOT FOUND THEN
            INSERT INTO change_counters AS c (user_id, seq, at)
            VALUES (p_user_id, 1, clock_timestamp())
            RETURNING c.seq, c.at INTO v_seq, v_at;
        END IF;
"""


async def latest(db: OwnerDatabase) -> Revision:
    """The user's last change."""
    rows = await db.read(LATEST)
    return Revision(rows[0]["seq"], rows[0]["at"]) if rows else NOTHING_YET


async def since(db: OwnerDatabase, seq: int, limit: int) -> list[Change]:
    """At most `limit` changes after the one numbered `seq`, oldest first. CursorExpired if there is no such number."""
    last, *found = await db.read(SINCE, seq, limit)
    if seq > (last["seq"] or 0):
        raise CursorExpired(seq, last["seq"] or 0)
    return [from_row(row) for row in found]


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
