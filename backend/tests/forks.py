"""Servers forked from a process that has imported the application: to import it is two thirds of
what a start costs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

# All that `main` imports. Itself it reads the settings, which are each server's own.
IMPORTED = (
    "tests.forks",
    "cli",
    "alembic.command",  # which a server imports where the database is empty
    "server",
    "uvloop",
    "retention",
    "routes.changes",
    "routes.pages",
    "routes.system",
    "routes.tasks",
    "routes.trash",
    "web.documentation",
    "web.foreign",
)
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(list(IMPORTED))


class Forked:
    """`cli.py` with these arguments. What a subprocess.Popen does that tests ask of a server, it
    does, too."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], folder: Path, log: Path
    ) -> None:
        self._process = FORKS.Process(target=_run, args=(arguments, environment, folder, log))
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(["cli.py"], timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], environment: dict[str, str], folder: Path, log: Path) -> None:
    """In the forked process, which is made what a new one would be."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["cli.py", *arguments]
    import cli

    sys.exit(cli.main(arguments))
