"""What can be done to a task. Every door comes through here; nothing else writes tasks.

Every statement takes the owner as $1, names it in its where-clause, and sets it for row-level security in the same
round trip: a read in its `scope`, a write inside its function (an UPDATE joined to `scope` would depend on plan order).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from changes import BEGIN_WRITE, NEXT_CHANGE, NOTHING_YET, Revision
from database import OwnerDatabase
from errors import NotFound, PreconditionFailed, UidInTrash
from pool import Row
from strict_json import dumps

Filter = Literal["all", "pending", "completed"]
Task = dict[str, Any]
# What a task may be when it is written: pairs of a version and the microseconds of its change, None for any time. As
# lists, because asyncpg takes tuples for rows. None in place of all pairs: whatever it is.
Versions = list[list[int | None]] | None

# Rows of one statement of a whole list: half a millisecond of the worker. 500 take 1.2 and double others' p99; 100 cost
# a sixth more in all (a list of 100,000: 280 ms instead of 240).
BATCH = 200
BATCH_POOLED = 1_000  # behind a pooler, across a network, where each takes three round trips

GET = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT id, user_id, title, description, completed, created_at, updated_at, uid::text, version, completed_at
    FROM tasks
    WHERE user_id = scope.user_id AND id = $2 AND deleted_at IS NULL
    OFFSET 0
) AS task
"""

# Of the rows of a list, the first is the list's own: `version` and `updated_at` are those of the user's last change.

LIST = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT NULL::bigint AS id, NULL AS user_id, NULL AS title, NULL AS description, NULL::boolean AS completed,
       NULL::timestamptz AS created_at, last.at AS updated_at, NULL AS uid,
       last.seq AS version, NULL::timestamptz AS completed_at
FROM scope LEFT JOIN LATERAL (
    SELECT seq, at
    FROM change_counters
    WHERE user_id = scope.user_id
    OFFSET 0
) AS last ON true
UNION ALL
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT id, user_id, title, description, completed, created_at, updated_at, uid::text, version, completed_at
    FROM tasks
    WHERE user_id = scope.user_id AND deleted_at IS NULL AND (created_at, id) < ($3, $4)
    ORDER BY created_at DESC, id DESC
    LIMIT $2
) AS task
"""

LIST_BY_COMPLETED = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT NULL::bigint AS id, NULL AS user_id, NULL AS title, NULL AS description, NULL::boolean AS completed,
       NULL::timestamptz AS created_at, last.at AS updated_at, NULL AS uid,
       last.seq AS version, NULL::timestamptz AS completed_at
FROM scope LEFT JOIN LATERAL (
    SELECT seq, at
    FROM change_counters
    WHERE user_id = scope.user_id
    OFFSET 0
) AS last ON true
UNION ALL
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT id, user_id, title, description, completed, created_at, updated_at, uid::text, version, completed_at
    FROM tasks
    WHERE user_id = scope.user_id AND deleted_at IS NULL AND completed = $5 AND (created_at, id) < ($3, $4)
    ORDER BY created_at DESC, id DESC
    LIMIT $2
) AS task
"""

CREATE = """
SELECT applied, id, user_id, title, description, completed, created_at, updated_at, uid::text, version, completed_at
FROM create_task($1, $2, $3, $4, $5, $6, $7, $8)
"""

UPDATE = """
SELECT applied, id, user_id, title, description, completed, created_at, updated_at, uid::text, version, completed_at
FROM update_task($1, $2, $3, $4, $5, $6, $7, $8)
"""

MOVE = """
SELECT applied, id, user_id, title, description, completed, created_at, updated_at, uid::text, version, completed_at
FROM move_task($1, $2, $3, $4, $5, $6, $7)
"""

# The row that a function returns is the task as it now is, `applied` or not. Columns are named: `SETOF tasks` would
# break in the moment in which a migration adds one.

RETURNS_TASK = """\
RETURNS TABLE (
    applied boolean, id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz, uid uuid, version bigint, completed_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
"""

