"""The folder of one PostgreSQL: made whole or not at all, its socket, its settings, its log."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from embedded import identity
from embedded.binaries import Binaries
from embedded.error import EmbeddedError

PORT = 5432  # only a part of the socket's name
SOCKET_NAME = f".s.PGSQL.{PORT}"
SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
LOG_NAME = "server.log"
LOG_BYTES = 1_000_000
LOG_LINES_SHOWN = 6
LAST_MOMENTS_SECONDS = 5
BUILTIN_LOCALE_SINCE = 17
TEXT_SEARCH_ASKS_LIBC = 17  # 18 asks the builtin provider
IO_METHOD_SINCE = 18

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "50",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # What a client does wrong it is told itself; in the log it would be people's data, and grow without end.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def exists(data_dir: Path) -> bool:
    return (data_dir / "PG_VERSION").exists()


def create(data_dir: Path, programs: Binaries, durable: bool, lock: int) -> None:
    """initdb beside the folder, then rename: a half-made folder is never found in its place.

    Who writes here holds `lock`: initdb and its children have it too, in case they outlive us for a moment.
    """
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise EmbeddedError(
            f"{data_dir} holds something that is not PostgreSQL's; name an empty or missing folder for its data."
        )
    prefix = f"{data_dir.name}.new-"
    for left_over in data_dir.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=prefix, dir=data_dir.parent))
    try:
        user = identity.choose(fresh, programs.postgres)
        identity.give(fresh, user)
        _initdb(fresh, programs, user, durable, lock)
        fresh.rename(data_dir)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _initdb(folder: Path, programs: Binaries, user: str, durable: bool, lock: int) -> None:
    program = [programs.initdb, "-D", str(folder), "-U", "postgres", "--encoding=UTF8", "--no-instructions"]
    program += ["--auth-local=trust", "--auth-host=reject"]  # the socket lies in a folder that only we may enter
    if programs.major >= BUILTIN_LOCALE_SINCE:
        program += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    else:
        program += ["--locale=C.UTF-8"]
    if programs.major == TEXT_SEARCH_ASKS_LIBC and sys.platform == "linux":
        program += ["--lc-ctype=C.UTF-8"]
    if not durable:
        program += ["--no-sync"]
    done = subprocess.run(
        identity.command(user, program),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=environment(),
        pass_fds=[lock],
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedError(
            f"PostgreSQL could not make its folder in {folder.parent}. initdb ended with:\n{_last_lines(done.stdout)}"
        )


def environment() -> dict[str, str]:
    """Ours, without the variables that would lead PostgreSQL's programs astray, and with English messages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def socket_dir(data_dir: Path) -> Path:
    """The folder itself; where its path cannot name a socket, one in /tmp that every process finds by the same rule."""
    fits = len(os.fsencode(data_dir / SOCKET_NAME)) <= SOCKET_PATH_BYTES
    if fits and not set(str(data_dir)) & set(',"'):
        return data_dir
    owner = data_dir.stat()
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    # Not the user's TMPDIR: the second process may have another one.
    folder = Path(f"/tmp/todo-postgres-{owner.st_uid}-{digest}")  # noqa: S108  # made 0700, and checked to be ours
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(folder, owner.st_uid, owner.st_gid)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner.st_uid or stat.S_IMODE(found.st_mode) != 0o700:
        raise EmbeddedError(
            f"{data_dir} is too long a path for a socket, and {folder}, used instead, is not a private folder "
            "of the same owner; remove it, or choose a shorter path."
        )
    return folder


def server_command(data_dir: Path, sockets: Path, programs: Binaries, durable: bool) -> list[str]:
    settings = SETTINGS | {"unix_socket_directories": str(sockets)}
    if programs.major >= IO_METHOD_SINCE:
        settings |= {"io_method": "sync"}  # no worker processes for a small database
    if not durable:
        settings |= NOT_DURABLE
    return [programs.postgres, "-D", str(data_dir)] + [f"--{name}={value}" for name, value in settings.items()]


def wait_for_the_last_one(data_dir: Path) -> None:
    """A server on its way out closes its socket a moment before it gives up its lock."""
    deadline = time.monotonic() + LAST_MOMENTS_SECONDS
    while time.monotonic() < deadline:
        try:
            pid = int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
        except (OSError, ValueError):
            return
        if _is_another_program(str(pid)):
            return
        time.sleep(0.01)


def disown_stale_locks(data_dir: Path, sockets: Path) -> None:
    """Let PostgreSQL see through a lock whose process id now belongs to another program, as in a restarted container.

    Called when nobody answers. A lock of its own parent, which we become, PostgreSQL takes for stale, and still checks
    that no old process uses the memory named in it; so the file is not removed.
    """
    for lock in (data_dir / "postmaster.pid", sockets / f"{SOCKET_NAME}.lock"):
        try:
            pid, rest = lock.read_text().split("\n", 1)
        except (FileNotFoundError, ValueError):
            continue
        if _is_another_program(pid):
            lock.write_text(f"{os.getpid()}\n{rest}")


def _is_another_program(pid: str) -> bool:
    try:
        program = Path(f"/proc/{pid.strip().lstrip('-')}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False  # gone, or no /proc: PostgreSQL judges for itself
    return os.path.basename(program) not in (b"postgres", b"postmaster")


def open_log(data_dir: Path) -> BinaryIO:
    log = data_dir / LOG_NAME
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(f"{LOG_NAME}.1"))
    file = log.open("ab")
    os.fchmod(file.fileno(), 0o600)
    if os.geteuid() == 0:
        owner = data_dir.stat()
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)  # who may run it without being root another day
    return file


def log_end(data_dir: Path, begin: int) -> str:
    with (data_dir / LOG_NAME).open("rb") as file:
        file.seek(begin)
        return _last_lines(file.read())


def _last_lines(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-LOG_LINES_SHOWN:]) or "(nothing)"
