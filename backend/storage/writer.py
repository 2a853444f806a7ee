"""The SQL function `store`, generated from entities.py: edits in, outcomes out.

Under the user's lock it takes the next numbers of the user's change log, writes the rows, and
records what differs.
"""

from __future__ import annotations

from textwrap import indent

from entities import ENTITIES, Entity
from storage.change import change, wanted
from storage.creation import create
from storage.function import Function
from storage.purge import purge
from storage.references import refuse_what_breaks

# The user's lock holds until the commit, so commit order is the order of the numbers. An advisory
# lock costs less than one of the counter's row.

BEGIN = """\
PERFORM set_config('app.user_id', p_user_id, true), pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
"""

# A call may be one part of what is done together, in one transaction with the parts before it: it
# goes on with their group. The setting says where that began.

GO_ON = """\
IF p_is_part AND split_part(current_setting('app.part', true), '|', 1) = p_group THEN
    v_first := split_part(current_setting('app.part'), '|', 2);
    v_began := split_part(current_setting('app.part'), '|', 3);
END IF;
"""

END = """\
IF v_seq > v_first THEN
    UPDATE change_counters AS c SET seq = v_seq, at = v_at WHERE user_id = p_user_id;
END IF;
IF p_is_part THEN
    PERFORM set_config('app.part', concat_ws('|', p_group, v_first, v_began), true);
END IF;
"""


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
{indent(create(entity), " " * 12)}\
        ELSE
{indent(_edit_existing(entity), " " * 12)}\
        END IF;
        item := CASE WHEN p_rows AND {now}.id IS NOT NULL THEN row_to_json({now}) END;
    END;
END IF;
"""  # of constants only


def _edit_existing(entity: Entity) -> str:
    now = entity.name
    return f"""\
outcome := 'done';
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
{indent(purge(entity), "    ")}\
ELSE
{indent(wanted(entity), "    ")}\
    IF e_skips_same AND {now} IS NOT DISTINCT FROM was THEN
        outcome := 'same';
    ELSIF e_op <> 'toggle' THEN
{indent(refuse_what_breaks(entity), " " * 8)}\
    END IF;
    IF outcome = 'done' THEN
{indent(change(entity), " " * 8)}\
    ELSE
        {now} := was;
    END IF;
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
    "log": "jsonb",
    "if_match": "jsonb",
    "in_trash": "boolean",
    "skips_same": "boolean",
    "untouched_since": "timestamptz",
}
_DECLARED = "".join(f"    e_{name} {type};\n" for name, type in _PARTS.items())

TEXT = f"""\
CREATE FUNCTION store(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group text, p_edits jsonb, p_all boolean, p_rows boolean,
    p_is_part boolean DEFAULT false
)
RETURNS TABLE (outcome text, item json) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
{_DECLARED}\
    v_seq bigint;
    v_first bigint;
    v_at timestamptz;
    v_began timestamptz;
BEGIN
{indent(BEGIN + GO_ON, "    ")}\
    FOR {", ".join(f"e_{name}" for name in _PARTS)} IN
        SELECT e.* FROM jsonb_to_recordset(p_edits) AS e({", ".join(f"{name} {type}" for name, type in _PARTS.items())})
    LOOP
{"".join(indent(_edit(entity), " " * 8) for entity in ENTITIES)}\
        IF p_all AND outcome IN ('absent', 'stale', 'in_trash', 'dangling', 'in_use') THEN
            RAISE serialization_failure;
        END IF;
        RETURN NEXT;
    END LOOP;
{indent(END, "    ")}\
END $$
"""  # noqa: S608  # of constants only

STORE = Function.of("store", TEXT)
CALL = f"SELECT outcome, item FROM {STORE.name}($1, $2, $3, $4, $5, $6, $7)"  # noqa: S608  # a constant
CALL_PART = CALL.replace("$7)", "$7, true)")
