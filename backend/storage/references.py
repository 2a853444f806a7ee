"""What refers to what, as the writer's SQL guards it: no edit makes a reference dangle, whoever
sends it."""

from __future__ import annotations

from textwrap import indent

from entities import BY_NAME, REFERRERS, Column, Entity

# What is not in the trash refers only to what is there, and is not in the trash either. What is in
# the trash may refer to both.


def refuse_dangling(entity: Entity, was: str = "") -> str:
    """`was`: the record of the object before the edit; then only references that are new are looked
    up.

    The look-up has an IF of its own: PL/pgSQL is much faster with a condition that reads no table.
    """
    allowed = f" OR {entity.name}.deleted_at IS NOT NULL" if was else ""
    return "".join(
        f"""\
IF {entity.name}.{column.name} IS NOT NULL{_is_new(entity, column, was)} THEN
    IF NOT EXISTS (
        SELECT FROM {BY_NAME[column.refers_to].table} AS t
        WHERE t.user_id = p_user_id AND t.id = {entity.name}.{column.name}
            AND (t.deleted_at IS NULL{allowed})
    ) THEN
        outcome := 'dangling';
    END IF;
END IF;
"""  # of constants only
        for column in entity.references
    )


def _is_new(entity: Entity, column: Column, was: str) -> str:
    if not was:
        return ""
    now = entity.name
    moved = f"{was}.{column.name} IS DISTINCT FROM {now}.{column.name}"
    return f" AND ({moved} OR ({was}.deleted_at IS NOT NULL AND {now}.deleted_at IS NULL))"


# While a table is new, every index that begins with the user looks equally good to PostgreSQL. It
# would take the one that was made last (the primary key: see migration 0006), and read all of the
# user's rows for each edit. Only the index of the column fits a range that is asked for in order.


def found_by_its_index(column: str, value: str) -> str:
    return f"t.{column} BETWEEN {value} AND {value}"


def refuse_in_use(entity: Entity, only_living: bool) -> str:
    living = " AND t.deleted_at IS NULL" if only_living else ""
    return "".join(
        f"""\
IF (
    SELECT true FROM {other.table} AS t
    WHERE t.user_id = p_user_id AND {found_by_its_index(column.name, "was.id")}{living}
    ORDER BY t.{column.name} LIMIT 1
) THEN
    outcome := 'in_use';
END IF;
"""  # noqa: S608  # of constants only
        for other, column in REFERRERS[entity.name]
    )


def refuse_what_breaks(entity: Entity) -> str:
    return f"""\
IF was.deleted_at IS NULL AND {entity.name}.deleted_at IS NOT NULL THEN
{indent(refuse_in_use(entity, only_living=True), "    ")}\
    NULL;
END IF;
{refuse_dangling(entity, "was")}\
"""
