"""A call: a request, and what is known of it by now."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import Scope

from postgres.pool import Transaction


class Call(HTTPConnection):
    """What an endpoint's dependencies take, as FastAPI's own do. `scope` stays as the server made
    it."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.method: str = scope["method"]
        self.fields: dict[bytes, bytes] = dict(
            scope["headers"]
        )  # header fields; of several lines the last
        self.request_id = ""  # for the log
        self.path: tuple[str, ...] = ()  # its decoded segments
        self.door: Any = None  # that the path leads to: the log shows its template
        self.user_id = ""  # once the caller is known
        self.transaction: Transaction | None = None  # that everything is to be part of

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the server stops: answers that stay open end then. Another server than ours
        never says it."""
        stopping: asyncio.Event = self.scope.get("state", {}).get("stopping") or asyncio.Event()
        return stopping

    def lines(self, name: bytes) -> list[bytes]:
        """Every line of a header field; most requests have none."""
        if name not in self.fields:
            return []
        return [value for other, value in self.scope["headers"] if other == name]
