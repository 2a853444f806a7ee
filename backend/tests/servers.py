"""Servers to test: the real command line in a process of its own, on a real PostgreSQL."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.forks import Forked
from tests.people import SECRET

BACKEND = Path(__file__).resolve().parent.parent
START_SECONDS = 30


class Running:
    """A server process, where it listens, and everything it has printed (in `log`)."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(15)


def free_port() -> int:
    """Below the range from which clients get theirs, so that it is still free when it is bound a
    second later."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment without any setting of the product, and with `settings`."""
    ours = ("NEON_", "DATABASE_", "BETTER_AUTH_", "AUTH_", "CORS_", "PG", "TODO_")
    others = {
        "ENVIRONMENT",
        "ROW_SECURITY",
        "RATE_LIMIT",
        "HOST",
        "PORT",
        "DATA_DIR",
        "KEEP_ALIVE_SECONDS",
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and name not in others
    }
    return {**kept, **settings}


def start(
    folder: Path,
    *arguments: str,
    code: str | Path = BACKEND,
    how: str = "forked",
    **settings: str,
) -> Running:
    """`todo serve` of the `code` with `settings`; returns at once. A plain one is forked, unless
    `how` is "anew"."""
    port = free_port()
    log = folder / f"server-{port}.log"
    environment = clean_environment(
        **{"BETTER_AUTH_SECRET": SECRET, "DATA_DIR": str(folder / "data"), **settings}
    )
    words = ["serve", "--port", str(port), *arguments]
    url = f"http://127.0.0.1:{port}"
    log.touch()
    if how == "forked" and not arguments and code == BACKEND and "NEON_DATABASE_URL" in settings:
        return Running(Forked(words, environment, folder, log), url, log)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(Path(code) / "cli.py"), *words],
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environment,
        )
    return Running(process, url, log)


def wait_until_up(server: Running, path: str = "/health") -> Running:
    deadline = time.monotonic() + START_SECONDS
    # One client, which looks for no certificates: to read those takes 50 ms, and a start as many attempts.
    with httpx.Client(base_url=server.url, timeout=2, trust_env=False, verify=False) as client:
        while time.monotonic() < deadline:
            assert server.process.poll() is None, server.printed()
            try:
                if client.get(path).status_code == 200:
                    return server
            except httpx.TransportError:
                pass
            time.sleep(0.02)
    raise AssertionError(f"not up after {START_SECONDS} s: {server.printed()}")


@contextmanager
def running(
    folder: Path, *arguments: str, how: str = "forked", **settings: str
) -> Iterator[Running]:
    server = start(folder, *arguments, how=how, **settings)
    try:
        yield wait_until_up(server)
    finally:
        server.stop()
