"""The change log: every committed change of a user's data, numbered in order. Only operations write it.

A user's changes are numbered from 1 without gaps, in the order in which they were committed: the number comes from the
user's own row of `change_counters`, locked by `next_change` until the writing transaction ends. Whoever writes takes
that lock first, so that two writers of one user never wait for each other crosswise, and what they read before they
write cannot change under them.
"""

from __future__ import annotations

from typing import Any

import orjson

from database import OwnerDatabase
from pool import Row

Change = dict[str, Any]

LATEST = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT latest.seq FROM scope CROSS JOIN LATERAL (
    SELECT seq
    FROM change_counters
    WHERE user_id = scope.user_id
    OFFSET 0
) AS latest
"""

SINCE = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT change.* FROM scope CROSS JOIN LATERAL (
    SELECT seq, at, actor_kind, actor_id, group_id::text, entity, entity_id, op, fields
    FROM changes
    WHERE user_id = scope.user_id AND seq > $2
    ORDER BY seq
    LIMIT $3
) AS change
"""

NEXT_CHANGE_FUNCTION = """
CREATE OR REPLACE FUNCTION next_change(p_user_id text, OUT seq bigint, OUT at timestamptz)
LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    FOR attempt IN 1..2 LOOP
        SELECT c.seq + 1, greatest(clock_timestamp(), c.at + interval '1 microsecond') INTO seq, at
        FROM change_counters AS c
        WHERE user_id = p_user_id
        FOR UPDATE;
        EXIT WHEN FOUND;
        -- A user's first: there is no row to lock yet, nor will there be one if this write is refused.
        PERFORM pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
        seq := 1;
        at := clock_timestamp();
    END LOOP;
END $$
"""

RECORD_CHANGE_FUNCTION = """
CREATE OR REPLACE FUNCTION record_change(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid, p_seq bigint, p_at timestamptz,
    p_entity text, p_entity_id bigint, p_op text, p_was jsonb, p_is jsonb
)
RETURNS void LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    UPDATE change_counters SET seq = p_seq, at = p_at WHERE user_id = p_user_id;
    IF NOT FOUND THEN
        INSERT INTO change_counters (user_id, seq, at) VALUES (p_user_id, p_seq, p_at);
    END IF;
    INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
    VALUES (p_user_id, p_seq, p_at, p_actor_kind, p_actor_id, p_group_id, p_entity, p_entity_id, p_op, (
        SELECT coalesce(jsonb_object_agg(name, jsonb_build_array(p_was -> name, p_is -> name)), '{}')
        FROM jsonb_object_keys(p_was || p_is) AS name
        WHERE coalesce(p_was -> name, 'null') <> coalesce(p_is -> name, 'null')
    ));
END $$
"""

# Installed by migrations, and a test compares. Change one, and add a migration that installs it again.
FUNCTIONS = (NEXT_CHANGE_FUNCTION, RECORD_CHANGE_FUNCTION)


async def latest(db: OwnerDatabase) -> int:
    """The number of the user's last change; 0 where there is none."""
    rows = await db.read(LATEST)
    return int(rows[0]["seq"]) if rows else 0


async def since(db: OwnerDatabase, seq: int, limit: int) -> list[Change]:
    """At most `limit` changes after the one numbered `seq`, oldest first."""
    return [from_row(row) for row in await db.read(SINCE, seq, limit)]


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
