"""Bodies: read up to a limit, then parsed as JSON without any of the leniencies that make two
readers disagree."""

from __future__ import annotations

from typing import Any

from starlette.types import Receive

import strict_json
from errors import Invalid, PayloadTooLarge, Problem, UnsupportedMediaType

LIMIT_BYTES = 64 * 1024


class Disconnected(Exception):
    """The client left before its body had arrived; there is nobody to answer."""


def check_declared_length(headers: dict[bytes, bytes], limit: int = LIMIT_BYTES) -> None:
    """413 for a body that says it is too large, before anybody reads it."""
    length = headers.get(b"content-length", b"0")
    if len(length) > 19 or (length.isdigit() and int(length) > limit):
        raise PayloadTooLarge(limit)


def check_media_type(headers: dict[bytes, bytes]) -> None:
    """415 unless the body is `application/json`, in UTF-8 where a charset is named, and not
    encoded."""
    if b"content-encoding" in headers:
        raise UnsupportedMediaType("Content-Encoding is not supported; send the body as it is")
    media_type, *parameters = headers.get(b"content-type", b"").decode("latin-1").lower().split(";")
    if media_type.strip() != "application/json":
        raise UnsupportedMediaType("Content-Type must be application/json")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8"):
            raise UnsupportedMediaType("Charset must be UTF-8")


async def read(receive: Receive, limit: int = LIMIT_BYTES) -> bytes:
    """The whole body. PayloadTooLarge as soon as more than `limit` bytes have come."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body"):
        return _within(body, limit)
    chunks = [body]
    size = len(body)
    while True:
        if message["type"] == "http.disconnect":
            raise Disconnected
        if size > limit:
            raise PayloadTooLarge(limit)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise PayloadTooLarge(limit)
    return body


def is_none(body: bytes) -> bool:
    """Whether there is no body. `null` is none either: some clients send it when they have nothing
    to say."""
    return body.strip(b" \t\r\n") == b"null" or not body


def parse_object(body: bytes) -> dict[str, Any]:
    try:
        value = strict_json.loads(body)
    except ValueError:
        raise Invalid([Problem("body", "Request body must be valid JSON")]) from None
    if not isinstance(value, dict):
        raise Invalid([Problem("body", "Request body must be a JSON object")])
    return value
