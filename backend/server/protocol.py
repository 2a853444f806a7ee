"""The requests of one connection: what they may be, and in which order they are answered."""

from __future__ import annotations

import asyncio
import math
import re
from typing import Any, NoReturn
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send

from errors import ApiError, BadRequest, HeadersTooLarge, UriTooLong
from server import target
from server.connection import Connection
from server.exchange import Exchange
from web import bodies
from web.front import METHODS, Front

URI_MAX_BYTES = 8 * 1024
FIELDS_MAX_BYTES = 32 * 1024  # names and values together
FIELDS_MAX = 100
FRAMING_MAX_BYTES = (
    64 * 1024
)  # sizes, extensions and trailers of one chunked body, and FRAMING_PER_BYTE
FRAMING_PER_BYTE = (
    16  # for each byte of the body: the smallest chunk takes 5, and may have a short extension
)
PIPELINED_MAX = 16  # requests of one connection that wait for their turn

_WHITE_SPACE_BYTES = (
    1024  # colons, spaces and line ends of a head that is not complete yet, or before it
)
_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_OTHER_METHOD = re.compile(rb"([A-Za-z][A-Za-z-]{0,31}) ")
_STAND_IN = b"UNBIND"  # parsed in place of a method that the parser does not know, so that the application answers 405


class _Full(Exception):
    """PIPELINED_MAX requests wait; the answer to the last of them says that the connection ends
    with it."""


async def raise_refusal(scope: Scope, receive: Receive, send: Send) -> NoReturn:
    raise scope["refusal"]


