"""Who is asking: the user that a bearer token proves, and whether a path is theirs."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from errors import Forbidden
from tokens.verification import CurrentUser, Verifier, bearer_token


async def get_current_user(request: HTTPConnection) -> CurrentUser:
    """The user of the request's bearer token (RFC 6750, the Authorization header only), or
    Unauthorized."""
    verifier: Verifier = request.scope["state"]["verifier"]
    return await verifier.user_of(bearer_token(request.scope["headers"]))


def verify_user_access(user_id: str, current_user: CurrentUser) -> None:
    """Raise Forbidden unless the path's `user_id` is the token's."""
    if user_id != current_user["id"]:
        raise Forbidden