RETURN_TASK = """\
    RETURN QUERY SELECT
        v_applied, task.id, task.user_id, task.title, task.description, task.completed,
        task.created_at, task.updated_at, task.uid, task.version, task.completed_at;
"""

# `p_if_match` is a list of pairs: a version, and the microseconds of its change, or NULL for any time. Servers from
# before migration 0005 send a plain list of versions, and may still be at work for a while after it.

IF_MATCH_HOLDS_FUNCTION = """
CREATE OR REPLACE FUNCTION if_match_holds(p_if_match bigint[], p_version bigint, p_at timestamptz)
RETURNS boolean LANGUAGE plpgsql STABLE SECURITY INVOKER AS $$
BEGIN
    IF array_ndims(p_if_match) = 1 THEN
        RETURN p_version = ANY (p_if_match);
    END IF;
    RETURN EXISTS (
        SELECT FROM generate_subscripts(p_if_match, 1) AS i
        WHERE p_if_match[i][1] = p_version
          AND (p_if_match[i][2] IS NULL OR p_if_match[i][2] = (extract(epoch FROM p_at) * 1000000)::bigint)
    );
END $$
"""

TASK_FIELDS_FUNCTION = """
CREATE OR REPLACE FUNCTION task_fields(task tasks) RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY INVOKER AS $$
BEGIN
    RETURN jsonb_build_object(
        'uid', task.uid, 'title', task.title, 'description', task.description, 'completed', task.completed,
        'completed_at', to_char(task.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'deleted_at', to_char(task.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    );
END $$
"""

# `{name: [old, new]}` of what differs. PostgreSQL puts the expression in place of the call.

TASK_CHANGES_FUNCTION = """
CREATE OR REPLACE FUNCTION task_changes(was tasks, task tasks) RETURNS jsonb LANGUAGE sql STABLE SECURITY INVOKER AS $$
SELECT jsonb_strip_nulls(jsonb_build_object(
    'uid', CASE WHEN task.uid IS DISTINCT FROM was.uid THEN jsonb_build_array(was.uid, task.uid) END,
    'title', CASE WHEN task.title IS DISTINCT FROM was.title THEN jsonb_build_array(was.title, task.title) END,
    'description', CASE
        WHEN task.description IS DISTINCT FROM was.description
        THEN jsonb_build_array(was.description, task.description)
    END,
    'completed', CASE
        WHEN task.completed IS DISTINCT FROM was.completed THEN jsonb_build_array(was.completed, task.completed)
    END,
    'completed_at', CASE WHEN task.completed_at IS DISTINCT FROM was.completed_at THEN jsonb_build_array(
        to_char(was.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        to_char(task.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ) END,
    'deleted_at', CASE WHEN task.deleted_at IS DISTINCT FROM was.deleted_at THEN jsonb_build_array(
        to_char(was.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        to_char(task.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ) END
))
$$
"""

# What was read under the user's lock is still so, but for functions of before migration 0004, which know it not.

STORE_TASK = """\
        UPDATE tasks AS t SET
            title = task.title, description = task.description, completed = task.completed,
            completed_at = CASE WHEN task.completed THEN coalesce(task.completed_at, v_at) END,
            deleted_at = task.deleted_at, version = v_seq, updated_at = v_at
        WHERE user_id = p_user_id AND t.id = was.id AND t.version = was.version
        RETURNING * INTO task;
        IF NOT FOUND THEN
            RAISE serialization_failure;
        END IF;
        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
        VALUES (p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, p_group_id, 'task', was.id, CASE
            WHEN was.deleted_at IS NULL AND task.deleted_at IS NOT NULL THEN 'delete'
            WHEN was.deleted_at IS NOT NULL AND task.deleted_at IS NULL THEN 'restore'
            ELSE 'update'
        END, task_changes(was, task));
"""

