"""SQL functions. Each is installed under a name with the hash of its text, so that releases never
disturb each other.

A server of the release before calls its own functions for as long as it runs; a newer one only says
since when they are not wanted any more, and drops what nobody has wanted for KEPT_DAYS.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from storage import Function

KEPT_DAYS = 30

ROLE = "todo_app"  # NOLOGIN, neither owner nor BYPASSRLS: requests run as this one
IN_USE = "todo: in use"
UNWANTED = "todo: not wanted since "  # and a date

# Ours are those that are wanted now, by their names, and those that say of themselves that they
# were wanted once.

INSTALLED = f"""
SELECT p.proname AS name, p.oid::regprocedure::text AS signature, obj_description(p.oid, 'pg_proc') AS comment,
       r.oid IS NULL OR has_function_privilege(r.oid, p.oid, 'EXECUTE') AS may_be_called,
       current_date::text AS today, (current_date - {KEPT_DAYS})::text AS long_ago
FROM pg_proc AS p LEFT JOIN pg_roles AS r ON r.rolname = '{ROLE}'
WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    AND (p.proname = ANY ($1::text[]) OR obj_description(p.oid, 'pg_proc') LIKE 'todo: %')
"""  # noqa: S608  # of constants only


class State(NamedTuple):
    """Whether all that are wanted are there and may be called; and whether no newer release will
    drop one of them."""

    complete: bool
    claimed: bool


async def look(session: Any, wanted: Iterable[Function]) -> State:
    """Changes nothing. `install` makes both true, for a login that may."""
    names = {function.name for function in wanted}
    ours = [row for row in await session.fetch(INSTALLED, list(names)) if row["name"] in names]
    complete = len(ours) == len(names) and all(row["may_be_called"] for row in ours)
    return State(complete, not any(map(_is_marked, ours)))


def script(wanted: Iterable[Function]) -> str:
    """What an operator runs who lets no server change the schema."""
    return "\n".join(
        f"{function.text.strip()};\n{_comment(function.name, IN_USE)};\n{_grant(function.name)};\n"
        for function in wanted
    )


async def install(session: Any, wanted: Iterable[Function]) -> None:
    """Make those of `wanted` that are missing, and see to the others. The caller holds the lock of
    migrations."""
    there = {
        row["name"]: row
        for row in await session.fetch(INSTALLED, [function.name for function in wanted])
    }
    for function in wanted:
        if function.name not in there:
            await session.execute(function.text)
        await session.execute(_comment(function.name, IN_USE))
        await session.execute(_grant(function.name))
    ours = {function.name for function in wanted}
    for row in there.values():
        if row["name"] in ours:
            continue
        if not _is_marked(row):
            await session.execute(_comment(row["signature"], f"{UNWANTED}{row['today']}"))
        elif row["comment"].removeprefix(UNWANTED) < row["long_ago"]:
            await session.execute(f"DROP FUNCTION {row['signature']}")


def _is_marked(row: Any) -> bool:
    return (row["comment"] or "").startswith(UNWANTED)


def _comment(function: str, said: str) -> str:
    return f"COMMENT ON FUNCTION {function} IS '{said}'"


def _grant(function: str) -> str:
    """An operator may have taken EXECUTE from PUBLIC, for all functions to come."""
    return f"""
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
        GRANT EXECUTE ON FUNCTION {function} TO {ROLE};
    END IF;
END $$"""
