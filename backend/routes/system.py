"""Is the process up, and is it ready to work."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic_core import to_json

from schemas import Health
from web.answers import Answer
from web.doors import PublicDoor

router = APIRouter(tags=["system"], route_class=PublicDoor)

HEALTHY = to_json({"status": "healthy"})


@router.get("/health", operation_id="health", response_model=Health)
async def health() -> Answer:
    """The process answers. Never touches the database."""
    return Answer(200, HEALTHY)
