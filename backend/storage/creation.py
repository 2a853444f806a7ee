"""The writer's SQL of a creation."""

from __future__ import annotations

from textwrap import indent

from entities import DELETED_AT, Column, Entity
from storage.log import NEXT_CHANGE, log, logged
from storage.references import found_by_its_index, refuse_dangling


def create(entity: Entity) -> str:
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
    return f"""\
IF e_uid IS NOT NULL THEN
    SELECT * INTO {now} FROM {table} AS t
    WHERE user_id = p_user_id AND {found_by_its_index("uid", "e_uid")}
    ORDER BY t.uid LIMIT 1;
END IF;
IF {now}.id IS NOT NULL THEN
    outcome := CASE WHEN {now}.deleted_at IS NULL THEN 'exists' ELSE 'in_trash' END;
ELSE
    outcome := 'done';
    {now} := jsonb_populate_record(NULL::{table}, e_set);
{indent(refuse_dangling(entity), "    ")}\
    IF outcome = 'dangling' THEN
        {now} := NULL;
    ELSE
{indent(NEXT_CHANGE, "        ")}\
{indent(defaults + stamps, "        ")}\
        INSERT INTO {table} (user_id, uid, version, created_at, updated_at, {", ".join(own)})
        VALUES (
            p_user_id, coalesce(e_uid, gen_random_uuid()), v_seq, v_at, v_at,
            {", ".join(f"{now}.{name}" for name in own)}
        )
        RETURNING * INTO {now};
{indent(log(entity, f"{now}.id", "'create'", _created(entity)), "        ")}\
    END IF;
END IF;
"""  # noqa: S608  # of constants only


# What a creation sets is logged as it was sent, which Python can say for less. The rest is known
# here alone.


def _created(entity: Entity) -> str:
    given = {*entity.logged_as_sent, DELETED_AT.name}
    made = [column for column in entity.logged if column.name not in given]
    always = ", ".join(_first(entity, column) for column in made if not column.since)
    stamps = "".join(
        f" || CASE WHEN {entity.name}.{column.since} "
        f"THEN jsonb_build_object({_first(entity, column)}) ELSE '{{}}' END"
        for column in made
        if column.since
    )
    return f"coalesce(e_log, '{{}}') || jsonb_build_object({always}){stamps}"


def _first(entity: Entity, column: Column) -> str:
    return f"'{column.name}', jsonb_build_array(NULL, {logged(entity.name, column)})"
