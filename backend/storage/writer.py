"""The SQL function `store`, generated from entities.py: edits in, outcomes out.

Under the user's lock it takes the next numbers of the user's change log, writes the rows, and records what differs.
"""

from __future__ import annotations

from textwrap import indent

from entities import DELETED_AT, ENTITIES, KEPT_BY_WRITER, Column, Entity
from storage.function import Function


def _in_utc(value: str) -> str:
    """A time as the log holds it."""
    return f"to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"


def _logged(record: str, column: Column) -> str:
    value = f"{record}.{column.name}"
    return _in_utc(value) if column.type == "timestamptz" else value


# The user's lock holds until the commit, so commit order is the order of the numbers. An advisory
# lock costs less than one of the counter's row.

BEGIN = """\
PERFORM set_config('app.user_id', p_user_id, true), pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
"""

NEXT_CHANGE = """\
IF v_seq IS NULL THEN
    UPDATE change_counters AS c
    SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
    WHERE user_id = p_user_id
    RETURNING c.seq, c.seq, c.at INTO v_first, v_seq, v_at;
    IF NOT FOUND THEN
        INSERT INTO change_counters AS c (user_id, seq, at)
        VALUES (p_user_id, 1, clock_timestamp())
        RETURNING c.seq, c.seq, c.at INTO v_first, v_seq, v_at;
    END IF;
ELSE
    v_seq := v_seq + 1;
    v_at := greatest(clock_timestamp(), v_at + interval '1 microsecond');
END IF;
"""

END = """\
IF v_seq > v_first THEN
    UPDATE change_counters AS c SET seq = v_seq, at = v_at WHERE user_id = p_user_id;
END IF;
"""


def _log(entity: Entity, id: str, op: str, fields: str) -> str:
    """A group ends in the number of its first change, so that the log's key finds it: an index costs a tenth."""
    return f"""\
INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
VALUES (
    p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, (p_group || lpad(to_hex(v_first), 12, '0'))::uuid,
    '{entity.name}', {id}, {op}, {fields}
);
"""  # noqa: S608  # of constants only


def _create(entity: Entity) -> str:
    now, table = entity.name, entity.table
    defaults = "".join(
        f"{now}.{column.name} := coalesce({now}.{column.name}, {column.default});\n"
        for column in entity.own
        if column.default
    )
    stamps = "".join(
        f"IF {now}.{column.since} THEN\n    {now}.{column.name} := v_at;\nEND IF;\n"
        for column in entity.own
        if column.since
    )
    own = [column.name for column in entity.own]
    created = ",\n    ".join(
        f"'{column.name}', CASE WHEN {now}.{column.name} IS NOT NULL "
        f"THEN jsonb_build_array(NULL, {_logged(now, column)}) END"
        for column in entity.logged
        if column.name != "deleted_at"
    )
    fields = f"jsonb_strip_nulls(jsonb_build_object(\n    {created}\n))"
    return f"""\
IF e_uid IS NOT NULL THEN
    SELECT * INTO {now} FROM {table} AS t WHERE user_id = p_user_id AND t.uid = e_uid;
END IF;
IF {now}.id IS NULL THEN
    outcome := 'done';
{indent(NEXT_CHANGE, "    ")}\
    {now} := jsonb_populate_record(NULL::{table}, e_set);
{indent(defaults + stamps, "    ")}\
    INSERT INTO {table} (user_id, uid, version, created_at, updated_at, {", ".join(own)})
    VALUES (
        p_user_id, coalesce(e_uid, gen_random_uuid()), v_seq, v_at, v_at,
        {", ".join(f"{now}.{name}" for name in own)}
    )
    RETURNING * INTO {now};
{indent(_log(entity, f"{now}.id", "'create'", fields), "    ")}\
ELSIF {now}.deleted_at IS NULL THEN
    outcome := 'exists';
ELSE
    outcome := 'in_trash';
END IF;
"""  # noqa: S608  # of constants only


# No text of what is deleted for good stays: not in the log, and not in an answer that is kept for a
# retry. An answer that does not say what it shows was kept by a server of before migration 0005: it
# may show anything.


def _purge(entity: Entity) -> str:
    return f"""\
{NEXT_CHANGE}\
DELETE FROM {entity.table} AS t WHERE user_id = p_user_id AND t.id = was.id;
UPDATE changes AS c SET fields = '{{}}'
WHERE user_id = p_user_id AND c.entity_id = was.id AND c.entity = '{entity.name}';
UPDATE idempotency_keys AS k SET body = NULL
WHERE user_id = p_user_id AND k.entity_id = was.id;
UPDATE idempotency_keys AS k SET body = NULL
WHERE user_id = p_user_id AND k.entity_id IS NULL AND (k.shows IS NULL OR was.id = ANY (k.shows));
{_log(entity, "was.id", "'purge'", "'{}'")}\
"""  # noqa: S608  # of constants only


def _changeable(entity: Entity) -> list[Column]:
    """The columns that an UPDATE sets. Others stay what they are, whatever an edit says."""
    return [
        column for column in entity.columns if column not in KEPT_BY_WRITER or column is DELETED_AT
    ]


def _difference(entity: Entity, column: Column) -> str:
    now = entity.name
    return f"'{column.name}', jsonb_build_array({_logged('was', column)}, {_logged(now, column)})"


def _stamps(entity: Entity) -> str:
    return "".join(
        f"""\
IF NOT {entity.name}.{column.since} THEN
    {entity.name}.{column.name} := NULL;
ELSIF {entity.name}.{column.name} IS NULL THEN
    {entity.name}.{column.name} := v_at;
END IF;
"""
        for column in _changeable(entity)
        if column.since
    )


