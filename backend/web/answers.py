"""Answers: the one shape of success, the one shape of failure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from errors import ApiError

JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"  # RFC 9457

_REFUSED = re.compile(rb"q=0(\.0*)?")

Headers = list[tuple[bytes, bytes]]


class Answer:
    """A complete response: an ASGI application that sends it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, content_type: bytes = JSON, headers: Headers | None = None) -> None:
        self.status = status
        self.body = body
        self.headers: Headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        if headers:
            self.headers += headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def answer(data: Any, message: str, status: int = 200, **members: Any) -> Answer:
    """`{"data": …, "message": …}`; `members` come after. Rows of the database may stand for objects."""
    return Answer(status, to_json({"data": data, "message": message, **members}, fallback=dict))


def created(data: Mapping[str, Any], message: str, location: str) -> Answer:
    reply = answer(data, message, 201)
    reply.headers.append((b"location", location.encode()))
    return reply


def accepts(header: bytes, name: bytes) -> bool:
    """Whether an Accept or Accept-Encoding header names `name`, and not to refuse it."""
    for item in header.lower().split(b","):
        option, *parameters = [part.strip() for part in item.split(b";")]
        if option == name:
            return not any(_REFUSED.fullmatch(parameter) for parameter in parameters)
    return False


def failure(error: ApiError, accept: bytes = b"") -> Answer:
    """The error as JSON, or as RFC 9457 where the Accept header asks for it."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in error.headers.items()]
    if accepts(accept, PROBLEM_JSON):
        return Answer(error.status, to_json(error.problem_details()), PROBLEM_JSON, headers)
    return Answer(error.status, to_json(error.body()), JSON, headers)
