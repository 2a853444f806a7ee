"""The same rows for everybody: users with tasks and, where there is one, the log that writing them would have left."""

from __future__ import annotations

import asyncpg

# Interleaved as time would have it: the tasks of one user are not neighbours.
TASKS = """
INSERT INTO tasks (user_id, title, description, completed, created_at, updated_at {columns})
SELECT {user}, 'Buy milk, bread and number ' || n, 'Two litres, and some bread', false, at, at {values}
FROM generate_series(1, $3::int) AS n, generate_series(0, $2::int - 1) AS u,
     LATERAL (SELECT now() - interval '20 days' + n * interval '10 seconds' AS at) AS clock  -- nothing that expires
ORDER BY n, u
"""
USER = "$1::text || lpad(u::text, 32 - length($1::text), '0')"  # as long as Better Auth's
COUNTERS = (
    "INSERT INTO change_counters (user_id, seq, at) SELECT user_id, max(version), max(updated_at) FROM tasks GROUP BY 1"
)
CHANGES = """
INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
SELECT user_id, row_number() OVER (PARTITION BY user_id ORDER BY created_at, id), created_at, 'user', user_id,
       gen_random_uuid(), 'task', id, 'create', jsonb_build_object(
           'uid', jsonb_build_array(NULL, gen_random_uuid()), 'title', jsonb_build_array(NULL, title),
           'description', jsonb_build_array(NULL, description), 'completed', jsonb_build_array(NULL, completed))
FROM tasks
"""


def user(kind: str, number: int) -> str:
    return kind + str(number).rjust(32 - len(kind), "0")


async def fill(url: str, users: dict[str, tuple[int, int]], *, versions: bool, changes: bool) -> None:
    """`users` is how many there are of each kind, and how many tasks each of them has."""
    connection = await asyncpg.connect(url)
    try:
        insert = TASKS.format(user=USER, columns=", version" if versions else "", values=", n" if versions else "")
        for kind, (number, tasks) in users.items():
            await connection.execute(insert, kind, number, tasks)
        if versions:
            await connection.execute(COUNTERS)
        if changes:
            await connection.execute(CHANGES)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def task_ids(url: str) -> dict[str, list[int]]:
    """By user, oldest first; no more than twenty each."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT user_id, (array_agg(id ORDER BY id))[:20] AS ids FROM tasks GROUP BY 1")
        return {row["user_id"]: row["ids"] for row in rows}
    finally:
        await connection.close()
