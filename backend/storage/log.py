"""The change log, as the writer's SQL adds to it: the next number, and the row that says what
differs."""

from __future__ import annotations

from entities import Column, Entity

NEXT_CHANGE = """\
IF v_seq IS NULL THEN
    UPDATE change_counters AS c
    SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
    WHERE user_id = p_user_id
    RETURNING c.seq, c.at INTO v_seq, v_at;
    IF NOT FOUND THEN
        INSERT INTO change_counters AS c (user_id, seq, at)
        VALUES (p_user_id, 1, clock_timestamp())
        RETURNING c.seq, c.at INTO v_seq, v_at;
    END IF;
    v_first := coalesce(v_first, v_seq);
    v_began := coalesce(v_began, v_at);
ELSE
    v_seq := v_seq + 1;
    v_at := greatest(clock_timestamp(), v_at + interval '1 microsecond');
END IF;
"""


def log(entity: Entity, id: str, op: str, fields: str) -> str:
    """A group ends in the number of its first change, so that the log's key finds it: an index
    costs a tenth."""
    return f"""\
INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
VALUES (
    p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, (p_group || lpad(to_hex(v_first), 12, '0'))::uuid,
    '{entity.name}', {id}, {op}, {fields}
);
"""  # noqa: S608  # of constants only


def logged(record: str, column: Column) -> str:
    """A column's value as the log holds it."""
    value = f"{record}.{column.name}"
    return _in_utc(value) if column.type == "timestamptz" else value


def _in_utc(value: str) -> str:
    return f"to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
