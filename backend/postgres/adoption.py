"""A table of tasks that a plain FastAPI + SQLModel backend made: recognised, checked row by row,
and taken over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError

from errors import Unfit
from postgres.sessions import Session
from rules import TITLE_MAX
from schemas import TaskCreate

VERSION = "0001"  # the first of ours, which has the same columns
NAMES = ("tasks", "task")  # the second is SQLModel's own for a class Task
TEXT = ("character varying", "text")
TIME = ("timestamp without time zone", "timestamp with time zone")
COLUMNS = {  # what each may be, and lose nothing
    "id": ("integer", "bigint", "smallint"),
    "user_id": TEXT,
    "title": TEXT,
    "description": TEXT,
    "completed": ("boolean",),
    "created_at": TIME,
    "updated_at": TIME,
}
USER_ID_MAX = 255
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # no token names such a user
SHOWN_IDS = 5  # of the rows that break a rule
COPY = "pg_temp.adopted_tasks"

TABLES = """
SELECT c.relname::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind = 'r' AND c.relname IN ('tasks', 'task')
ORDER BY c.relname DESC
"""

TYPES = """
SELECT attname AS name, format_type(atttypid, NULL) AS type
FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""

# Taking over makes a new table. What hangs on the old one beside its rows would be gone without a
# word.
HANGS_ON_IT = """
WITH old AS (SELECT $1::text::regclass AS oid)
SELECT 'constraint ' || conname AS thing FROM pg_constraint, old WHERE conrelid = old.oid AND contype NOT IN ('p', 'n')
UNION SELECT 'foreign key of ' || conrelid::regclass FROM pg_constraint, old WHERE confrelid = old.oid
UNION SELECT 'unique index ' || indexrelid::regclass
FROM pg_index, old WHERE indrelid = old.oid AND indisunique AND NOT indisprimary
UNION SELECT 'trigger ' || tgname FROM pg_trigger, old WHERE tgrelid = old.oid AND NOT tgisinternal
UNION SELECT 'policy ' || polname FROM pg_policy, old WHERE polrelid = old.oid
UNION SELECT 'view or rule ' || ev_class::regclass
FROM old JOIN pg_depend ON refobjid = old.oid AND refclassid = 'pg_class'::regclass
JOIN pg_rewrite ON pg_rewrite.oid = objid AND classid = 'pg_rewrite'::regclass
UNION SELECT 'inheritance' FROM pg_inherits, old WHERE old.oid IN (inhrelid, inhparent)
ORDER BY thing
"""

HAS_ITS_KEY = """
SELECT count(*) = 1 FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
WHERE indrelid = $1::text::regclass AND indisprimary AND indnkeyatts = 1 AND attname = 'id'
"""

ROWS = """
SELECT id, user_id, title, description, completed IS NOT NULL AS has_completed,
       coalesce(created_at BETWEEN '0001-01-02' AND '9999-12-30', false)
           AND coalesce(updated_at BETWEEN '0001-01-02' AND '9999-12-30', false) AS has_times
FROM {table} ORDER BY id
"""

SET_ASIDE = """
CREATE TEMP TABLE adopted_tasks ON COMMIT DROP AS
SELECT id, user_id, title, description, completed, {created_at} AS created_at, {updated_at} AS updated_at FROM {table}
"""

PUT_BACK = f"""
INSERT INTO tasks (id, user_id, title, description, completed, created_at, updated_at) OVERRIDING SYSTEM VALUE
SELECT id, user_id, title, description, completed, created_at, updated_at FROM {COPY}
"""  # noqa: S608  # a constant


class Adoptable(NamedTuple):
    """A table with the seven columns. `flaw`: why it cannot be taken over as it is; empty if it
    can."""

    name: str
    types: dict[str, str]
    flaw: str


async def find(session: Session) -> Adoptable | None:
    """The table in the current schema that could be taken over."""
    for table in await session.fetch(TABLES):
        types = {row["name"]: row["type"] for row in await session.fetch(TYPES, table["name"])}
        if set(COLUMNS) <= set(types):
            return Adoptable(table["name"], types, await _flaw(session, table["name"], types))
    return None


