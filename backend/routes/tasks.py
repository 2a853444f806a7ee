"""The plan's endpoints: `/api/{user_id}/tasks`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Security

import tasks
from schemas import ListQuery, TaskComplete, TaskCreate, TaskDeleted, TaskListResponse, TaskResponse, TaskUpdate
from web.answers import Answer, answer, created
from web.documentation import BEARER, errors, owner
from web.doors import Db, Door, Pages, TaskId

router = APIRouter(
    prefix="/api/{user_id}/tasks",
    tags=["tasks"],
    route_class=Door,
    dependencies=[Security(BEARER), Depends(owner)],
    responses=errors(401, 403, 429, 503),
)


@router.get("", operation_id="list_tasks", response_model=TaskListResponse, responses=errors(400))
async def list_tasks(db: Db, pages: Pages, query: Annotated[ListQuery, Query()]) -> Answer:
    """Newest first. Without `limit` all of them; with it a page, and `next_cursor` for the one after."""
    binding = (db.owner, query.filter)
    after = tasks.Position(*pages.open(query.cursor, *binding)) if query.cursor else tasks.NEWEST
    if query.limit is None:
        return answer(await tasks.list_newest_first(db, query.filter, None, after), "Tasks retrieved")
    found = await tasks.list_newest_first(db, query.filter, query.limit + 1, after)
    page, more = found[: query.limit], found[query.limit :]
    next_cursor = pages.make(page[-1]["created_at"], page[-1]["id"], *binding) if more else None
    return answer(page, "Tasks retrieved", next_cursor=next_cursor)


@router.post(
    "", operation_id="create_task", status_code=201, response_model=TaskResponse, responses=errors(400, 413, 415)
)
async def create_task(db: Db, body: TaskCreate) -> Answer:
    task = await tasks.create(db, body.title, body.description)
    return created(task, "Task created", location=f"/api/{quote(db.owner, safe='')}/tasks/{task['id']}")


@router.get("/{task_id}", operation_id="get_task", response_model=TaskResponse, responses=errors(400, 404))
async def get_task(db: Db, task_id: TaskId) -> Answer:
    return answer(await tasks.get(db, task_id), "Task retrieved")


@router.put("/{task_id}", operation_id="update_task", response_model=TaskResponse, responses=errors(400, 404, 413, 415))
async def update_task(db: Db, task_id: TaskId, body: TaskUpdate) -> Answer:
    """Changes the fields that are present. `description: null` clears it."""
    changes = {name: getattr(body, name) for name in body.model_fields_set}
    return answer(await tasks.update(db, task_id, **changes), "Task updated")


@router.patch(
    "/{task_id}", operation_id="patch_task", response_model=TaskResponse, responses=errors(400, 404, 413, 415)
)
async def patch_task(db: Db, task_id: TaskId, body: TaskUpdate) -> Answer:
    """The same as PUT."""
    return await update_task(db, task_id, body)


@router.delete("/{task_id}", operation_id="delete_task", response_model=TaskDeleted, responses=errors(400, 404))
async def delete_task(db: Db, task_id: TaskId) -> Answer:
    await tasks.delete(db, task_id)
    return answer(None, "Task deleted")


@router.patch(
    "/{task_id}/complete",
    operation_id="complete_task",
    response_model=TaskResponse,
    responses=errors(400, 404, 413, 415),
)
async def complete_task(db: Db, task_id: TaskId, body: TaskComplete | None = None) -> Answer:
    """Without a body, or with `{}`: toggle, atomically. With `completed`: set it, so that a retry is safe."""
    wanted = body.completed if body and body.model_fields_set else None
    task = await tasks.complete(db, task_id, wanted)
    return answer(task, "Task marked as completed" if task["completed"] else "Task marked as incomplete")
