"""The default PostgreSQL: found, started over a folder of its own, and stopped with the process
that started it."""

import errno
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from postgres.embedded.error import EmbeddedError

if sys.platform != "win32":
    import fcntl

    from postgres.embedded import binaries, cluster, identity, wire

__all__ = ["EmbeddedError", "Server", "start"]

DATABASE = "todo"
START_SECONDS = 120  # recovery after a crash is slow on a slow disk
STOP_SECONDS = 20
POLL_SECONDS = 0.01

# A driver takes what a URL leaves open from PGSSLMODE and the like, which are meant for another
# server.
NOT_FROM_THE_ENVIRONMENT = (
    "sslmode=disable&sslnegotiation=postgres&target_session_attrs=any&gsslib=gssapi"
)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_ASKED_FOR = "none"  # a password: without any, a driver would look for one in ~/.pgpass


class Server:
    """A PostgreSQL that answers at `url`."""

    def __init__(
        self, data_dir: Path, socket_dir: Path, process: subprocess.Popen[bytes] | None
    ) -> None:
        place = f"host={quote(str(socket_dir), safe='')}&port={cluster.PORT}"
        self.url = f"postgresql://postgres@/{DATABASE}?{place}"
        self.data_dir = data_dir
        self.started_here = process is not None
        self._process = process
        self._owner_pid = os.getpid()

    def complete_url(self) -> str:
        """`url`, with nothing left open that a driver would take from the surroundings."""
        return (
            self.url.replace("postgres@", f"postgres:{NOT_ASKED_FOR}@")
            + f"&{NOT_FROM_THE_ENVIRONMENT}"
        )

    def stop(self) -> None:
        """Close its connections and end it, if it was started here (and not by the process we were
        forked from)."""
        if self._process is not None and self._owner_pid == os.getpid():
            _end(self._process)
            self._process = None


def start(data_dir: Path, *, durable: bool = True, connections: int = 0) -> Server:
    """Start PostgreSQL over `data_dir`, or connect to the one that another process has running
    there.

    One that is started here lets at least `connections` in.
    `durable=False` may lose everything in a power cut: for throw-away test data only.
    """
    if (
        sys.platform == "win32"
    ):  # untested: no unix sockets in Python, no signal that follows the parent's death
        raise EmbeddedError(
            "The embedded PostgreSQL does not run on Windows; set NEON_DATABASE_URL, or use WSL."
        )
    data_dir = data_dir.expanduser().resolve()
    try:
        with _one_at_a_time(data_dir) as lock:
            return _connect(data_dir) or _start(data_dir, durable, connections, lock)
    except OSError as error:
        raise EmbeddedError(_unusable(data_dir, error)) from error


def _unusable(data_dir: Path, error: OSError) -> str:
    if error.errno in DISK_FULL:
        return f"PostgreSQL cannot keep its data in {data_dir.parent}: {cluster.DISK_FULL}."
    return (
        f"The embedded PostgreSQL cannot work in {data_dir.parent} ({error}); "
        "set DATA_DIR to a folder on a local disk, or NEON_DATABASE_URL to a server."
    )


@contextmanager
def _one_at_a_time(data_dir: Path) -> Iterator[int]:
    """Held until the server answers; the kernel lets go of it when we die, and whoever we gave the
    descriptor to."""
    lock_file = data_dir.with_name(data_dir.name + ".lock")
    try:
        data_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.geteuid() == 0:
            owner = data_dir.parent.stat()
            os.fchown(
                lock, owner.st_uid, owner.st_gid
            )  # who may come without being root another day
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise EmbeddedError(
            f"The embedded PostgreSQL cannot write to {data_dir.parent} ({error.strerror}); "
            "make that folder writable, set DATA_DIR to another, or set NEON_DATABASE_URL to a server."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _connect(data_dir: Path) -> Server | None:
    if not cluster.exists(data_dir):
        return None
    socket_dir = cluster.socket_dir(data_dir)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            _make_sure_of_database(socket_dir)
            return Server(data_dir, socket_dir, None)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except wire.ServerRefusal as refusal:
            if refusal.sqlstate != wire.STARTING_OR_STOPPING:
                raise EmbeddedError(
                    f"The PostgreSQL running in {data_dir} refuses us: {refusal}."
                ) from refusal
        except ConnectionResetError:
            pass  # it is going down
        except OSError as error:
            raise EmbeddedError(
                f"The PostgreSQL running in {data_dir} does not answer ({error})."
            ) from error
        time.sleep(POLL_SECONDS)
    raise EmbeddedError(
        f"The PostgreSQL running in {data_dir} was still starting or stopping after {START_SECONDS} s."
    )


def _make_sure_of_database(socket_dir: Path) -> None:
    """Also the proof that the server runs: a process id would prove nothing."""
    socket_file = socket_dir / cluster.SOCKET_NAME
    try:
        wire.run(socket_file, DATABASE, "SELECT 1")
    except wire.ServerRefusal as refusal:
        if refusal.sqlstate != wire.NO_SUCH_DATABASE:
            raise
        wire.run(socket_file, "postgres", f"CREATE DATABASE {DATABASE}")


def _start(data_dir: Path, durable: bool, connections: int, lock: int) -> Server:
    programs = binaries.find(data_dir)
    if not cluster.exists(data_dir):
        cluster.create(data_dir, programs, durable, lock)
    user = identity.choose(data_dir, programs.postgres)
    identity.give(data_dir, user)
    socket_dir = cluster.socket_dir(data_dir)
    cluster.wait_for_the_last_one(data_dir)
    cluster.disown_stale_locks(data_dir, socket_dir)
    with cluster.open_log(data_dir) as log:
        begin = log.tell()
        process = _spawn(
            identity.command(
                user, cluster.server_command(data_dir, socket_dir, programs, durable, connections)
            ),
            log.fileno(),
        )
        try:
            _wait_until_it_answers(process, socket_dir)
        except BaseException as error:
            _end(process)
            if not isinstance(error, (OSError, wire.ServerRefusal)):
                raise
            raise EmbeddedError(
                cluster.explained(
                    f"PostgreSQL did not start in {data_dir}", cluster.log_since(data_dir, begin)
                )
            ) from error
    return Server(data_dir, socket_dir, process)


def _spawn(command: list[str], log: int) -> subprocess.Popen[bytes]:
    def popen() -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in a terminal is for the parent, which stops the server last.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=cluster.environment(),
            start_new_session=True,
        )

    if threading.current_thread() is threading.main_thread():
        return popen()

    # The signal of the parent's death comes when the creating *thread* ends, so that thread must
    # stay.
    answer: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

    def stay() -> None:
        try:
            process = popen()
        except OSError as error:
            answer.put(error)
            return
        answer.put(process)
        process.wait()

    threading.Thread(target=stay, name="embedded-postgres", daemon=True).start()
    outcome = answer.get()
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


def _wait_until_it_answers(process: subprocess.Popen[bytes], socket_dir: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ChildProcessError(f"it ended with code {process.returncode}")
        try:
            return _make_sure_of_database(socket_dir)
        except (ConnectionError, FileNotFoundError):
            pass
        except wire.ServerRefusal as refusal:
            if refusal.sqlstate != wire.STARTING_OR_STOPPING:
                raise
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"no answer after {START_SECONDS} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask ever less politely. Even the last way loses nothing that was acknowledged."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue
