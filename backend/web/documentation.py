"""What OpenAPI says of every door: its errors, its token, and nothing that is not true."""

from __future__ import annotations

from typing import Any

from fastapi.security import HTTPBearer

from schemas import ErrorResponse

BEARER = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="JWT",
    description="A token of your Better Auth frontend, or for trying: `python3 run.py token --user ada`",
    auto_error=False,
)

_WHEN = {
    400: "The body, query or path is not what is asked",
    401: "No token, or one that does not count; `reason` says why",
    403: "The path's user is not the token's",
    404: "Absent, deleted or another user's: all the same",
    413: "The body is over 64 KiB",
    415: "The body is not `application/json` in UTF-8",
    429: "Too many requests",
    503: "The database is out of reach, or busy",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of doors that may answer so. `default` stands for what any server may say (500)."""
    documented: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        documented[status] = {
            "model": ErrorResponse,
            "description": _WHEN[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
    documented["default"] = {"model": ErrorResponse, "description": "Any other failure"}
    return documented
