"""What blocks a thread keeps no answer waiting, and no stop: least of all a name server that does
not answer."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

import threads
from postgres import embedded, migrate
from tests import servers
from tests.conftest import sql
from tests.people import SECRET, token_for
from tests.servers import BACKEND
from tests.signers import Signer

STOP_SECONDS = 10
SILENT = "127.0.53.53"  # where a name server takes questions and never answers
NOWHERE = "stalled.example.com"
AT_NOWHERE = Signer().token("ada", iss=f"https://{NOWHERE}", aud=f"https://{NOWHERE}")


def test_a_result_and_an_error_come_back() -> None:
    async def story() -> None:
        assert await threads.call(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await threads.call(divmod, 7, 0)
        here = threading.get_ident()
        assert await threads.call(threading.get_ident) != here

    asyncio.run(story())


def test_a_call_that_nobody_waits_for_any_more_harms_nobody() -> None:
    let_go = threading.Event()

    async def story() -> list[dict[str, Any]]:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )
        for function in (let_go.wait, lambda: let_go.wait() and 1 / 0):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(threads.call(function), 0.01)
        let_go.set()
        await asyncio.sleep(0.05)
        return reported

    assert asyncio.run(story()) == []


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_process_ends_while_a_thread_blocks(loop: str) -> None:
    """As the server does: the loop is left, and then the interpreter."""
    story = (
        f"import asyncio, {loop}, time, threads\n"
        "async def main():\n"
        "    try: await asyncio.wait_for(threads.call(time.sleep, 60), 0.05)\n"
        "    except TimeoutError: print('waited')\n"
        f"asyncio.Runner(loop_factory={loop}.new_event_loop).run(main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", story], cwd=BACKEND, capture_output=True, text=True, timeout=20
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("waited\n", "", 0)


@pytest.fixture(scope="module")
def stalled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Before a command line: what it runs asks a name server that takes every question and answers
    none."""
    configuration = tmp_path_factory.mktemp("resolver") / "resolv.conf"
    configuration.write_text(f"nameserver {SILENT}\n" * 2)
    mount = f'mount --bind "{configuration}" /etc/resolv.conf && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        try:
            silent.bind((SILENT, 53))
            subprocess.run([*command, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("only root can give a process another name server")
        yield command


class Started:
    """Servers of the command line, all started before the first is needed: their starts wait 5 s
    for a database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[servers.Running] = []

    def serve(self, prefix: list[str], **settings: str) -> servers.Running:
        port = servers.free_port()
        process, log = begin(
            prefix, self.folder / str(port), "serve", "--port", str(port), **settings
        )
        self.servers.append(servers.Running(process, f"http://127.0.0.1:{port}", log))
        return self.servers[-1]

    def kill(self) -> None:
        for server in self.servers:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    all_of_them = Started(tmp_path_factory.mktemp("started"))
    yield all_of_them
    all_of_them.kill()


@pytest.fixture(scope="module")
def without_a_database(stalled: list[str], started: Started) -> servers.Running:
    return started.serve(stalled, NEON_DATABASE_URL=f"postgresql://ada@{NOWHERE}/todo")


@pytest.fixture(scope="module")
def without_keys(stalled: list[str], started: Started, database_url: str) -> servers.Running:
    return started.serve(
        stalled, NEON_DATABASE_URL=database_url, BETTER_AUTH_URL=f"https://{NOWHERE}"
    )


@pytest.fixture(scope="module")
def behind_another_migration(
    started: Started, cluster: embedded.Server
) -> Iterator[servers.Running]:
    """A server whose migration waits, in a thread, for the lock that another one holds."""
    sql(cluster.url, "CREATE DATABASE migrating")
    url = cluster.url.replace("/todo?", "/migrating?")
    with asyncio.Runner() as runner:
        other = runner.run(asyncpg.connect(url))
        runner.run(other.execute(f"SELECT pg_advisory_lock({migrate.LOCK})"))
        yield started.serve([], NEON_DATABASE_URL=url)
        runner.run(other.close())


def begin(
    prefix: list[str], folder: Path, *arguments: str, **settings: str
) -> tuple[subprocess.Popen[bytes], Path]:
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    ours = {"BETTER_AUTH_SECRET": SECRET, "DATA_DIR": str(folder / "data")}
    environment = servers.clean_environment(**ours, **settings)
    command = [*prefix, sys.executable, str(BACKEND / "cli.py"), *arguments]
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, env=environment
        ), log


def seconds_to_stop(server: servers.Running, number: int = signal.SIGTERM) -> float:
    began = time.monotonic()
    server.process.send_signal(number)
    server.process.wait(60)
    return time.monotonic() - began


def test_a_host_of_keys_that_cannot_be_found_keeps_no_stop_waiting(
    without_keys: servers.Running, without_a_database: object, behind_another_migration: object
) -> None:
    servers.wait_until_up(without_keys, "/ready")
    began = time.monotonic()
    reply = _tasks(without_keys, AT_NOWHERE)
    assert (reply.status_code, reply.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert time.monotonic() - began < 4, "a request waits 2 s"
    assert _tasks(without_keys, token_for("ada")).status_code == 200
    assert seconds_to_stop(without_keys) < STOP_SECONDS / 2, without_keys.printed()


def test_a_host_of_the_database_that_cannot_be_found_keeps_no_stop_waiting(
    without_a_database: servers.Running,
) -> None:
    servers.wait_until_up(without_a_database)
    assert _tasks(without_a_database, token_for("ada")).status_code == 503
    assert seconds_to_stop(without_a_database, signal.SIGINT) < STOP_SECONDS / 2, (
        without_a_database.printed()
    )


def test_a_migration_that_waits_for_another_keeps_no_stop_waiting(
    behind_another_migration: servers.Running,
) -> None:
    servers.wait_until_up(behind_another_migration)
    assert seconds_to_stop(behind_another_migration) < STOP_SECONDS / 2, (
        behind_another_migration.printed()
    )


def test_a_stalled_name_server_is_a_sentence_of_the_command_line(
    stalled: list[str], tmp_path: Path
) -> None:
    inspect, log = begin(
        stalled, tmp_path, "token", "--inspect", AT_NOWHERE, BETTER_AUTH_URL=f"https://{NOWHERE}"
    )
    assert inspect.wait(STOP_SECONDS) == 0
    assert "UNKNOWN   The signing keys are out of reach" in log.read_text()


def _tasks(server: servers.Running, token: str) -> httpx.Response:
    return httpx.get(
        f"{server.url}/api/ada/tasks",
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
        verify=False,
    )