async def set_aside(session: Session, table: Adoptable) -> int:
    """Check every row, copy all of them, and drop the table. Returns the next id: none is given
    twice."""
    await session.execute(f"LOCK TABLE {table.name} IN ACCESS EXCLUSIVE MODE")
    await session.execute(
        "SET LOCAL row_security = off"
    )  # rows that are hidden from this login are an error
    if table.flaw:
        raise Unfit(f"the table {table.name} cannot be adopted: {table.flaw}. Nothing was changed.")
    await _check_rows(session, table)
    next_id = await _next_id(session, table)
    times = {name: _in_utc(name, table.types[name]) for name in ("created_at", "updated_at")}
    await session.execute(SET_ASIDE.format(table=table.name, **times))
    await session.execute(f"DROP TABLE {table.name}")
    await session.execute("SET LOCAL row_security = on")
    return next_id


async def put_back(session: Session, next_id: int) -> int:
    """Into the table of VERSION, which has no log yet: the next migration makes the log's beginning
    of what is there.

    Returns how many rows there are.
    """
    await session.execute(
        "ALTER TABLE tasks NO FORCE ROW LEVEL SECURITY"
    )  # it would bind this login, too
    done = await session.execute(PUT_BACK)
    await session.execute("ALTER TABLE tasks FORCE ROW LEVEL SECURITY")
    await session.execute(f"ALTER TABLE tasks ALTER COLUMN id RESTART WITH {next_id}")
    return int(done.split()[-1])  # of "INSERT 0 18"


async def _flaw(session: Session, table: str, types: dict[str, str]) -> str:
    if more := [name for name in types if name not in COLUMNS]:
        return f"what is in {_listed(more)} would be lost"
    if wrong := [name for name, allowed in COLUMNS.items() if types[name] not in allowed]:
        return "; ".join(
            f"{name} is of type {types[name]}, not {' or '.join(COLUMNS[name])}" for name in wrong
        )
    if not await session.fetchval(HAS_ITS_KEY, table):
        return "id is not its primary key"
    if things := [row["thing"] for row in await session.fetch(HANGS_ON_IT, table)]:
        return f"{_listed(things)} would be lost; drop what is not needed"
    return ""


async def _check_rows(session: Session, table: Adoptable) -> None:
    broken: dict[str, list[int]] = {}
    async for row in session.cursor(ROWS.format(table=table.name), prefetch=1000):
        for flaw in _flaws(row):
            broken.setdefault(flaw, []).append(row["id"])
    if broken:
        rows = len({id for ids in broken.values() for id in ids})
        listed = "; ".join(f"{flaw} ({_ids(ids)})" for flaw, ids in sorted(broken.items()))
        raise Unfit(
            f"{rows} of the rows of {table.name} break a rule: {listed}. Correct them; nothing was changed."
        )


def _flaws(row: Any) -> Iterator[str]:
    if row["id"] < 1:
        yield "Id must be greater than 0"
    user_id = row["user_id"] or ""
    if not user_id.strip() or len(user_id) > USER_ID_MAX or CONTROL.search(user_id):
        yield f"User id must be 1 to {USER_ID_MAX} characters, not only white space"
    try:
        TaskCreate.model_validate({"title": row["title"], "description": row["description"]})
    except ValidationError as error:
        yield from (
            problem["msg"] for problem in error.errors(include_input=False, include_url=False)
        )
    else:
        if len(row["title"]) > TITLE_MAX:  # it is kept as it is, white space at its ends included
            yield f"Title must be between 1 and {TITLE_MAX} characters"
    if not row["has_completed"]:
        yield "Completed must be true or false"
    if not row["has_times"]:
        yield "Created at and updated at must be times of the years 1 to 9999"


async def _next_id(session: Session, table: Adoptable) -> int:
    largest = await session.fetchval(f"SELECT coalesce(max(id), 0) FROM {table.name}")  # noqa: S608  # one of NAMES
    sequence = await session.fetchval("SELECT pg_get_serial_sequence($1, 'id')", table.name)
    if sequence is None:
        return int(largest) + 1
    given = await session.fetchval(f"SELECT last_value FROM {sequence}")  # noqa: S608  # quoted
    return int(max(largest, given)) + 1


def _in_utc(column: str, type: str) -> str:
    return f"{column} AT TIME ZONE 'UTC'" if type == "timestamp without time zone" else column


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def _ids(ids: list[int]) -> str:
    shown = ", ".join(str(id) for id in ids[:SHOWN_IDS])
    more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    return f"{'id' if len(ids) == 1 else 'ids'} {shown}{more}"