class Protocol(Connection):
    """What arrives is read within limits, or refused.

    Of uvicorn this and Connection rely on: the attributes app, loop, parser, transport, flow,
    cycle, pipeline, scope, url, headers, server_state, server, client, scheme, logger,
    access_logger; the parser callbacks below and connection_made, connection_lost, resume_writing,
    shutdown, _start_asgi_task; of a cycle its constructor, the attributes that these and Exchange
    name, run_asgi and receive; of FlowControl read_paused, pause_reading and resume_reading,
    write_paused and drain; that the newest request of `pipeline` is at its left end; and that the
    transport is used by no more than the names in Line. tests/test_server.py holds each of them to
    it over real sockets.
    """

    refuse: ASGIApp = Front(raise_refusal, (), frozenset())

    in_head = False
    begun = 0  # heads that began in the data just received
    head_bytes = 0
    field_bytes = 0
    framing_bytes = 0  # that this body may still take
    full = False  # no further request of this connection is taken
    keep_alive_after_body: bool | None = None
    other_method: str | None = None  # of the request that is being read as _STAND_IN
    refusal: ApiError | None = None
    good_host: bytes | None = None

    # --- what arrives ---

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            return
        between = not (self.in_head or self.in_body)
        body_of = self.cycle if self.in_body else None
        self.begun = 0
        if not self._parse(data, between):
            return
        if self.in_head and self.begun <= between:  # else the data holds more than this head
            self.head_bytes += len(data)
            if self.head_bytes - len(self.url) > FIELDS_MAX_BYTES + _WHITE_SPACE_BYTES:
                self._answer_refusal(HeadersTooLarge())
        elif between and not self.begun:
            self.head_bytes += len(data)
            if self.head_bytes > _WHITE_SPACE_BYTES:
                self._answer_refusal(
                    BadRequest("A request must not begin with more than 1 KiB of empty lines")
                )
        elif self.in_body and self.cycle is body_of:  # else the data holds more than this body
            self.framing_bytes -= len(data)
            if self.framing_bytes < 0:
                self._answer_refusal(
                    BadRequest("Chunk extensions and trailers must not exceed 64 KiB")
                )

    def _parse(self, data: bytes, between: bool) -> bool:
        """False if it could not be read to its end: then the refusal is on its way. `between`: a
        request begins."""
        fed = data
        while True:
            try:
                self.parser.feed_data(fed)
                return True
            except httptools.HttpParserUpgrade as upgrade:
                fed = self._without_upgrade() + fed[upgrade.args[0] :]
            except httptools.HttpParserInvalidMethodError:
                other = _OTHER_METHOD.match(data) if between and fed is data else None
                if other is None or other[1].decode() in METHODS:
                    return self._unreadable()
                self.other_method = other[1].decode()
                self._new_parser()
                fed = _STAND_IN + data[other.end(1) :]
            except httptools.HttpParserError:
                return self._unreadable()

    def _unreadable(self) -> bool:
        if not self.deaf:
            self._answer_refusal(self.refusal or BadRequest("Request cannot be read as HTTP/1.1"))
        return False

    def on_message_begin(self) -> None:
        if self.full:
            self.deaf = True
            raise _Full
        super().on_message_begin()
        self.begun += 1
        self.in_head = True
        self.resting = False
        self.head_bytes = self.field_bytes = 0
        self.single = {}
        self.keep_alive_after_body = None
        self.waiting_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > URI_MAX_BYTES:
            self._stop(UriTooLong())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.field_bytes += len(name) + len(value)
        if self.field_bytes > FIELDS_MAX_BYTES or len(self.headers) >= FIELDS_MAX:
            self._stop(HeadersTooLarge())
        if not self.in_head:
            return  # a trailer is no header: RFC 9110 section 6.5.1
        name = name.lower()
        if name in _SINGLE:
            if name in self.single:
                self._stop(BadRequest(f"{name.decode().title()} must be sent once"))
            self.single[name] = value
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.head_bytes = 0
        self.framing_bytes = FRAMING_MAX_BYTES
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if self.parser.should_upgrade() and method != b"CONNECT":
            return  # its head comes again, without the upgrade
        length, coding = self._framing(method, version)
        try:
            raw_path, query = target.split(self.url, method)
        except BadRequest as refusal:
            self._stop(refusal)
        path = raw_path.decode("ascii")
        self.scope["method"], self.other_method = self.other_method or method.decode("ascii"), None
        self.scope["http_version"] = version
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"] = raw_path
        self.scope["query_string"] = query
        self.scope["state"]["stopping"] = self._stopping
        waits = self.cycle is not None and not self.cycle.response_complete
        expects = self.single.get(b"expect", b"").lower() == b"100-continue"
        self.cycle = self._exchange(
            self.scope, version != "1.0" and self.parser.should_keep_alive(), expects
        )
        self.in_body = True
        if coding or length > bodies.LIMIT_BYTES or expects:
            # An answer before this body has come ends the connection; most of the body is then
            # never sent.
            self.keep_alive_after_body = self.cycle.keep_alive
            self.cycle.keep_alive = False
        self.waiting_since = self.loop.time()
        if not waits:
            self._start_asgi_task(self.cycle, self.app)
            return
        self.flow.pause_reading()
        self.pipeline.appendleft((self.cycle, self.app))
        if len(self.pipeline) >= PIPELINED_MAX:
            self.cycle.keep_alive = False
            self.full = True

    def on_body(self, body: bytes) -> None:
        self.framing_bytes += len(body) * (
            1 + FRAMING_PER_BYTE
        )  # itself, which is among the data that came
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.in_body:
            return
        self.in_body = False
        cycle = self.cycle
        if cycle.response_complete:
            self._rest()
            return
        self.waiting_since = math.inf
        if self.keep_alive_after_body is not None and not cycle.response_started:
            cycle.keep_alive = self.keep_alive_after_body and not self.draining
        cycle.more_body = False
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self.in_body:  # which could not be read until now
                self.waiting_since = self.loop.time()
        elif not (self.in_head or self.in_body):
            self._rest()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    # --- what is refused ---

    def _stop(self, refusal: ApiError) -> NoReturn:
        self.refusal = refusal
        raise refusal

    def _framing(self, method: bytes, version: str) -> tuple[int, bytes]:
        """The declared length and the transfer coding, of a head with one good Host (RFC 9112
        sections 3.2 and 6)."""
        host = self.single.get(b"host")
        if host is None:
            if version == "1.1":
                self._stop(BadRequest("Host must be sent"))
        elif host != self.good_host:
            if not target.HOST.fullmatch(host):
                self._stop(BadRequest("Host must be a name or an address, with or without a port"))
            self.good_host = host
        coding = self.single.get(b"transfer-encoding", b"")
        if coding and (coding.lower() != b"chunked" or version != "1.1"):
            self._stop(BadRequest("Transfer-Encoding must be chunked"))
        if version not in ("1.1", "1.0"):
            self._stop(BadRequest("HTTP version must be 1.1 or 1.0"))
        if method == b"CONNECT":
            self._stop(BadRequest("CONNECT is not supported"))
        return int(self.single.get(b"content-length", b"0")), coding

    def _without_upgrade(self) -> bytes:
        """The head again for a fresh parser, which then sees the body. Upgrade may be ignored: RFC
        9110 section 7.8."""
        request_line = b"%s %s HTTP/%s" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        fields = [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
        self._new_parser()
        return b"\r\n".join([request_line, *fields, b"", b""])

    def _new_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def _answer_refusal(self, error: ApiError) -> None:
        """The last answer of the connection, in its turn."""
        self.deaf = True
        broken = self.cycle if self.in_body else None
        if broken is not None:
            if broken.response_started:
                broken.disconnected = True
                broken.message_event.set()
                self.hang_up()
                return
            if self.pipeline:
                self.pipeline.popleft()
            else:
                broken.disconnected = True
                broken.message_event.set()
        waits = (
            self.cycle is not None
            and not self.cycle.response_complete
            and not (broken and broken.disconnected)
        )
        self.cycle = self._last_exchange(error)
        self.waiting_since = math.inf
        if waits:
            self.pipeline.appendleft((self.cycle, self.refuse))  # type: ignore[arg-type]  # Starlette's names for ASGI
        else:
            self._start_asgi_task(self.cycle, self.refuse)

    def _last_exchange(self, error: ApiError) -> Exchange:
        scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "method": self.parser.get_method().decode()
            if self.scope is not None and self.url
            else "GET",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [
                field
                for field in self.headers or ()
                if field[0] != b"access-control-request-method"
            ],
            "state": {},
            "refusal": error,
        }
        return self._exchange(scope, keep_alive=False, expects=False)

    def _exchange(self, scope: Any, keep_alive: bool, expects: bool) -> Exchange:
        return Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expects,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
