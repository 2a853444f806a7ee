"""What happened, and how to undo it: `/v1/changes`, `/v1/undo`. The user is the token's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Security

import changes
import undo
from parameters import ChangesQuery
from schemas import ChangesResponse, UndoGroup, UndoResponse
from web.answers import Answer, answer, log_entries
from web.documentation import BEARER, GUARDED, errors
from web.doors import Db, Door, IfMatch, Seq

router = APIRouter(
    prefix="/v1",
    tags=["changes"],
    route_class=Door,
    dependencies=[Security(BEARER)],
    responses=errors(401, 429, 503),
)


@router.get(
    "/changes",
    operation_id="list_changes",
    response_model=ChangesResponse,
    responses=errors(400, 410),
)
async def list_changes(db: Db, query: Annotated[ChangesQuery, Query()]) -> Answer:
    """The changes after `since`, oldest first: who changed what and when, with the old and new values."""
    found = await changes.since(db, query.since, query.limit)
    return answer(found, "Changes retrieved", next_since=found[-1]["seq"] if found else query.since)


@router.post(
    "/changes/{seq}/undo",
    operation_id="undo_change",
    response_model=UndoResponse,
    responses=errors(400, 404, *GUARDED, 413),
)
async def undo_change(db: Db, seq: Seq, if_match: IfMatch = None) -> Answer:
    """Undoes one change by a new change, which can be undone too. 409 if that would overwrite something newer."""
    return log_entries(await undo.change(db, seq, if_match), "Change undone")


@router.post(
    "/undo",
    operation_id="undo_group",
    response_model=UndoResponse,
    responses=errors(400, 404, *GUARDED, 413, 415),
)
async def undo_group(db: Db, body: UndoGroup, if_match: IfMatch = None) -> Answer:
    """Undoes all changes of a group, or none of them."""
    return log_entries(await undo.group(db, body.group, if_match), "Changes undone")
