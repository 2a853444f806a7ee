"""The writer's SQL of an update, a toggle, and the ways into the trash and out of it."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import indent

from entities import DELETED_AT, Column, Entity
from storage.log import NEXT_CHANGE, log, logged


def wanted(entity: Entity) -> str:
    """What an edit makes of the object. The time of a deletion comes with the number of its change."""
    now = entity.name
    return f"""\
IF e_op = 'update' THEN
    {now} := jsonb_populate_record(was, e_set);
ELSIF e_op = 'delete' THEN
    {now}.deleted_at := coalesce(was.deleted_at, 'infinity');
ELSIF e_op = 'restore' THEN
    {now}.deleted_at := NULL;
END IF;
"""


def change(entity: Entity) -> str:
    """The row as it is `wanted`, and what differs in the log.

    All deletions of a call have the time of its first change, so that what was deleted together can
    be found by it.
    """
    now = entity.name
    return f"""\
{NEXT_CHANGE}\
IF e_op = 'update' THEN
{indent(_update(entity), "    ")}\
{_toggle(entity)}\
ELSE
    {now}.deleted_at := CASE WHEN e_op = 'delete' THEN v_began END;
    v_fields := jsonb_build_object({_difference(entity, DELETED_AT)});
    v_op := e_op;
END IF;
{_written(entity)}\
IF NOT FOUND THEN  -- written by a function of before migration 0004, which takes no lock
    RAISE serialization_failure;
END IF;
{log(entity, "was.id", "coalesce(v_op, 'update')", "v_fields")}\
"""


def _update(entity: Entity) -> str:
    """Field by field: one expression for all differences costs more, because each transaction
    prepares it again."""
    differences = "".join(
        f"""\
IF {entity.name}.{column.name} IS DISTINCT FROM was.{column.name} THEN
    v_fields := v_fields || jsonb_build_object({_difference(entity, column)});
END IF;
"""
        for column in entity.changeable
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


def _stamps(entity: Entity) -> str:
    return "".join(
        f"""\
IF NOT {entity.name}.{column.since} THEN
    {entity.name}.{column.name} := NULL;
ELSIF {entity.name}.{column.name} IS NULL THEN
    {entity.name}.{column.name} := v_at;
END IF;
"""
        for column in entity.changeable
        if column.since
    )


def _toggle(entity: Entity) -> str:
    if not entity.toggles:
        return ""
    return f"""\
ELSIF e_op = 'toggle' THEN
    {entity.name}.{entity.toggles} := NOT was.{entity.toggles};
{indent(_stamps(entity), "    ")}\
    v_fields := jsonb_build_object(
        {f",{chr(10)}        ".join(_difference(entity, column) for column in _toggled(entity))}
    );
"""


def _difference(entity: Entity, column: Column) -> str:
    now = entity.name
    return f"'{column.name}', jsonb_build_array({logged('was', column)}, {logged(now, column)})"


def _written(entity: Entity) -> str:
    """A toggle names its own columns alone: it is the most common edit, and each column costs it 1
    %."""
    if not entity.toggles:
        return _update_row(entity, entity.changeable)
    return f"""\
IF e_op = 'toggle' THEN
{indent(_update_row(entity, _toggled(entity)), "    ")}\
ELSE
{indent(_update_row(entity, entity.changeable), "    ")}\
END IF;
"""


def _update_row(entity: Entity, columns: Iterable[Column]) -> str:
    now = entity.name
    return f"""\
UPDATE {entity.table} AS t SET
    {", ".join(f"{column.name} = {now}.{column.name}" for column in columns)},
    version = v_seq, updated_at = v_at
WHERE user_id = p_user_id AND t.id = was.id AND t.version = was.version
RETURNING * INTO {now};
"""  # noqa: S608  # of constants only


def _toggled(entity: Entity) -> list[Column]:
    return [column for column in entity.own if entity.toggles in (column.name, column.since)]
