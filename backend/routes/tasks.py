"""A user's tasks: `/api/{user_id}/tasks`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Security

import changes
import tasks
from parameters import ListQuery
from schemas import (
    TaskComplete,
    TaskCreate,
    TaskDeleted,
    TaskListResponse,
    TaskResponse,
    TaskUpdate,
)
from web.answers import Answer, Streamed, answer, created_answer, streamed, task_answer, unchanged
from web.documentation import BEARER, GUARDED, LOCATED, NOT_MODIFIED, errors, owner
from web.doors import Db, Door, IfMatch, IfNoneMatch, PageCursors, TaskId
from web.fields import entity_tag, is_known, task_tag

EXISTS = {
    **LOCATED,
    "model": TaskResponse,
    "description": "One of your tasks already has this `uid`. Nothing was created; `data` is that task",
}

router = APIRouter(
    prefix="/api/{user_id}/tasks",
    tags=["tasks"],
    route_class=Door,
    dependencies=[Security(BEARER), Depends(owner)],
    responses=errors(401, 403, 429, 503),
)


@router.get(
    "",
    operation_id="list_tasks",
    response_model=TaskListResponse,
    responses={**NOT_MODIFIED, **errors(400)},
)
async def list_tasks(
    db: Db,
    pages: PageCursors,
    query: Annotated[ListQuery, Query()],
    if_none_match: IfNoneMatch = None,
) -> Answer | Streamed:
    """Newest first. Without `limit` you get all tasks. With it you get a page, and `next_cursor` for the next one.

    The `ETag` changes with every change of the user's tasks, so a client can ask cheaply whether anything is new.
    """
    binding = (db.owner, query.filter)
    after = tasks.Position(*pages.open(query.cursor, *binding)) if query.cursor else tasks.NEWEST
    if if_none_match:
        latest = entity_tag(db.owner, *await changes.latest(db))
        if is_known(latest, if_none_match):
            return unchanged(latest)
    if query.limit is None:
        (revision, found), rest = await tasks.list_all(db, query.filter, after)
        tag = entity_tag(db.owner, *revision)
        if rest is None:
            return answer(found, "Tasks retrieved", tag)
        return streamed(found, rest, "Tasks retrieved", tag)
    revision, found = await tasks.list_newest_first(db, query.filter, query.limit + 1, after)
    page, more = found[: query.limit], found[query.limit :]
    next_cursor = pages.make(page[-1]["created_at"], page[-1]["id"], *binding) if more else None
    return answer(page, "Tasks retrieved", entity_tag(db.owner, *revision), next_cursor=next_cursor)


@router.post(
    "",
    operation_id="create_task",
    status_code=201,
    response_model=TaskResponse,
    responses={200: EXISTS, 201: LOCATED, **errors(400, *GUARDED, 413, 415)},
)
async def create_task(db: Db, body: TaskCreate, if_match: IfMatch = None) -> Answer:
    """If one of your tasks already has this `uid`, you get that task (200), and nothing is created."""
    task, is_new = await tasks.create(db, body.fields(), body.chosen_uid(), if_match)
    location = f"/api/{quote(db.owner, safe='')}/tasks/{task['id']}"
    return created_answer(task, task_tag(task), is_new, "Task", location)


@router.get(
    "/{task_id}",
    operation_id="get_task",
    response_model=TaskResponse,
    responses={**NOT_MODIFIED, **errors(400, 404)},
)
async def get_task(db: Db, task_id: TaskId, if_none_match: IfNoneMatch = None) -> Answer:
    task = await tasks.get(db, task_id)
    if if_none_match and is_known(task_tag(task), if_none_match):
        return unchanged(task_tag(task))
    return task_answer(task, "Task retrieved")


@router.put(
    "/{task_id}",
    operation_id="update_task",
    response_model=TaskResponse,
    responses=errors(400, 404, *GUARDED, 413, 415),
)
async def update_task(
    db: Db, task_id: TaskId, body: TaskUpdate, if_match: IfMatch = None
) -> Answer:
    """Changes the fields that you send, and no others. `description: null` clears the description."""
    return task_answer(await tasks.update(db, task_id, body.fields(), if_match), "Task updated")


@router.patch(
    "/{task_id}",
    operation_id="patch_task",
    response_model=TaskResponse,
    responses=errors(400, 404, *GUARDED, 413, 415),
)
async def patch_task(db: Db, task_id: TaskId, body: TaskUpdate, if_match: IfMatch = None) -> Answer:
    """Does the same as PUT."""
    return await update_task(db, task_id, body, if_match)


@router.delete(
    "/{task_id}",
    operation_id="delete_task",
    response_model=TaskDeleted,
    responses=errors(400, 404, *GUARDED),
)
async def delete_task(db: Db, task_id: TaskId, if_match: IfMatch = None) -> Answer:
    """Moves the task to the trash."""
    await tasks.delete(db, task_id, if_match)
    return answer(None, "Task deleted")


@router.patch(
    "/{task_id}/complete",
    operation_id="complete_task",
    response_model=TaskResponse,
    responses=errors(400, 404, *GUARDED, 413, 415),
)
async def complete_task(
    db: Db, task_id: TaskId, body: TaskComplete | None = None, if_match: IfMatch = None
) -> Answer:
    """Toggles without a body, or with `{}` or `null`. With `{"completed": true}` it sets, so a retry is safe."""
    return completed_answer(
        await tasks.complete(db, task_id, body.wanted if body else None, if_match)
    )


def completed_answer(task: tasks.Task) -> Answer:
    done = "completed" if task["completed"] else "incomplete"
    return task_answer(task, f"Task marked as {done}")
