"""Undo: what a change did is taken back by a new change, unless something newer would be lost."""

from __future__ import annotations

from uuid import UUID

from changes import BEGIN_WRITE, NEXT_CHANGE, Change, from_row
from database import OwnerDatabase
from errors import NotFound, PreconditionFailed, UndoConflict
from tasks import STORE_TASK, Versions

UNDO = """
SELECT outcome, conflicts, seq, at, actor_kind, actor_id, group_id::text, entity, entity_id, op, fields
FROM undo_changes($1, $2, $3, $4, $5, $6, $7)
"""

# The first row says how it went, the others are the changes that were made. A conflict leaves the inner block by an
# exception, so that either everything is undone or nothing.
#
# What is undone counts as one change of each task: from the first old value of a field to the last new one. A field
# is in conflict where its value is neither of the two, or where somebody else wrote it in between (`broken`). Of a
# creation every field counts: undoing it takes all of the task away.

UNDO_CHANGES_FUNCTION = f"""
CREATE OR REPLACE FUNCTION undo_changes(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_if_match bigint[], p_seq bigint, p_undone_group_id uuid
)
RETURNS TABLE (
    outcome text, conflicts text[], seq bigint, at timestamptz, actor_kind text, actor_id text, group_id uuid,
    entity text, entity_id bigint, op text, fields jsonb
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    v_seq bigint;
    v_at timestamptz;
    undone record;
    was tasks;
    task tasks;
    v_now jsonb;
    v_set jsonb;
    v_last bigint;
    v_last_at timestamptz;
BEGIN
{BEGIN_WRITE}\
    outcome := 'absent';
    SELECT c.seq, c.at INTO v_last, v_last_at FROM change_counters AS c WHERE user_id = p_user_id;
    v_last := coalesce(v_last, 0);
    BEGIN
        FOR undone IN
            WITH chosen AS (
                SELECT c.seq, c.entity_id, c.op, c.fields FROM changes AS c
                WHERE user_id = p_user_id AND (c.seq = p_seq OR c.group_id = p_undone_group_id)
            ), written AS (
                SELECT c.seq, c.entity_id, f.name, f.pair, f.pair -> 0 <> lag(f.pair -> 1) OVER earlier AS broken
                FROM chosen AS c CROSS JOIN LATERAL jsonb_each(c.fields) AS f(name, pair)
                WINDOW earlier AS (PARTITION BY c.entity_id, f.name ORDER BY c.seq)
            ), net AS (
                SELECT w.entity_id, w.name, coalesce(bool_or(w.broken), false) AS broken,
                       (array_agg(w.pair -> 0 ORDER BY w.seq))[1] AS old,
                       (array_agg(w.pair -> 1 ORDER BY w.seq DESC))[1] AS new
                FROM written AS w GROUP BY w.entity_id, w.name
            )
            SELECT c.entity_id AS id, bool_or(c.op = 'create') AS creation, coalesce((
                SELECT jsonb_object_agg(n.name, jsonb_build_array(n.old, n.new, n.broken))
                FROM net AS n
                WHERE n.entity_id = c.entity_id AND (n.old <> n.new OR n.broken)
            ), '{{}}') AS fields
            FROM chosen AS c GROUP BY c.entity_id ORDER BY max(c.seq) DESC
        LOOP
            IF p_if_match IS NOT NULL AND NOT if_match_holds(p_if_match, v_last, coalesce(v_last_at, 'epoch')) THEN
                RAISE EXCEPTION USING ERRCODE = 'UNDOS';
            END IF;
            outcome := 'done';
            SELECT * INTO was FROM tasks AS t WHERE user_id = p_user_id AND t.id = undone.id;
            v_now := CASE WHEN FOUND THEN task_fields(was) END;
            IF undone.creation THEN
                SELECT array_agg(f.name ORDER BY f.name) INTO conflicts
                FROM jsonb_each(v_now) AS f(name, now)
                WHERE f.name <> 'deleted_at' AND (
                    f.now <> coalesce(undone.fields -> f.name -> 1, 'null') OR undone.fields -> f.name -> 2 = 'true'
                );
                task := was;
                task.deleted_at := coalesce(was.deleted_at, 'infinity');
            ELSE
                SELECT array_agg(f.name ORDER BY f.name)
                           FILTER (WHERE v_now -> f.name NOT IN (f.net -> 0, f.net -> 1) OR f.net -> 2 = 'true'),
                       jsonb_object_agg(f.name, f.net -> 0)
                INTO conflicts, v_set
                FROM jsonb_each(undone.fields) AS f(name, net);
                task := jsonb_populate_record(was, v_set);
            END IF;
            IF was.id IS NULL OR conflicts IS NOT NULL THEN
                RAISE EXCEPTION USING ERRCODE = 'UNDOC';
            END IF;
            IF task IS DISTINCT FROM was THEN
{NEXT_CHANGE}\
                IF undone.creation THEN
                    task.deleted_at := v_at;
                END IF;
{STORE_TASK}\
            END IF;
        END LOOP;
    EXCEPTION
        WHEN SQLSTATE 'UNDOC' THEN outcome := 'conflict';
        WHEN SQLSTATE 'UNDOS' THEN outcome := 'stale';
    END;
    RETURN NEXT;
    RETURN QUERY
        SELECT NULL, NULL::text[], c.seq, c.at, c.actor_kind, c.actor_id, c.group_id,
               c.entity, c.entity_id, c.op, c.fields
        FROM changes AS c
        WHERE user_id = p_user_id AND c.seq > v_last
        ORDER BY c.seq;
END $$
"""  # noqa: S608  # of constants only

# Installed by migrations, and a test compares. Change one, and add a migration that installs it again.
FUNCTIONS = (UNDO_CHANGES_FUNCTION,)


async def change(db: OwnerDatabase, seq: int, if_match: Versions = None) -> list[Change]:
    """The changes that took it back: one, or none where nothing of it is left. UndoConflict names what is newer."""
    return await _undo(db, "Change not found", if_match, seq, None)


async def group(db: OwnerDatabase, id: UUID, if_match: Versions = None) -> list[Change]:
    """The changes that took the group back, one for each task: all of it, or UndoConflict and nothing."""
    return await _undo(db, "Group not found", if_match, None, id)


async def _undo(
    db: OwnerDatabase, absent: str, if_match: Versions, seq: int | None, group_id: UUID | None
) -> list[Change]:
    said, *made = await db.write(UNDO, if_match, seq, group_id)
    match said["outcome"]:
        case "absent":
            raise NotFound(absent)
        case "stale":
            raise PreconditionFailed
        case "conflict":
            raise UndoConflict(said["conflicts"] or [])
    return [from_row(row) for row in made]
