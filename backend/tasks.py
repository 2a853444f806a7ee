"""What can be done to a task. Every door comes through here; nothing else writes tasks.

Every statement takes the owner as $1, names it in its where-clause, and sets it for row-level security in the same
round trip: a read in its `scope`, a write inside its function (an UPDATE joined to `scope` would depend on plan order).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, NamedTuple

from database import OwnerDatabase
from errors import NotFound
from pool import Row

Filter = Literal["all", "pending", "completed"]

BATCH = 5_000  # rows of one statement: a longer list takes several, so that each has its answer in time

GET = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT id, user_id, title, description, completed, created_at, updated_at
    FROM tasks
    WHERE user_id = scope.user_id AND id = $2
    OFFSET 0
) AS task
"""

LIST = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT id, user_id, title, description, completed, created_at, updated_at
    FROM tasks
    WHERE user_id = scope.user_id AND (created_at, id) < ($3, $4)
    ORDER BY created_at DESC, id DESC
    LIMIT $2
) AS task
"""

LIST_BY_COMPLETED = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT id, user_id, title, description, completed, created_at, updated_at
    FROM tasks
    WHERE user_id = scope.user_id AND completed = $5 AND (created_at, id) < ($3, $4)
    ORDER BY created_at DESC, id DESC
    LIMIT $2
) AS task
"""

CREATE = """
SELECT id, user_id, title, description, completed, created_at, updated_at FROM create_task($1, $2, $3)
"""

UPDATE = """
SELECT id, user_id, title, description, completed, created_at, updated_at FROM update_task($1, $2, $3, $4, $5, $6)
"""

COMPLETE = """
SELECT id, user_id, title, description, completed, created_at, updated_at FROM complete_task($1, $2, $3)
"""

DELETE = """
SELECT id FROM delete_task($1, $2)
"""

# The functions name their columns: `SETOF tasks` would break in the moment in which a migration adds one.

CREATE_FUNCTION = """
CREATE OR REPLACE FUNCTION create_task(p_user_id text, p_title text, p_description text)
RETURNS TABLE (
    id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    RETURN QUERY
        INSERT INTO tasks AS t (user_id, title, description)
        VALUES (p_user_id, p_title, p_description)
        RETURNING t.id, t.user_id, t.title, t.description, t.completed, t.created_at, t.updated_at;
END $$
"""

UPDATE_FUNCTION = """
CREATE OR REPLACE FUNCTION update_task(
    p_user_id text, p_id bigint, p_title text, p_completed boolean, p_sets_description boolean, p_description text
)
RETURNS TABLE (
    id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    RETURN QUERY
        UPDATE tasks AS t SET
            title = coalesce(p_title, t.title),
            completed = coalesce(p_completed, t.completed),
            description = CASE WHEN p_sets_description THEN p_description ELSE t.description END,
            updated_at = greatest(clock_timestamp(), t.updated_at + interval '1 microsecond')
        WHERE user_id = p_user_id AND t.id = p_id
        RETURNING t.id, t.user_id, t.title, t.description, t.completed, t.created_at, t.updated_at;
END $$
"""

COMPLETE_FUNCTION = """
CREATE OR REPLACE FUNCTION complete_task(p_user_id text, p_id bigint, p_completed boolean)
RETURNS TABLE (
    id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    RETURN QUERY
        UPDATE tasks AS t SET
            completed = coalesce(p_completed, NOT t.completed),
            updated_at = CASE
                WHEN t.completed = p_completed THEN t.updated_at
                ELSE greatest(clock_timestamp(), t.updated_at + interval '1 microsecond')
            END
        WHERE user_id = p_user_id AND t.id = p_id
        RETURNING t.id, t.user_id, t.title, t.description, t.completed, t.created_at, t.updated_at;
END $$
"""

DELETE_FUNCTION = """
CREATE OR REPLACE FUNCTION delete_task(p_user_id text, p_id bigint)
RETURNS TABLE (id bigint) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    RETURN QUERY DELETE FROM tasks AS t WHERE user_id = p_user_id AND t.id = p_id RETURNING t.id;
END $$
"""

# Installed by migrations, and a test compares. Change one, and add a migration that installs it again.
FUNCTIONS = (CREATE_FUNCTION, UPDATE_FUNCTION, COMPLETE_FUNCTION, DELETE_FUNCTION)


class Position(NamedTuple):
    """A place in the list, newest first: what comes after it is older."""

    created_at: datetime
    id: int


NEWEST = Position(datetime.max.replace(tzinfo=UTC), 0)


class Unchanged:
    """The default of a field that an update leaves as it is, where None means to clear it."""


UNCHANGED = Unchanged()


async def list_newest_first(
    db: OwnerDatabase, filter: Filter = "all", limit: int | None = None, after: Position = NEWEST
) -> list[Row]:
    """At most `limit` tasks (None: all of them) that come after `after`."""
    found: list[Row] = []
    while True:
        wanted = BATCH if limit is None else min(BATCH, limit - len(found))
        batch = await _batch(db, filter, wanted, after)
        found += batch
        if len(batch) < wanted or len(found) == limit:
            return found
        after = Position(batch[-1]["created_at"], batch[-1]["id"])


async def _batch(db: OwnerDatabase, filter: Filter, limit: int, after: Position) -> list[Row]:
    if filter == "all":
        return await db.read(LIST, limit, *after)
    return await db.read(LIST_BY_COMPLETED, limit, *after, filter == "completed")


async def get(db: OwnerDatabase, id: int) -> Row:
    return _one(await db.read(GET, id))


async def create(db: OwnerDatabase, title: str, description: str | None = None) -> Row:
    return _one(await db.write(CREATE, title, description))


async def update(
    db: OwnerDatabase,
    id: int,
    title: str | None = None,
    description: str | Unchanged | None = UNCHANGED,
    completed: bool | None = None,
) -> Row:
    """Change what is given. `updated_at` moves even where nothing is."""
    clears_or_sets = not isinstance(description, Unchanged)
    return _one(await db.write(UPDATE, id, title, completed, clears_or_sets, description if clears_or_sets else None))


async def complete(db: OwnerDatabase, id: int, completed: bool | None = None) -> Row:
    """Set `completed`, or toggle it where None is given. Setting what it already is changes nothing."""
    return _one(await db.write(COMPLETE, id, completed))


async def delete(db: OwnerDatabase, id: int) -> None:
    _one(await db.write(DELETE, id))


def _one(rows: list[Row]) -> Row:
    """The task. Absent, deleted and another's are the same: not found."""
    if not rows:
        raise NotFound("Task not found")
    return rows[0]
