"""PgBouncer, in transaction mode as before Neon's databases, or in session mode. So small that
every fault shows."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postgres.embedded import cluster, identity
from tests.servers import free_port

POOL_SIZE = 2
START_SECONDS = 10


def program() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def running(
    folder: Path,
    postgres_socket_dir: str,
    logins: dict[str, str],
    mode: str = "transaction",
    dropped: str = "",
) -> Iterator[int]:
    """Yields its port on 127.0.0.1, where `logins` (name: password) reach every database of that
    PostgreSQL.

    It drops the start-up parameters named in `dropped`, and refuses others.
    """
    binary = program()
    assert binary is not None
    port = free_port()
    (folder / "users.txt").write_text(
        "".join(f'"{name}" "{password}"\n' for name, password in logins.items())
    )
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={postgres_socket_dir} port={cluster.PORT}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {folder}\n"
        f"auth_type = scram-sha-256\nauth_file = {folder / 'users.txt'}\n"
        f"pool_mode = {mode}\nignore_startup_parameters = {dropped}\n"
        f"default_pool_size = {POOL_SIZE}\nmax_client_conn = 100\n"
        f"logfile = {folder / 'pgbouncer.log'}\n"
    )
    user = identity.choose(folder, binary)  # it refuses to be root, as PostgreSQL does
    identity.give(folder, user)
    process = subprocess.Popen(
        identity.command(user, [binary, "--quiet", str(folder / "pgbouncer.ini")]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    try:
        _wait_until_it_listens(process, folder / "pgbouncer.log", port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_it_listens(process: subprocess.Popen[bytes], log: Path, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, log.read_text() if log.exists() else process.returncode
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
