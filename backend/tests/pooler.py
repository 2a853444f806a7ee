"""A loopback proxy before PostgreSQL that does what poolers and bad networks do: it drops, leaves
behind, and cuts."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from postgres import dsn
from postgres.embedded import cluster

PASSED_ON = ("user", "database")


class Proxy:
    """Where it listens, and what it does to the connections that come from now on."""

    def __init__(self, postgres_url: str) -> None:
        self.socket = Path(dsn.parse(postgres_url).host) / cluster.SOCKET_NAME
        self.database = postgres_url.partition("?")[0].rpartition("/")[2]
        self.user = postgres_url.partition("://")[2].partition("@")[0]
        self.port = 0
        self.passed_on: tuple[str, ...] | None = PASSED_ON  # start-up parameters; None: all
        self.left_behind = ""  # statements of somebody who had the session before
        self.has_own_pid = False
        self.refuses = False
        self.cut_after: list[
            int
        ] = []  # messages of the server, one number for each next connection
        self.connections = 0

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{self.database}?sslmode=disable"

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        messages = self.cut_after.pop(0) if self.cut_after else -1
        server, to_server = await asyncio.open_unix_connection(str(self.socket))
        try:
            if not self.refuses:
                await self._start(client, to_client, server, to_server)
                await _first(_copy(client, to_server), _copy_messages(server, to_client, messages))
        finally:
            to_client.close()
            to_server.close()

    async def _start(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        (length,) = struct.unpack("!i", await client.readexactly(4))
        body = await client.readexactly(length - 4)
        if self.passed_on is not None and body[:4] == struct.pack("!i", 196608):
            words = body[4:].rstrip(b"\0").split(b"\0")
            kept = [
                pair
                for pair in zip(words[::2], words[1::2], strict=True)
                if pair[0].decode() in self.passed_on
            ]
            body = body[:4] + b"".join(b"%b\0%b\0" % pair for pair in kept) + b"\0"
        to_server.write(struct.pack("!i", len(body) + 4) + body)
        if body[:4] != struct.pack("!i", 196608):
            return  # a cancel request
        greeting = await _until_ready(server)
        if self.left_behind:
            statement = self.left_behind.encode() + b"\0"
            to_server.write(b"Q" + struct.pack("!i", len(statement) + 4) + statement)
            await _until_ready(server)
        for kind, content in greeting:
            if kind == b"K" and self.has_own_pid:
                content = struct.pack("!i", 77) + content[4:]
            to_client.write(kind + struct.pack("!i", len(content) + 4) + content)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    return kind, await reader.readexactly(length - 4)


async def _until_ready(server: asyncio.StreamReader) -> list[tuple[bytes, bytes]]:
    messages = [await _message(server)]
    while messages[-1][0] not in (b"Z", b"E"):
        messages.append(await _message(server))
    return messages


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


async def _copy_messages(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
) -> None:
    while number != 0:
        kind, content = await _message(reader)
        writer.write(kind + struct.pack("!i", len(content) + 4) + content)
        await writer.drain()
        number -= 1


async def _first(*works: object) -> None:
    """Until one of them ends, in whatever way."""
    tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[call-overload]  # coroutines
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def running(postgres_url: str) -> Iterator[Proxy]:
    """In a thread of its own, so that servers in other processes and loops in this one can use it."""
    proxy = Proxy(postgres_url)
    loop = asyncio.new_event_loop()
    listening = threading.Event()
    clients: set[asyncio.Task[None]] = set()

    def meet(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        async def serve() -> None:
            with suppress(OSError, EOFError):
                await proxy.serve(client, to_client)

        task = loop.create_task(serve())
        clients.add(task)
        task.add_done_callback(clients.discard)

    async def listen() -> None:
        async with await asyncio.start_server(meet, "127.0.0.1", 0) as server:
            proxy.port = server.sockets[0].getsockname()[1]
            listening.set()
            await server.serve_forever()

    def run() -> None:
        asyncio.set_event_loop(loop)
        listener = loop.create_task(listen())
        loop.run_forever()
        listener.cancel()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop), return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert listening.wait(5)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
