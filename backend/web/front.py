"""The front: every request passes here first and every answer last, 500s included."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from random import getrandbits

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from call import Call
from errors import ApiError, MethodNotAllowed, ServerError, SettingError
from web import bodies
from web.access_log import AccessLog
from web.answers import Answer, refusal
from web.doors import Door
from web.origins import Origins
from web.paths import segments

log = logging.getLogger("todo.web")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PREFLIGHT_MAX_AGE_SECONDS = 600
NO_STORE = (b"cache-control", b"no-store")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_FIELD_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~ \t,-]{1,1024}")


class Front:
    """Finds the door, adds the headers that every answer carries, and turns what is raised into an
    answer.

    Paths without a door go on to `app`, the ordinary FastAPI stack: to a plain route, if there is
    one, or its 404.
    """

    def __init__(
        self,
        app: ASGIApp,
        doors: Iterable[Door],
        origins: Iterable[str],
        access: AccessLog | None = None,
    ) -> None:
        self.app = app
        self.doors: dict[int, list[Door]] = {}  # by the number of their segments
        for door in doors:
            self.doors.setdefault(len(door.template), []).append(door)
        self.origins = Origins(origins)
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, _in_one_line(send))
            return
        began = time.perf_counter()
        call = Call(scope)
        request_id = call.fields.get(b"x-request-id", b"")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = b"%016x" % getrandbits(64)  # to find a line in the log, and no secret
        call.request_id = request_id.decode()
        common = [
            (b"x-request-id", request_id),
            (b"x-content-type-options", b"nosniff"),
            (b"vary", b"Origin"),
        ]
        origin = call.fields.get(b"origin")
        if origin is not None:
            common += self.origins.fields_for(origin, call.fields)
        status = 0

        async def send_all(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = message["headers"]
                message["headers"] = [*own, *common]
                if b"cache-control" not in [name for name, _ in own]:
                    message["headers"].append(NO_STORE)
            await send(message)

        try:
            await self._handle(call, receive, send_all, origin)
        except bodies.Disconnected:
            pass
        except Exception as error:
            if not isinstance(error, ApiError):
                log.exception("request %s failed", call.request_id)
                error = ServerError()
            if status:  # an answer has begun; it gets no end, so the server cuts the connection
                status = error.status
            else:
                say = call.door.dialect.refusal if call.door else refusal
                await say(error, call)(scope, receive, send_all)
        finally:
            if self.access is not None:
                self.access(call, status, time.perf_counter() - began)

    async def _handle(self, call: Call, receive: Receive, send: Send, origin: bytes | None) -> None:
        if (
            call.method == "OPTIONS" and call.scope["path"] == "*"
        ):  # the server as a whole: RFC 9110 section 9.3.7
            raise MethodNotAllowed(METHODS)
        call.path = segments(call.scope)
        passed: list[Door] = []  # on this path, for other methods
        for door in self.doors.get(len(call.path), ()):
            if not door.leads_to(call.path):
                continue
            call.door = door
            if call.method in door.answers:
                bodies.check_declared_length(call.fields, door.limit_bytes)
                await door.open(call, receive, send)
                return
            passed.append(door)
        preflight = call.method == "OPTIONS" and b"access-control-request-method" in call.fields
        if not preflight:
            bodies.check_declared_length(call.fields)
        if preflight and origin is not None:
            await self._preflight(call, origin)(call.scope, receive, send)
            return
        if passed:
            raise MethodNotAllowed(
                [name for name in METHODS if any(name in door.answers for door in passed)]
            )
        await self.app(call.scope, receive, send)

    def _preflight(self, call: Call, origin: bytes) -> Answer:
        """204 with what is allowed. Another origin gets no permission, and so its browser refuses."""
        reply = Answer(204, b"")
        reply.headers = []
        if origin in self.origins:
            asked = call.fields.get(b"access-control-request-headers", b"")
            reply.headers = [
                (b"access-control-allow-methods", ", ".join(METHODS).encode()),
                (
                    b"access-control-allow-headers",
                    asked if _FIELD_NAMES.fullmatch(asked) else b"Authorization",
                ),
                (b"access-control-max-age", b"%d" % PREFLIGHT_MAX_AGE_SECONDS),
            ]
        return reply


def _in_one_line(send: Send) -> Send:
    """Of a start that fails for a wrong setting, the sentence; Starlette would send the traceback
    around it."""

    async def send_line(message: Message) -> None:
        kind, _, sentence = (
            str(message.get("message", "")).strip().rpartition("\n")[2].partition(": ")
        )
        if kind == f"{SettingError.__module__}.{SettingError.__qualname__}":
            message = {**message, "message": sentence}
        await send(message)

    return send_line
