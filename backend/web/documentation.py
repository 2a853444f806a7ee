"""What the OpenAPI document says about every endpoint: its token, its errors and its header fields."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from fastapi.security import HTTPBearer

from schemas import ErrorResponse, ProblemDetails
from web.fields import KEY_PATTERN

BEARER = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="JWT",
    description="A token of your Better Auth frontend. To try the API: `python3 run.py token --user ada`",
    auto_error=False,
)


def owner(user_id: Annotated[str, Path(description="The token's `sub`", examples=["ada"])]) -> None:
    """Documents the user of the path. The door has already compared it with the token."""


_WHEN = {
    400: "The body, the query, the path or a header is invalid; `errors` says what is wrong",
    401: "The token is missing or invalid; `reason` says why",
    403: "The `user_id` of the path is not the user of the token",
    404: "Not found: it does not exist, it was deleted, or it belongs to another user",
    409: "Conflict; `code` says which: the uid is in the trash, there is no room for another one, "
    "an undo would overwrite a newer change, or a request with this key is still running",
    410: "`since` is beyond your last change: the database was restored, or is a new one. Read everything again",
    412: "The version has changed since, so nothing was done; `data` is the current task or list",
    413: "The body is larger than 64 KiB",
    415: "The body is not `application/json` in UTF-8",
    422: "The `Idempotency-Key` was used for another request",
    429: "Too many requests; try again after `Retry-After` seconds",
    503: "The database or the signing keys are out of reach, or the server is busy; "
    "try again after `Retry-After` seconds",
}


NOT_MODIFIED: dict[int | str, Any] = {
    304: {"description": "Not modified: what you have is current"}
}
GUARDED = (409, 412, 422)  # what a write may also answer: for its key, its condition, or a conflict

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "If you send the request again with the same key, it is not done again: you get its first answer",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
}


_ETAG = {"type": "string", "pattern": '^"[!#-~]+"$'}
_SECONDS = {"type": "integer", "minimum": 1}

# The header fields of answers, without those of the transport, of CORS, and `Vary` and
# `X-Content-Type-Options`.
HEADERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "description": "The one that you sent, or a new one. The server's log has it",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "CacheControl": {"required": True, "schema": {"type": "string"}},
    "ETag": {
        "description": "For `If-Match` and `If-None-Match`",
        "required": True,
        "schema": _ETAG,
    },
    "SometimesETag": {"description": "Unless the answer depends on the clock", "schema": _ETAG},
    "CurrentETag": {
        "description": "Of the task or list in `data`, if there is one",
        "schema": _ETAG,
    },
    "Location": {
        "description": "The path of the task or list",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Replayed": {
        "description": "The request was done before: this is its first answer",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Challenge": {
        "description": "RFC 6750: `Bearer`, and what is wrong with the token",
        "required": True,
        "schema": {"type": "string", "pattern": '^Bearer realm="todo"'},
    },
    "RetryAfter": {
        "description": "The number of seconds to wait before the next attempt",
        "required": True,
        "schema": _SECONDS,
    },
    "RetryAfterRunning": {
        "description": "Seconds, if the same request is still running",
        "schema": _SECONDS,
    },
    "Allow": {
        "description": "405: the methods that the path supports",
        "schema": {"type": "string"},
    },
}


def _field(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


OF_EVERY_ANSWER = {"X-Request-Id": _field("RequestId"), "Cache-Control": _field("CacheControl")}
OF_ERRORS = {
    "401": {"WWW-Authenticate": _field("Challenge")},
    "409": {"Retry-After": _field("RetryAfterRunning")},
    "412": {"ETag": _field("CurrentETag")},
    "429": {"Retry-After": _field("RetryAfter")},
    "503": {"Retry-After": _field("RetryAfter")},
    "default": {"Allow": _field("Allow")},
}
LOCATED: dict[str, Any] = {"headers": {"Location": _field("Location")}}
MAYBE_TAGGED: dict[str, Any] = {"headers": {"ETag": _field("SometimesETag")}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an endpoint. `default` stands for every other failure, 500 included."""
    described: dict[int | str, str] = {
        **{status: _WHEN[status] for status in statuses},
        "default": "Any other failure",
    }
    return {
        status: {"model": ErrorResponse, "description": text} for status, text in described.items()
    }


def complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Add what FastAPI cannot know: header fields, and that every error may also be had as RFC
    9457."""
    schema["components"]["headers"] = HEADERS
    _add_problem_details(schema["components"]["schemas"])
    for path in schema["paths"].values():
        for method, operation in path.items():
            writes = method != "get" and bool(operation.get("security"))
            if writes:
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
            for status, response in operation["responses"].items():
                _add_problem_json(response)
                response["headers"] = {
                    **OF_EVERY_ANSWER,
                    **response.get("headers", {}),
                    **OF_ERRORS.get(status, {}),
                }
                if status == "304" or (status.startswith("2") and _has_etag(operation, response)):
                    response["headers"].setdefault("ETag", _field("ETag"))
                if status.startswith("2") and writes:
                    response["headers"]["Idempotency-Replayed"] = _field("Replayed")
    return schema


def _add_problem_details(schemas: dict[str, Any]) -> None:
    """With the schemas that it names beside it: inside of it they would become types of their own."""
    problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(
        {name: named for name, named in problem.pop("$defs").items() if name not in schemas}
    )
    schemas["ProblemDetails"] = problem


def _add_problem_json(response: dict[str, Any]) -> None:
    content = response.get("content", {})
    if _reference(content) == "ErrorResponse":
        content["application/problem+json"] = {
            "schema": {"$ref": "#/components/schemas/ProblemDetails"}
        }


def _has_etag(operation: dict[str, Any], response: dict[str, Any]) -> bool:
    """An answer of one task or list has one, and so has what can be asked for with `If-None-Match`."""
    conditional = any(
        parameter["name"] == "If-None-Match" for parameter in operation.get("parameters", ())
    )
    shown = _reference(response.get("content", {}))
    return conditional or shown in ("TaskResponse", "ListResponse")


def _reference(content: dict[str, Any]) -> str:
    """`Task` of a content whose schema is `#/components/schemas/Task`."""
    reference: str = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return reference.rpartition("/")[2]
