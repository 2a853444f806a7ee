"""What OpenAPI says of every door: its errors, its token, and nothing that is not true."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from fastapi.security import HTTPBearer

from schemas import ErrorResponse, ProblemDetails
from web.fields import KEY_MAX

BEARER = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="JWT",
    description="A token of your Better Auth frontend, or one to try with: `python3 run.py token --user ada`",
    auto_error=False,
)


def owner(user_id: Annotated[str, Path(description="The token's `sub`", examples=["ada"])]) -> None:
    """Documents the path's user. The door has checked it."""


_WHEN = {
    400: "The body, query, path or a header is not what is asked",
    401: "No token, or one that does not count; `reason` says why",
    403: "The path's user is not the token's",
    404: "Absent, deleted or another user's: all the same",
    409: "It meets something that it may not do away with; or, with a key, the same request is still running",
    410: "`since` is beyond your last change: the database was restored or began again. Read everything again",
    412: "`If-Match` names another version; `data` is the task as it now is",
    413: "The body is over 64 KiB",
    415: "The body is not `application/json` in UTF-8",
    422: "The `Idempotency-Key` was used for another request",
    429: "Too many requests; `Retry-After` says when to come back",
    503: "The database is out of reach, or busy; `Retry-After` says when to come back",
}


NOT_MODIFIED: dict[int | str, Any] = {304: {"description": "What you have is what you would get"}}
GUARDED = (409, 412, 422)  # what a write may be answered for its key, its condition, or what it meets

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Sent again with the same key, the request is not done again: you get its first answer",
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX, "pattern": "^[!-~]+$"},
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of doors that may answer so. `default` stands for what any server may say, 500 included."""
    described: dict[int | str, str] = {**{status: _WHEN[status] for status in statuses}, "default": "Any other failure"}
    return {status: {"model": ErrorResponse, "description": text} for status, text in described.items()}


def complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Add to FastAPI's document what it cannot know: every error may also be had as RFC 9457."""
    components = schema["components"]["schemas"]
    components["ProblemDetails"] = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    for path in schema["paths"].values():
        for method, operation in path.items():
            if method != "get" and operation.get("security"):
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5", "d")):
                    response["content"]["application/problem+json"] = {
                        "schema": {"$ref": "#/components/schemas/ProblemDetails"}
                    }
    return schema
