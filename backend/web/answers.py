"""Answers: the one shape of success, the one shape of failure."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from call import Call
from errors import ApiError, PreconditionFailed
from idempotency import StoredAnswer
from strict_json import dumps
from web.bodies import Disconnected
from web.fields import entity_tag, task_tag

JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"  # RFC 9457

_REFUSED = re.compile(rb"q=0(\.0*)?")

Headers = list[tuple[bytes, bytes]]
# Keep it, and ask each time whether it still is so.
REVALIDATE = (b"cache-control", b"private, no-cache")


class Answer:
    """A complete response: an ASGI application that sends it. `shows` has the ids of the objects in
    it."""

    __slots__ = ("body", "headers", "shows", "status")

    def __init__(
        self, status: int, body: bytes, content_type: bytes = JSON, headers: Headers | None = None
    ) -> None:
        self.status = status
        self.body = body
        self.shows: Collection[int] = ()
        self.headers: Headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
        ]
        if headers:
            self.headers += headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class Streamed:
    """A 200 of JSON whose body is made while it is sent, one chunk at a time, and no further than
    the client is there.

    An error in between goes up: the server then cuts the connection, and the client sees that the
    body has no end.
    """

    __slots__ = ("chunks", "headers")

    def __init__(self, chunks: AsyncIterator[bytes], headers: Headers) -> None:
        self.chunks = chunks
        self.headers: Headers = [(b"content-type", JSON), *headers]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await self._begin(send)
        elif scope["http_version"] == "1.0":
            await self._send_whole(receive, send)
        else:
            await self._begin(send)
            async for chunk in _while_there(self.chunks, receive):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                del chunk  # many may wait here for the next one
        await send({"type": "http.response.body"})

    async def _send_whole(self, receive: Receive, send: Send) -> None:
        """HTTP/1.0 has no chunked coding, and without it or a length nobody sees whether the body
        has its end."""
        chunks = [chunk async for chunk in _while_there(self.chunks, receive)]
        self.headers.append((b"content-length", b"%d" % sum(map(len, chunks))))
        await self._begin(send)
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})


class Stream:
    """An answer that stays open, such as server-sent events: it ends when its client leaves or the
    server stops.

    Either is noticed at once, also while there is nothing to send; the reading of the next chunk is
    then cancelled.
    """

    __slots__ = ("chunks", "headers", "stopping")

    def __init__(
        self, chunks: AsyncIterator[bytes], content_type: bytes, stopping: asyncio.Event
    ) -> None:
        self.chunks = chunks
        self.stopping = stopping
        self.headers: Headers = [(b"content-type", content_type)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        if scope["method"] != "HEAD":
            async for chunk in _until(self.chunks, _left(receive), self.stopping.wait()):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})


async def _until(
    chunks: AsyncIterator[bytes], *ends: Coroutine[Any, Any, Any]
) -> AsyncIterator[bytes]:
    """The chunks until one of `ends` has come."""
    ending = [asyncio.create_task(end) for end in ends]
    following: asyncio.Future[bytes | None] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(chunks, None))
            await asyncio.wait([following, *ending], return_when=asyncio.FIRST_COMPLETED)
            if any(end.done() for end in ending) or (chunk := following.result()) is None:
                return
            yield chunk
    finally:
        for task in [*ending, *([following] if following else [])]:
            task.cancel()


async def _while_there(chunks: AsyncIterator[bytes], receive: Receive) -> AsyncIterator[bytes]:
    """Read on only as long as somebody waits for it. Disconnected when the client has left."""
    leaving = asyncio.create_task(_left(receive))
    try:
        async for chunk in chunks:
            yield chunk
            del chunk
            if leaving.done():
                raise Disconnected
    finally:
        leaving.cancel()


async def _left(receive: Receive) -> None:
    """Returns when the client has left. `send` does not say it."""
    while (await receive())["type"] != "http.disconnect":
        pass


def answer(
    data: Any, message: str, tag: bytes | None = None, status: int = 200, **members: Any
) -> Answer:
    """`{"data": …, "message": …}`; `members` come after. Rows of the database may stand for
    objects.

    `tag` is the ETag of `data`, if it has one.
    """
    headers = None if tag is None else _validators(tag)
    return Answer(status, dumps({"data": data, "message": message, **members}), headers=headers)


def streamed(
    first: list[Any], rest: AsyncIterator[list[Any]], message: str, tag: bytes
) -> Streamed:
    """What `answer` of the whole list would be, `first` and then `rest`, which is read as it is
    sent.

    Each of these lists is emptied once it is JSON: rows take several times its memory, and many
    clients may be slow.
    """

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"data":' + _taken(first)[:-1]
        async for batch in rest:
            yield b"," + _taken(batch)[1:-1]
        yield b'],"message":' + dumps(message) + b"}"

    return Streamed(chunks(), _validators(tag))


def _validators(tag: bytes) -> Headers:
    """What a client asks with whether it still is so."""
    return [(b"etag", tag), REVALIDATE]


def _taken(rows: list[Any]) -> bytes:
    text = dumps(rows)
    rows.clear()
    return text


def task_answer(task: Mapping[str, Any], message: str) -> Answer:
    return object_answer(task, task_tag(task), message)


def object_answer(found: Mapping[str, Any], tag: bytes, message: str, status: int = 200) -> Answer:
    reply = answer(found, message, tag, status)
    reply.shows = (found["id"],)
    return reply


def created_answer(
    found: Mapping[str, Any], tag: bytes, is_new: bool, noun: str, location: str
) -> Answer:
    """201, or 200 with the one that was there already."""
    message, status = (f"{noun} created", 201) if is_new else (f"{noun} already exists", 200)
    return with_location(location, object_answer(found, tag, message, status))


def log_entries(made: list[dict[str, Any]], message: str) -> Answer:
    """Changes, as the change log has them."""
    reply = answer(made, message)
    reply.shows = {change["entity_id"] for change in made}
    return reply


def with_location(location: str, reply: Answer) -> Answer:
    """`reply`, saying where what it carries is found."""
    reply.headers.append((b"location", location.encode()))
    return reply


def not_modified(*headers: tuple[bytes, bytes]) -> Answer:
    """304: the client has what it would get. It carries the fields that a 200 would (RFC 9110
    section 15.4.5)."""
    reply = Answer(304, b"")
    reply.headers = list(headers)
    return reply


def unchanged(tag: bytes) -> Answer:
    return not_modified(*_validators(tag))


def stored_answer(reply: Answer) -> StoredAnswer:
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return StoredAnswer(reply.status, headers, reply.body, reply.shows)


def replay(stored: StoredAnswer, again: bool) -> Answer:
    """The answer that is kept of a write, sent for the first time or `again`."""
    reply = Answer(stored.status, stored.body)
    reply.headers = [(name.encode(), value.encode()) for name, value in stored.headers.items()]
    if again:
        reply.headers.append((b"idempotency-replayed", b"true"))
    return reply


def accepts(header: bytes, name: bytes) -> bool:
    """Whether an Accept or Accept-Encoding header names `name`, and not to refuse it."""
    for item in header.lower().split(b","):
        option, *parameters = [part.strip() for part in item.split(b";")]
        if option == name:
            return not any(_REFUSED.fullmatch(parameter) for parameter in parameters)
    return False


def refusal(error: ApiError, call: Call) -> Answer:
    """The error as JSON, or as RFC 9457 where the Accept header asks for it."""
    headers = [
        (name.lower().encode(), value.encode("latin-1")) for name, value in error.headers.items()
    ]
    if isinstance(error, PreconditionFailed) and error.current:
        current = error.current
        headers += _validators(entity_tag(call.user_id, current["version"], current["updated_at"]))
    if accepts(call.fields.get(b"accept", b""), PROBLEM_JSON):
        return Answer(error.status, dumps(error.problem_details()), PROBLEM_JSON, headers)
    return Answer(error.status, dumps(error.body()), JSON, headers)
