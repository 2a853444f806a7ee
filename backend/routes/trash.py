"""What was deleted: `/v1/trash`. The user is the token's."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Security

import ids
import lists
import tasks
import trash
from entities import LIST, TASK
from parameters import PageQuery
from routes.lists import list_answer
from schemas import (
    ListDeleted,
    ListResponse,
    TaskDeleted,
    TaskResponse,
    TrashResponse,
)
from web.answers import Answer, answer, task_answer, unchanged, with_location
from web.documentation import BEARER, GUARDED, LOCATED, NOT_MODIFIED, errors
from web.doors import Db, Door, IfMatch, IfNoneMatch, Name, PageCursors
from web.fields import entity_tag, is_known

router = APIRouter(
    prefix="/v1/trash",
    tags=["trash"],
    route_class=Door,
    dependencies=[Security(BEARER)],
    responses=errors(401, 429, 503),
)

RESTORED = {200: LOCATED, **errors(400, 404, *GUARDED, 413)}
PURGED = errors(400, 404, *GUARDED)


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
    """Tasks and lists; what was deleted last comes first. After 30 days (TRASH_KEPT_DAYS) it is deleted for good."""
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
    responses=RESTORED,
)
async def restore_task(db: Db, task_id: Name, if_match: IfMatch = None) -> Answer:
    """Moves the task out of the trash, with what was deleted with it. It is as it was before."""
    task = await tasks.restore(db, await ids.of(db, TASK, task_id), if_match)
    location = f"/api/{quote(db.owner, safe='')}/tasks/{task['id']}"
    return with_location(location, task_answer(task, "Task restored"))


@router.delete(
    "/{task_id}", operation_id="purge_task", response_model=TaskDeleted, responses=PURGED
)
async def purge_task(db: Db, task_id: Name, if_match: IfMatch = None) -> Answer:
    """Deletes the task for good. This cannot be undone, and no text of the task is kept anywhere."""
    await trash.purge(db, TASK, await ids.of(db, TASK, task_id), if_match)
    return answer(None, "Task deleted for good")


@router.post(
    "/tasks/{task_id}/restore",
    operation_id="restore_own_task",
    response_model=TaskResponse,
    responses=RESTORED,
)
async def restore_own_task(db: Db, task_id: Name, if_match: IfMatch = None) -> Answer:
    """The same as `/v1/trash/{task_id}/restore`. If its parent or list is in the trash, it comes to the Inbox."""
    task = await tasks.restore(db, await ids.of(db, TASK, task_id), if_match)
    return with_location(f"/v1/tasks/{task['id']}", task_answer(task, "Task restored"))


@router.delete(
    "/tasks/{task_id}", operation_id="purge_own_task", response_model=TaskDeleted, responses=PURGED
)
async def purge_own_task(db: Db, task_id: Name, if_match: IfMatch = None) -> Answer:
    """The same as `/v1/trash/{task_id}`. What was below the task stays in the trash, below nothing."""
    return await purge_task(db, task_id, if_match)


@router.post(
    "/lists/{list_id}/restore",
    operation_id="restore_list",
    response_model=ListResponse,
    responses=RESTORED,
)
async def restore_list(db: Db, list_id: Name, if_match: IfMatch = None) -> Answer:
    """Moves the list out of the trash, with the tasks that were deleted with it."""
    found = await lists.restore(db, await ids.of(db, LIST, list_id), if_match)
    return with_location(f"/v1/lists/{found['id']}", list_answer(db, found, "List restored"))


@router.delete(
    "/lists/{list_id}", operation_id="purge_list", response_model=ListDeleted, responses=PURGED
)
async def purge_list(db: Db, list_id: Name, if_match: IfMatch = None) -> Answer:
    """Deletes the list for good. Its tasks stay in the trash, in no list."""
    await trash.purge(db, LIST, await ids.of(db, LIST, list_id), if_match)
    return answer(None, "List deleted for good")
