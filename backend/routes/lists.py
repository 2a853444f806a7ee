"""A user's lists: `/v1/lists`. The user is the token's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Security

import ids
import lists
from database import OwnerDatabase
from entities import LIST
from schemas import ListCreate, ListDeleted, ListResponse, ListsResponse, ListUpdate
from web.answers import Answer, answer, created_answer, object_answer, unchanged
from web.documentation import BEARER, GUARDED, LOCATED, NOT_MODIFIED, errors
from web.doors import Db, Door, IfMatch, IfNoneMatch, Name
from web.fields import entity_tag, is_known

EXISTS = {
    **LOCATED,
    "model": ListResponse,
    "description": "One of your lists already has this `uid`. Nothing was created; `data` is that list",
}

router = APIRouter(
    prefix="/v1/lists",
    tags=["lists"],
    route_class=Door,
    dependencies=[Security(BEARER)],
    responses=errors(401, 429, 503),
)


@router.get(
    "",
    operation_id="list_lists",
    response_model=ListsResponse,
    responses={**NOT_MODIFIED, **errors(400)},
)
async def list_lists(db: Db, if_none_match: IfNoneMatch = None) -> Answer:
    """All lists, by position. The Inbox is no list: it holds the tasks whose `list_id` is null."""
    revision, found = await lists.all(db)
    tag = entity_tag(db.owner, *revision)
    if is_known(tag, if_none_match):
        return unchanged(tag)
    return answer(found, "Lists retrieved", tag)


@router.post(
    "",
    operation_id="create_list",
    status_code=201,
    response_model=ListResponse,
    responses={200: EXISTS, 201: LOCATED, **errors(400, *GUARDED, 413, 415)},
)
async def create_list(db: Db, body: ListCreate, if_match: IfMatch = None) -> Answer:
    """If one of your lists already has this `uid`, you get that list (200), and nothing is created."""
    found, is_new = await lists.create(db, body.fields(), body.chosen_uid(), if_match)
    return created_answer(found, _tag(db, found), is_new, "List", f"/v1/lists/{found['id']}")


@router.get(
    "/{list_id}",
    operation_id="get_list",
    response_model=ListResponse,
    responses={**NOT_MODIFIED, **errors(400, 404)},
)
async def get_list(db: Db, list_id: Name, if_none_match: IfNoneMatch = None) -> Answer:
    found = await lists.get(db, list_id)
    tag = _tag(db, found)
    if is_known(tag, if_none_match):
        return unchanged(tag)
    return list_answer(db, found, "List retrieved")


@router.patch(
    "/{list_id}",
    operation_id="update_list",
    response_model=ListResponse,
    responses=errors(400, 404, *GUARDED, 413, 415),
)
async def update_list(db: Db, list_id: Name, body: ListUpdate, if_match: IfMatch = None) -> Answer:
    id = await ids.of(db, LIST, list_id)
    return list_answer(db, await lists.update(db, id, body.fields(), if_match), "List updated")


@router.delete(
    "/{list_id}",
    operation_id="delete_list",
    response_model=ListDeleted,
    responses=errors(400, 404, *GUARDED),
)
async def delete_list(db: Db, list_id: Name, if_match: IfMatch = None) -> Answer:
    """Moves the list to the trash, with its tasks."""
    await lists.delete(db, await ids.of(db, LIST, list_id), if_match)
    return answer(None, "List deleted")


def list_answer(db: OwnerDatabase, found: Mapping[str, Any], message: str) -> Answer:
    return object_answer(found, _tag(db, found), message)


def _tag(db: OwnerDatabase, found: Mapping[str, Any]) -> bytes:
    return entity_tag(db.owner, found["version"], found["updated_at"])
