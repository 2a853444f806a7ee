"""The load: 32 kept connections, each sending its next request when the last one's answer has come.

It runs on the cores it measures on, so it does as little as it can: no HTTP library, no task a request.
"""

from __future__ import annotations

import asyncio
import time
from itertools import cycle
from typing import Any, NamedTuple

CONNECTIONS = 32
HOST = "127.0.0.1"


class Run(NamedTuple):
    seconds: float
    took: list[float]  # by each request, sorted

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds

    def percentile(self, share: float) -> float:
        return self.took[int(len(self.took) * share)]


class Connection(asyncio.Protocol):
    """Asks in a closed loop until `deadline`. An answer of another status than `status` ends the benchmark."""

    def __init__(self, requests: list[bytes], status: int) -> None:
        self.requests = cycle(requests)
        self.status = b"HTTP/1.1 %d" % status
        self.has_body = status != 304
        self.missing = 0  # bytes of an answer's body that are still to come

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the server closed the connection"))

    def start(self, deadline: float, took: list[float]) -> asyncio.Future[None]:
        self.deadline, self.took = deadline, took
        self.done = asyncio.get_running_loop().create_future()
        self._ask()
        return self.done

    def _ask(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        if self.missing:
            self.missing -= len(data)
        else:
            end = data.find(b"\r\n\r\n")
            if end < 0 or not data.startswith(self.status):
                self.done.set_exception(ValueError(f"wanted {self.status!r}, got {data[:1000]!r}"))
                return
            if self.has_body:
                begin = data.index(b"ontent-length: ") + 15
                self.missing = int(data[begin : data.index(b"\r", begin)]) + end + 4 - len(data)
        if self.missing == 0:
            now = time.perf_counter()
            self.took.append(now - self.began)
            if now < self.deadline:
                self._ask()
            else:
                self.done.set_result(None)


class Load:
    """`requests` are dealt out to the connections, so that what is one user's mostly comes through one of them."""

    def __init__(self, requests: list[bytes], status: int) -> None:
        dealt = [requests[number::CONNECTIONS] or requests for number in range(CONNECTIONS)]
        self.connections = [Connection(part, status) for part in dealt]

    async def open(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        for connection in self.connections:
            await loop.create_connection(lambda connection=connection: connection, HOST, port)

    async def run(self, seconds: float) -> Run:
        took: list[float] = []
        began = time.perf_counter()
        await asyncio.gather(*[connection.start(began + seconds, took) for connection in self.connections])
        return Run(time.perf_counter() - began, sorted(took))

    def close(self) -> None:
        for connection in self.connections:
            connection.transport.close()


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own: status, headers, body."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        headers = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    finally:
        writer.close()
    return int(head[9:12]), headers, body
