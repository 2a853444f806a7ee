"""The trash: deleted tasks, until they are restored (`tasks.restore`) or, here, deleted for good."""

from __future__ import annotations

from datetime import UTC, datetime

import storage
from database import OwnerDatabase
from entities import DELETED_AT, TASK
from errors import NotFound, PreconditionFailed
from storage import Versions
from tasks import Listing, Position, last_change

LIST = f"""
WITH scope AS MATERIALIZED (SELECT set_config('app.user_id', $1, true) AS user_id)
SELECT {storage.placeholders(TASK, DELETED_AT, version="last.seq", updated_at="last.at")}
FROM scope LEFT JOIN LATERAL (
    SELECT seq, at
    FROM change_counters
    WHERE user_id = scope.user_id
    OFFSET 0
) AS last ON true
UNION ALL
SELECT task.* FROM scope CROSS JOIN LATERAL (
    SELECT {storage.columns(TASK, DELETED_AT)}
    FROM tasks
    WHERE user_id = scope.user_id AND deleted_at IS NOT NULL AND (deleted_at, id) < ($3, $4)
    ORDER BY deleted_at DESC, id DESC
    LIMIT $2
) AS task
"""  # noqa: S608  # of constants only

LATEST = Position(datetime.max.replace(tzinfo=UTC), 0)


async def list_latest_first(db: OwnerDatabase, limit: int, after: Position = LATEST) -> Listing:
    """At most `limit` tasks that come after `after`, by the time of their deletion."""
    own, *found = await db.read(LIST, limit, *after)
    return Listing(last_change(own), found)


async def purge(
    db: OwnerDatabase, id: int, if_match: Versions = None, untouched_since: datetime | None = None
) -> None:
    """Delete for good what is in the trash, and was not changed after that. No text of it is kept anywhere."""
    [purged] = await db.store(storage.purge(TASK, id, if_match, untouched_since))
    if purged.status == "absent":
        raise NotFound("Task not found")
    if purged.status == "stale":
        raise PreconditionFailed(purged.object)