def _update(entity: Entity) -> str:
    """Field by field: one expression for all differences costs more, because each transaction prepares it again."""
    differences = "".join(
        f"""\
IF {entity.name}.{column.name} IS DISTINCT FROM was.{column.name} THEN
    v_fields := v_fields || jsonb_build_object({_difference(entity, column)});
END IF;
"""
        for column in _changeable(entity)
        if column.logged
    )
    return f"""\
{_stamps(entity)}\
v_fields := '{{}}';
{differences}\
IF (was.deleted_at IS NULL) <> ({entity.name}.deleted_at IS NULL) THEN
    v_op := CASE WHEN was.deleted_at IS NULL THEN 'delete' ELSE 'restore' END;
END IF;
"""


def _toggle(entity: Entity) -> str:
    if not entity.toggles:
        return ""
    changed = [column for column in entity.own if entity.toggles in (column.name, column.since)]
    return f"""\
ELSIF e_op = 'toggle' THEN
    {entity.name}.{entity.toggles} := NOT was.{entity.toggles};
{indent(_stamps(entity), "    ")}\
    v_fields := jsonb_build_object(
        {f",{chr(10)}        ".join(_difference(entity, column) for column in changed)}
    );
"""


def _change(entity: Entity) -> str:
    now, table = entity.name, entity.table
    return f"""\
outcome := 'done';
{NEXT_CHANGE}\
IF e_op = 'update' THEN
{indent(_update(entity), "    ")}\
{_toggle(entity)}\
ELSE
    {now}.deleted_at := CASE WHEN e_op = 'delete' THEN v_at END;
    v_fields := jsonb_build_object({_difference(entity, DELETED_AT)});
    v_op := e_op;
END IF;
UPDATE {table} AS t SET
    {", ".join(f"{column.name} = {now}.{column.name}" for column in _changeable(entity))},
    version = v_seq, updated_at = v_at
WHERE user_id = p_user_id AND t.id = was.id AND t.version = was.version
RETURNING * INTO {now};
IF NOT FOUND THEN  -- written by a function of before migration 0004, which takes no lock
    RAISE serialization_failure;
END IF;
{_log(entity, "was.id", "coalesce(v_op, 'update')", "v_fields")}\
"""  # noqa: S608  # of constants only


def _edit(entity: Entity) -> str:
    now = entity.name
    return f"""\
IF e_entity = '{entity.name}' THEN
    DECLARE
        was {entity.table};
        {now} {entity.table};
        v_op text;
        v_fields jsonb;
    BEGIN
        IF e_op = 'create' THEN
{indent(_create(entity), " " * 12)}\
        ELSE
            SELECT * INTO was FROM {entity.table} AS t WHERE user_id = p_user_id AND t.id = e_id;
            {now} := was;
            IF was.id IS NULL OR (was.deleted_at IS NOT NULL) <> e_in_trash
               OR was.updated_at >= e_untouched_since THEN
                outcome := 'absent';
                {now} := NULL;
            ELSIF e_if_match IS NOT NULL AND NOT EXISTS (
                SELECT FROM jsonb_array_elements(e_if_match) AS pair
                WHERE (pair ->> 0)::bigint = was.version AND coalesce(
                    (pair ->> 1)::bigint = (extract(epoch FROM was.updated_at) * 1000000)::bigint, true
                )
            ) THEN
                outcome := 'stale';
            ELSIF e_op = 'purge' THEN
                outcome := 'done';
{indent(_purge(entity), " " * 16)}\
                {now} := NULL;
            ELSE
                IF e_op = 'update' THEN
                    {now} := jsonb_populate_record(was, e_set);
                END IF;
                IF e_skips_same AND {now} IS NOT DISTINCT FROM was AND (
                    e_op = 'update' OR was.deleted_at IS NOT NULL
                ) THEN
                    outcome := 'same';
                ELSE
{indent(_change(entity), " " * 20)}\
                END IF;
            END IF;
        END IF;
        item := CASE WHEN p_rows AND {now}.id IS NOT NULL THEN row_to_json({now}) END;
    END;
END IF;
"""  # noqa: S608  # of constants only


# The parts of an edit. Each has a variable of its own: fields of one record cost a sixth of a
# creation more.
_PARTS = {
    "entity": "text",
    "op": "text",
    "id": "bigint",
    "uid": "uuid",
    "set": "jsonb",
    "if_match": "jsonb",
    "in_trash": "boolean",
    "skips_same": "boolean",
    "untouched_since": "timestamptz",
}
_DECLARED = "".join(f"    e_{name} {type};\n" for name, type in _PARTS.items())

TEXT = f"""\
CREATE FUNCTION store(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group text, p_edits jsonb, p_all boolean, p_rows boolean
)
RETURNS TABLE (outcome text, item json) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
{_DECLARED}\
    v_seq bigint;
    v_first bigint;
    v_at timestamptz;
BEGIN
{indent(BEGIN, "    ")}\
    FOR {", ".join(f"e_{name}" for name in _PARTS)} IN
        SELECT e.* FROM jsonb_to_recordset(p_edits) AS e({", ".join(f"{name} {type}" for name, type in _PARTS.items())})
    LOOP
{"".join(indent(_edit(entity), " " * 8) for entity in ENTITIES)}\
        IF p_all AND outcome IN ('absent', 'stale', 'in_trash') THEN
            RAISE serialization_failure;
        END IF;
        RETURN NEXT;
    END LOOP;
{indent(END, "    ")}\
END $$
"""  # noqa: S608  # of constants only

STORE = Function.of("store", TEXT)
CALL = f"SELECT outcome, item FROM {STORE.name}($1, $2, $3, $4, $5, $6, $7)"  # noqa: S608  # a constant
