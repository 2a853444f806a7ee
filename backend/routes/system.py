"""Whether the process is up, and whether it is ready to work."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from database import Database, get_database
from schemas import Health, Ready
from strict_json import dumps
from tokens.keys import Keys, get_keys
from web.admission import everybody
from web.answers import Answer
from web.documentation import errors
from web.doors import door

router = APIRouter(tags=["system"], route_class=door(everybody), responses=errors())

HEALTHY = dumps({"status": "healthy"})


@router.get("/health", operation_id="health", response_model=Health)
async def health() -> Answer:
    """The process is up. This never asks the database."""
    return Answer(200, HEALTHY)


@router.get("/ready", operation_id="ready", response_model=Ready, responses={503: {"model": Ready}})
async def ready(
    database: Annotated[Database, Depends(get_database)], keys: Annotated[Keys, Depends(get_keys)]
) -> Answer:
    """Checks everything that the server needs. 503 if something is missing."""
    checks = {**await database.checks(), "keys": keys.check()}
    well = all(check.ok for check in checks.values())
    report = Ready(status="ready" if well else "not ready", checks=checks)
    headers = [] if well else [(b"retry-after", b"2")]
    return Answer(200 if well else 503, dumps(report), headers=headers)
