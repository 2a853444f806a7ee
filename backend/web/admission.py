"""Who may come in through a door."""

from __future__ import annotations

from typing import Protocol

from auth import get_current_user, verify_user_access
from call import Call
from web.limits import RateLimiter


class Owned(Protocol):
    """A door whose path may name the owner of what lies behind it, as its segment number
    `owner_at`."""

    owner_at: int | None


async def bearer(call: Call, door: Owned) -> None:
    """The user of the bearer token, on their own paths, within the rate limit."""
    user = await get_current_user(call)
    call.user_id = user["id"]
    if door.owner_at is not None:
        verify_user_access(call.path[door.owner_at], user)
    limiter: RateLimiter | None = call.scope["state"]["limiter"]
    if limiter is not None:
        limiter.take(call.user_id)


async def everybody(call: Call, door: Owned) -> None:
    """Nobody is asked for anything."""
