"""The shapes of statements that read what one user has.

Each takes the owner as $1, names it in its where-clause, and sets it for row-level security in the
same round trip, in its `scope`. OFFSET 0 keeps PostgreSQL from reading a table before that.
"""

from __future__ import annotations

from collections.abc import Iterable

from entities import Column, Entity

SCOPE = "scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)"


def columns(entity: Entity, *more: Column) -> str:
    """The SELECT list of `entity`: what a client reads, and `more`."""
    return ", ".join(
        f"{column.name}::text" if column.type == "uuid" else column.name
        for column in (*entity.shown, *more)
    )


def rows(table: str, columns: str, condition: str = "true", order: str = "") -> str:
    """What `columns` says of the rows for which `condition` holds."""
    ordered = f"ORDER BY {order}\n    " if order else ""
    return f"""
WITH {SCOPE}
SELECT found.* FROM scope CROSS JOIN LATERAL (
    SELECT {columns}
    FROM {table}
    WHERE user_id = scope.user_id AND {condition}
    {ordered}OFFSET 0
) AS found
"""  # noqa: S608  # of constants only


def objects(entity: Entity, condition: str, *more: Column) -> str:
    """The objects for which `condition` holds."""
    return rows(entity.table, columns(entity, *more), condition)


def array(ids: Iterable[int]) -> str:
    """Ids as a text, `{1,2}`, which SQL casts: for an array asyncpg would ask the catalogue first."""
    return f"{{{','.join(map(str, ids))}}}"


def listing(entity: Entity, condition: str, order: str, *more: Column) -> str:
    """A page of them, as many as $2 says.

    The first row is no object: its `version` and `updated_at` are those of the user's last change.
    """
    return f"""
WITH {SCOPE}
SELECT {_last_change(entity, *more)}
FROM scope LEFT JOIN LATERAL (
    SELECT seq, at
    FROM change_counters
    WHERE user_id = scope.user_id
    OFFSET 0
) AS last ON true
UNION ALL
SELECT object.* FROM scope CROSS JOIN LATERAL (
    SELECT {columns(entity, *more)}
    FROM {entity.table}
    WHERE user_id = scope.user_id AND {condition}
    ORDER BY {order}
    LIMIT $2
) AS object
"""  # noqa: S608  # of constants only


def _last_change(entity: Entity, *more: Column) -> str:
    """A SELECT list of the shape of `columns`: NULLs, but for the user's last change."""
    last = {"version": "last.seq", "updated_at": "last.at"}
    return ", ".join(
        f"{last.get(column.name, 'NULL')}::{_type_read(column)} AS {column.name}"
        for column in (*entity.shown, *more)
    )


def _type_read(column: Column) -> str:
    return "text" if column.type == "uuid" else column.type
