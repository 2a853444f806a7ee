"""One connection: how long its client may take, and how it ends."""

from __future__ import annotations

import asyncio
import math
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.exchange import Exchange, Line

CLIENT_SECONDS = 8.0  # for a head, for a body, and to take leave: with the close under 10 s
KEEP_ALIVE_SECONDS = 75.0  # between requests, unless the setting says otherwise
UNREAD_SECONDS = 30.0  # an answer of which the client takes nothing
DRAIN_SECONDS = (
    7  # for requests in flight when the stop comes; the rest of 10 s closes the database
)


class Connection(HttpToolsProtocol):
    """A client that owes us something (`waiting_since`) has CLIENT_SECONDS to bring it.

    Between requests (`resting`) it owes nothing, and has the time of KEEP_ALIVE_SECONDS, until
    another head begins.
    """

    client_seconds = CLIENT_SECONDS
    keep_alive_seconds = KEEP_ALIVE_SECONDS
    unread_seconds = UNREAD_SECONDS
    drain_seconds: float = DRAIN_SECONDS

    wire: asyncio.Transport
    single: dict[bytes, bytes]  # fields of which there may be one, in this head
    timer: asyncio.TimerHandle
    waiting_since = math.inf  # inf: it is our turn
    resting = False
    round_seconds: float  # after which we look again, at the latest
    in_body = False
    deaf = False  # nothing more is parsed
    closing = False
    draining = False
    running: Exchange | None = None  # the request that is being answered, or was last
    unsent_bytes = 0
    unsent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        self.wire = transport
        self._stopping: asyncio.Event = vars(self.server_state).setdefault(
            "stopping", asyncio.Event()
        )
        line = Line(transport, self.hang_up, self.is_closing)
        super().connection_made(cast(asyncio.Transport, line))
        self.waiting_since = self.loop.time()
        self.round_seconds = min(self.client_seconds, self.keep_alive_seconds)
        self.timer = self.loop.call_later(self.round_seconds, self._look_after)

    def connection_lost(self, exc: Exception | None) -> None:
        self.timer.cancel()
        self.deaf = self.closing = True
        if (
            self.running is not None
        ):  # of which uvicorn knows nothing while another request waits behind it
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        self.unsent_bytes = (
            0  # the client has taken what there was; what comes now may again be as much
        )
        super().resume_writing()

    def is_closing(self) -> bool:
        return self.closing or self.wire.is_closing()

    def hang_up(self) -> None:
        """Say that nothing more comes, then discard what the client still sends until it leaves, or
        its time is up.

        Closing at once, with something unread, would send a reset that destroys the answer on its
        way.
        """
        if self.is_closing():
            return
        self.deaf = self.closing = True
        self.resting = False
        self.waiting_since = self.loop.time()
        if self.draining and not self.in_body:
            self.wire.close()
            return
        try:
            self.wire.write_eof()
        except OSError:  # the client has left already
            self.wire.abort()
        else:
            self.flow.resume_reading()

    def shutdown(self) -> None:
        self.draining = True
        self._stopping.set()
        if self.closing or self.cycle is None or self.cycle.response_complete:
            self.wire.close()
        else:
            self.cycle.keep_alive = False
            self.loop.call_later(self.drain_seconds, self.wire.abort)

    def _rest(self) -> None:
        """Nothing is kept of the last request: its head and a body that nobody read may be 100 kB."""
        self.resting = True
        self.waiting_since = self.loop.time()
        self.cycle = self.running = self.scope = None  # type: ignore[assignment]  # as before the first request
        self.headers, self.url, self.single = [], b"", {}

    def _look_after(self) -> None:
        now = self.loop.time()
        unsent = self.wire.get_write_buffer_size()
        if not self.unsent_bytes or unsent < self.unsent_bytes:
            self.unsent_since = now
        self.unsent_bytes = unsent
        if unsent and now - self.unsent_since >= self.unread_seconds:
            self.wire.abort()
            return
        left = (
            self.waiting_since
            - now
            + (self.keep_alive_seconds if self.resting else self.client_seconds)
        )
        if left <= 0 and not unsent and not self.flow.read_paused:
            if not self.resting:
                self.deaf = self.closing = True
                self.wire.close()
                return
            self.hang_up()  # a request that crosses it is not read, and not reset either
        pause = left if 0 < left < self.round_seconds else self.round_seconds
        self.timer = self.loop.call_later(pause, self._look_after)
