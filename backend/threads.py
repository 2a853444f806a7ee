"""Calls that block, in threads of their own that no stop waits for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


async def call(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What `function` returns or raises.

    `asyncio.to_thread` would do, but at the end the loop and then the interpreter wait for its
    threads: a name server that does not answer holds one for up to 40 s. A daemon thread ends with
    the process. Whoever calls limits how often: each call is a thread, until its function returns,
    also when nobody waits for it any more.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.done():  # nobody waits any more
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(cast(T, result))

    def run() -> None:
        result, trouble = None, None
        try:
            result = function(*arguments, **named)
        except BaseException as error:
            trouble = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, trouble)
        del trouble  # which holds this frame by its traceback

    threading.Thread(target=run, daemon=True).start()
    return await outcome


async def find(hosts: Iterable[str]) -> None:
    """Return as soon as one of `hosts` is found by its name; OSError where none is.

    To be asked before a library connects. uvloop looks names up in threads that the end of the
    process waits for, so a name server that does not answer must be noticed here.
    """
    trouble: OSError | None = None
    for host in hosts:
        try:
            await call(socket.getaddrinfo, host, None)
        except OSError as error:
            trouble = error
        else:
            return
    if trouble is not None:
        raise trouble
