"""Deleted tasks: `/v1/trash`. The user is the token's."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Security

import tasks
import trash
from schemas import PageQuery, TaskDeleted, TaskResponse, TrashResponse
from web.answers import Answer, answer, task_answer, unchanged, with_location
from web.documentation import BEARER, GUARDED, LOCATED, NOT_MODIFIED, errors
from web.doors import Db, Door, IfMatch, IfNoneMatch, PageCursors, TaskId
from web.fields import entity_tag, is_known

router = APIRouter(
    prefix="/v1/trash",
    tags=["trash"],
    route_class=Door,
    dependencies=[Security(BEARER)],
    responses=errors(401, 429, 503),
)


@router.get(
    "",
    operation_id="list_trash",
    response_model=TrashResponse,
    responses={**NOT_MODIFIED, **errors(400)},
)
async def list_trash(
    db: Db,
    pages: PageCursors,
    query: Annotated[PageQuery, Query()],
    if_none_match: IfNoneMatch = None,
) -> Answer:
    """The last deleted task comes first. After 30 days (TRASH_KEPT_DAYS) a task is deleted for good."""
    binding = (db.owner, "trash")
    after = tasks.Position(*pages.open(query.cursor, *binding)) if query.cursor else trash.LATEST
    revision, found = await trash.list_latest_first(db, query.limit + 1, after)
    tag = entity_tag(db.owner, *revision)
    if is_known(tag, if_none_match):
        return unchanged(tag)
    page, more = found[: query.limit], found[query.limit :]
    next_cursor = pages.make(page[-1]["deleted_at"], page[-1]["id"], *binding) if more else None
    return answer(page, "Trash retrieved", tag, next_cursor=next_cursor)


@router.post(
    "/{task_id}/restore",
    operation_id="restore_task",
    response_model=TaskResponse,
    responses={200: LOCATED, **errors(400, 404, *GUARDED, 413)},
)
async def restore_task(db: Db, task_id: TaskId, if_match: IfMatch = None) -> Answer:
    """Moves the task out of the trash. It is as it was before."""
    task = await tasks.restore(db, task_id, if_match)
    return with_location(
        f"/api/{quote(db.owner, safe='')}/tasks/{task_id}", task_answer(task, "Task restored")
    )


@router.delete(
    "/{task_id}",
    operation_id="purge_task",
    response_model=TaskDeleted,
    responses=errors(400, 404, *GUARDED),
)
async def purge_task(db: Db, task_id: TaskId, if_match: IfMatch = None) -> Answer:
    """Deletes the task for good. This cannot be undone, and no text of the task is kept anywhere."""
    await trash.purge(db, task_id, if_match)
    return answer(None, "Task deleted for good")