CREATE_TASK_FUNCTION = f"""
CREATE OR REPLACE FUNCTION create_task(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_if_match bigint[], p_uid uuid, p_title text, p_description text
)
{RETURNS_TASK}\
DECLARE
    v_seq bigint;
    v_at timestamptz;
    v_applied boolean := false;
    task tasks;
BEGIN
{BEGIN_WRITE}\
    IF p_uid IS NOT NULL THEN
        SELECT * INTO task FROM tasks AS t WHERE user_id = p_user_id AND t.uid = p_uid;
        IF task.deleted_at IS NOT NULL THEN
            RETURN QUERY SELECT NULL::boolean, task.id, NULL, NULL::varchar, NULL::varchar, NULL::boolean,
                NULL::timestamptz, NULL::timestamptz, NULL::uuid, NULL::bigint, NULL::timestamptz;
            RETURN;
        END IF;
    END IF;
    IF task.id IS NULL THEN
        IF p_if_match IS NOT NULL THEN
            SELECT c.seq, c.at INTO v_seq, v_at FROM change_counters AS c WHERE user_id = p_user_id;
            IF NOT if_match_holds(p_if_match, coalesce(v_seq, 0), coalesce(v_at, 'epoch')) THEN
                RETURN;
            END IF;
        END IF;
{NEXT_CHANGE}\
        v_applied := true;
        INSERT INTO tasks (user_id, title, description, uid, version, created_at, updated_at)
        VALUES (p_user_id, p_title, p_description, coalesce(p_uid, gen_random_uuid()), v_seq, v_at, v_at)
        RETURNING * INTO task;
        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
        VALUES (p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, p_group_id, 'task', task.id, 'create',
                task_changes(NULL, task));
    END IF;
{RETURN_TASK}\
END $$
"""  # noqa: S608  # of constants only

UPDATE_TASK_FUNCTION = f"""
CREATE OR REPLACE FUNCTION update_task(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_id bigint, p_if_match bigint[], p_set jsonb, p_skips_same boolean
)
{RETURNS_TASK}\
DECLARE
    v_seq bigint;
    v_at timestamptz;
    v_applied boolean;
    was tasks;
    task tasks;
BEGIN
{BEGIN_WRITE}\
    SELECT * INTO was FROM tasks AS t WHERE user_id = p_user_id AND t.id = p_id AND t.deleted_at IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_applied := p_if_match IS NULL OR if_match_holds(p_if_match, was.version, was.updated_at);
    task := was;
    IF v_applied AND p_set IS NULL THEN
        task.completed := NOT was.completed;
    ELSIF v_applied THEN
        task := jsonb_populate_record(was, p_set);
    END IF;
    IF v_applied AND NOT (p_skips_same AND task IS NOT DISTINCT FROM was) THEN
{NEXT_CHANGE}\
{STORE_TASK}\
    END IF;
{RETURN_TASK}\
END $$
"""  # noqa: S608  # of constants only

MOVE_TASK_FUNCTION = f"""
CREATE OR REPLACE FUNCTION move_task(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_id bigint, p_if_match bigint[], p_to_trash boolean
)
{RETURNS_TASK}\
DECLARE
    v_seq bigint;
    v_at timestamptz;
    v_applied boolean;
    was tasks;
    task tasks;
BEGIN
{BEGIN_WRITE}\
    SELECT * INTO was FROM tasks AS t
    WHERE user_id = p_user_id AND t.id = p_id AND (t.deleted_at IS NULL) = p_to_trash;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_applied := p_if_match IS NULL OR if_match_holds(p_if_match, was.version, was.updated_at);
    task := was;
    IF v_applied THEN
{NEXT_CHANGE}\
        task.deleted_at := CASE WHEN p_to_trash THEN v_at END;
{STORE_TASK}\
    END IF;
{RETURN_TASK}\
END $$
"""  # noqa: S608  # of constants only

# Installed by migrations, and a test compares. Change one, and add a migration that installs it again.
FUNCTIONS = (
    IF_MATCH_HOLDS_FUNCTION,
    TASK_FIELDS_FUNCTION,
    TASK_CHANGES_FUNCTION,
    CREATE_TASK_FUNCTION,
    UPDATE_TASK_FUNCTION,
    MOVE_TASK_FUNCTION,
)


class Position(NamedTuple):
    """A place in the list, newest first: what comes after it is older."""

    created_at: datetime
    id: int


