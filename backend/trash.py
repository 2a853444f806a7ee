"""The trash: deleted tasks, until they are restored (`tasks.restore`) or, here, deleted for good."""

from __future__ import annotations

from datetime import UTC, datetime

from changes import BEGIN_WRITE, NEXT_CHANGE
from database import OwnerDatabase
from tasks import RETURN_TASK, RETURNS_TASK, Listing, Position, Versions, guarded, last_change

LIST = """
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT NULL::bigint AS id, NULL AS user_id, NULL AS title, NULL AS description, NULL::boolean AS completed,
       NULL::timestamptz AS created_at, last.at AS updated_at, NULL AS uid,
       last.seq AS version, NULL::timestamptz AS completed_at, NULL::timestamptz AS deleted_at
FROM scope LEFT JOIN LATERAL (
    SELECT seq, at
    FROM change_counters
    WHERE user_id = scope.user_id
    OFFSET 0
) AS last ON true
UNION ALL
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT id, user_id, title, description, completed, created_at, updated_at, uid::text, version, completed_at,
           deleted_at
    FROM tasks
    WHERE user_id = scope.user_id AND deleted_at IS NOT NULL AND (deleted_at, id) < ($3, $4)
    ORDER BY deleted_at DESC, id DESC
    LIMIT $2
) AS task
"""

PURGE = """
SELECT applied, id, user_id, title, description, completed, created_at, updated_at, uid::text, version, completed_at
FROM purge_task($1, $2, $3, $4, $5, $6, $7)
"""

# No text of the task stays: not in the log, and not in an answer that is kept for a retry. Where an answer may show
# several tasks, the jsonpath looks for this one: as itself, or as what a change is about.

PURGE_TASK_FUNCTION = f"""
CREATE OR REPLACE FUNCTION purge_task(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_id bigint, p_if_match bigint[], p_untouched_since timestamptz
)
{RETURNS_TASK}\
DECLARE
    v_seq bigint;
    v_at timestamptz;
    v_applied boolean;
    task tasks;
BEGIN
{BEGIN_WRITE}\
    SELECT * INTO task FROM tasks AS t
    WHERE user_id = p_user_id AND t.id = p_id AND t.deleted_at IS NOT NULL AND t.updated_at < p_untouched_since;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_applied := p_if_match IS NULL OR if_match_holds(p_if_match, task.version, task.updated_at);
    IF v_applied THEN
{NEXT_CHANGE}\
        DELETE FROM tasks AS t WHERE user_id = p_user_id AND t.id = p_id;
        UPDATE changes AS c SET fields = '{{}}'
        WHERE user_id = p_user_id AND c.entity = 'task' AND c.entity_id = p_id;
        UPDATE idempotency_keys AS k SET body = NULL
        WHERE user_id = p_user_id AND k.entity_id = p_id;
        UPDATE idempotency_keys AS k SET body = NULL
        WHERE user_id = p_user_id AND k.entity_id IS NULL AND jsonb_path_exists(
            k.body::jsonb, '$.** ? (@.id == $id || @.entity_id == $id)', jsonb_build_object('id', p_id)
        );
        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
        VALUES (p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, p_group_id, 'task', p_id, 'purge', '{{}}');
    END IF;
{RETURN_TASK}\
END $$
"""  # noqa: S608  # of constants only

# Installed by migrations, and a test compares. Change one, and add a migration that installs it again.
FUNCTIONS = (PURGE_TASK_FUNCTION,)

LATEST = Position(datetime.max.replace(tzinfo=UTC), 0)


async def list_latest_first(db: OwnerDatabase, limit: int, after: Position = LATEST) -> Listing:
    """At most `limit` tasks that come after `after`, by the time of their deletion."""
    own, *found = await db.read(LIST, limit, *after)
    return Listing(last_change(own), found)


async def purge(
    db: OwnerDatabase, id: int, if_match: Versions = None, untouched_since: datetime = LATEST.created_at
) -> None:
    """Delete for good what is in the trash, and was not changed after that. No text of it is kept anywhere."""
    guarded(await db.write(PURGE, id, if_match, untouched_since))
