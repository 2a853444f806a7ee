"""The shipped server: uvicorn with limits on time and size, strict framing, and a stop that loses
no answer."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import ChangeReload, Multiprocess

import config
import logs
from server.connection import DRAIN_SECONDS
from server.listeners import BACKLOG, bind, listen
from server.protocol import Protocol, raise_refusal
from web.access_log import access_log
from web.front import Front

__all__ = ["bind", "load", "run"]

OPEN_FILES = 65_536


def run(listeners: list[socket.socket], workers: int = 1, reload: bool = False) -> None:
    """Serve `main:app` until a signal says stop. Returns, or raises SystemExit, so that the caller
    can clean up."""
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit()
    )  # uvicorn drains, then raises the signal once more
    options = uvicorn.Config(
        "server:load",
        factory=True,
        workers=workers,
        reload=reload,
        reload_dirs=[str(Path(__file__).resolve().parent.parent)] if reload else None,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=DRAIN_SECONDS + 1,
    )
    _allow_many_connections()
    listen(listeners)
    process = uvicorn.Server(options)
    with suppress(KeyboardInterrupt):
        if reload:
            ChangeReload(options, target=process.run, sockets=listeners).run()
        elif workers > 1:
            Multiprocess(options, sockets=listeners).run()
        else:
            process.run(listeners)
    if workers == 1 and not reload and not process.started:
        sys.exit(STARTUP_FAILURE)


def load() -> ASGIApp:
    """What every serving process runs, workers and reloads included: logs first, then `main:app`."""
    _end_with_parent()
    settings = config.load()
    logs.configure(settings.production)
    Protocol.keep_alive_seconds = settings.keep_alive_seconds
    Protocol.refuse = Front(
        raise_refusal, (), settings.allowed_origins, access_log(settings.production)
    )
    _second_signal_ends()
    from main import app

    return app


def _allow_many_connections() -> None:
    """Resting connections are open files, and a shell or systemd allows 1,024 unless a program asks
    for more."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS allows fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end_with_parent() -> None:
    """A worker whose parent was killed stops too, instead of holding the port against the next
    start."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def _second_signal_ends() -> None:
    """The first signal goes to uvicorn, which drains; the same one again ends the process at once."""
    seen: set[int] = set()
    for number in (signal.SIGINT, signal.SIGTERM):
        drain = signal.getsignal(number)

        def handle(number: int, frame: Any, drain: Any = drain) -> None:
            if number in seen:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            seen.add(number)
            drain(number, frame)

        signal.signal(number, handle)