NEWEST = Position(datetime.max.replace(tzinfo=UTC), 0)


class Listing(NamedTuple):
    """`revision` is the user's last change: what the list may show is the same as long as that is."""

    revision: Revision
    tasks: list[Row]


async def list_newest_first(db: OwnerDatabase, filter: Filter, limit: int, after: Position = NEWEST) -> Listing:
    """At most `limit` tasks that come after `after`."""
    if filter == "all":
        own, *found = await db.read(LIST, limit, *after)
    else:
        own, *found = await db.read(LIST_BY_COMPLETED, limit, *after, filter == "completed")
    return Listing(last_change(own), found)


async def list_all(
    db: OwnerDatabase, filter: Filter = "all", after: Position = NEWEST
) -> tuple[Listing, AsyncIterator[list[Row]] | None]:
    """All tasks that come after `after`: the first, and those after them if there are more than a batch.

    The latter come in batches, none of them empty, each read when it is asked for and as it then is. A task that is
    there all the time is in one of them: its place in the list never changes.
    """
    size = BATCH_POOLED if db.is_pooled else BATCH
    first = await list_newest_first(db, filter, size + 1, after)
    return first, _rest(db, filter, size, _place(first.tasks[-1])) if len(first.tasks) > size else None


async def _rest(db: OwnerDatabase, filter: Filter, size: int, after: Position) -> AsyncIterator[list[Row]]:
    is_full = True
    while is_full:
        _, batch = await list_newest_first(db, filter, size, after)
        is_full = len(batch) == size
        if batch:
            after = _place(batch[-1])
            yield batch


def _place(task: Row) -> Position:
    return Position(task["created_at"], task["id"])


async def get(db: OwnerDatabase, id: int) -> Row:
    return _one(await db.read(GET, id))


async def create(
    db: OwnerDatabase,
    title: str,
    description: str | None = None,
    uid: UUID | None = None,
    if_match: Versions = None,
) -> tuple[Task, bool]:
    """The task, and whether it is new: where there is one with this `uid`, that one is returned as it is."""
    rows = await db.write(CREATE, if_match, uid, title, description)
    if not rows:
        raise PreconditionFailed
    if rows[0]["applied"] is None:
        raise UidInTrash
    return _written(rows)


async def update(db: OwnerDatabase, id: int, fields: Mapping[str, Any], if_match: Versions = None) -> Task:
    """Set `fields`. It is a change, and `updated_at` moves, even where they are empty or what they were."""
    return guarded(await db.write(UPDATE, id, if_match, dumps(fields).decode(), False))


async def complete(db: OwnerDatabase, id: int, completed: bool | None = None, if_match: Versions = None) -> Task:
    """Set `completed`, or toggle it where None is given. Setting what it already is changes nothing."""
    fields = None if completed is None else dumps({"completed": completed}).decode()
    return guarded(await db.write(UPDATE, id, if_match, fields, True))


async def delete(db: OwnerDatabase, id: int, if_match: Versions = None) -> None:
    """Move it to the trash."""
    guarded(await db.write(MOVE, id, if_match, True))


async def restore(db: OwnerDatabase, id: int, if_match: Versions = None) -> Task:
    """Take it out of the trash, as it was."""
    return guarded(await db.write(MOVE, id, if_match, False))


def last_change(own: Row) -> Revision:
    """The user's, from a list's own row."""
    return Revision(own["version"], own["updated_at"]) if own["version"] else NOTHING_YET


def guarded(rows: list[Row]) -> Task:
    """The task that a function returned. NotFound where there is none, PreconditionFailed where it was not applied."""
    task, applied = _written(rows)
    if not applied:
        raise PreconditionFailed(task)
    return task


def _written(rows: list[Row]) -> tuple[Task, bool]:
    task = dict(_one(rows))
    return task, task.pop("applied")


def _one(rows: list[Row]) -> Row:
    """The task. Absent, deleted and another's are the same: not found."""
    if not rows:
        raise NotFound("Task not found")
    return rows[0]
