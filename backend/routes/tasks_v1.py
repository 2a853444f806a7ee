"""A user's tasks: `/v1/tasks`. The user is the token's, and a task may be named by its uid."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Security

import changes
import ids
import selection
import tasks
from entities import TASK
from parameters import TasksQuery
from query.reader import depends_on_the_clock
from routes.tasks import EXISTS, completed_answer
from schemas import (
    TaskComplete,
    TaskCreateV1,
    TaskDeleted,
    TaskPageResponse,
    TaskResponse,
    TaskUpdateV1,
)
from selection import Wanted
from web.answers import Answer, answer, created_answer, task_answer, unchanged
from web.documentation import BEARER, GUARDED, LOCATED, MAYBE_TAGGED, NOT_MODIFIED, errors
from web.doors import Db, Door, IfMatch, IfNoneMatch, Name, PageCursors
from web.fields import entity_tag, is_known, task_tag

router = APIRouter(
    prefix="/v1/tasks",
    tags=["tasks"],
    route_class=Door,
    dependencies=[Security(BEARER)],
    responses=errors(401, 429, 503),
)


@router.get(
    "",
    operation_id="find_tasks",
    response_model=TaskPageResponse,
    responses={200: MAYBE_TAGGED, **NOT_MODIFIED, **errors(400)},
)
async def find_tasks(
    db: Db,
    pages: PageCursors,
    query: Annotated[TasksQuery, Query()],
    if_none_match: IfNoneMatch = None,
) -> Answer:
    """The tasks that a query selects, a page at a time. docs/query.md has the language.

    There is no `ETag` where the answer depends on what time it is, as with `today`.
    """
    sort = ",".join(map(str, query.sort))
    binding = (db.owner, "tasks", query.query.text, sort, query.timezone.key)
    after = pages.unseal(query.cursor, *binding).decode() if query.cursor else None
    tag = None
    if not depends_on_the_clock(query.query.tree):
        tag = entity_tag(db.owner, *await changes.latest(db))
    if tag is not None and is_known(tag, if_none_match):
        return unchanged(tag)
    wanted = Wanted(query.query.tree, query.sort, query.timezone, datetime.now(UTC))
    page = await selection.page(db, wanted, query.limit, after)
    next_cursor = None if page.end is None else pages.seal(page.end.encode(), *binding)
    return answer(page.tasks, "Tasks retrieved", tag, next_cursor=next_cursor)


@router.post(
    "",
    operation_id="create_own_task",
    status_code=201,
    response_model=TaskResponse,
    responses={200: EXISTS, 201: LOCATED, **errors(400, *GUARDED, 413, 415)},
)
async def create_task(db: Db, body: TaskCreateV1, if_match: IfMatch = None) -> Answer:
    """If one of your tasks already has this `uid`, you get that task (200), and nothing is created."""
    task, is_new = await tasks.create(db, body.fields(), body.chosen_uid(), if_match)
    return created_answer(task, task_tag(task), is_new, "Task", f"/v1/tasks/{task['id']}")


@router.get(
    "/{task_id}",
    operation_id="get_own_task",
    response_model=TaskResponse,
    responses={**NOT_MODIFIED, **errors(400, 404)},
)
async def get_task(db: Db, task_id: Name, if_none_match: IfNoneMatch = None) -> Answer:
    task = await tasks.get(db, task_id)
    if is_known(task_tag(task), if_none_match):
        return unchanged(task_tag(task))
    return task_answer(task, "Task retrieved")


@router.patch(
    "/{task_id}",
    operation_id="update_own_task",
    response_model=TaskResponse,
    responses=errors(400, 404, *GUARDED, 413, 415),
)
async def update_task(
    db: Db, task_id: Name, body: TaskUpdateV1, if_match: IfMatch = None
) -> Answer:
    """What is below the task goes along to another list."""
    id = await ids.of(db, TASK, task_id)
    return task_answer(await tasks.update(db, id, body.fields(), if_match), "Task updated")


@router.delete(
    "/{task_id}",
    operation_id="delete_own_task",
    response_model=TaskDeleted,
    responses=errors(400, 404, *GUARDED),
)
async def delete_task(db: Db, task_id: Name, if_match: IfMatch = None) -> Answer:
    """Moves the task to the trash, with what is below it."""
    await tasks.delete(db, await ids.of(db, TASK, task_id), if_match)
    return answer(None, "Task deleted")


@router.post(
    "/{task_id}/complete",
    operation_id="complete_own_task",
    response_model=TaskResponse,
    responses=errors(400, 404, *GUARDED, 413, 415),
)
async def complete_task(
    db: Db, task_id: Name, body: TaskComplete | None = None, if_match: IfMatch = None
) -> Answer:
    """Toggles without a body, or with `{}` or `null`. With `{"completed": true}` it sets, so a retry is safe."""
    id = await ids.of(db, TASK, task_id)
    return completed_answer(await tasks.complete(db, id, body.wanted if body else None, if_match))
