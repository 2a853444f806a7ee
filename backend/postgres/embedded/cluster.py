"""The folder of one PostgreSQL: made whole or not at all, its socket, its settings, its log."""

import errno
import hashlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from postgres.embedded import identity
from postgres.embedded.binaries import Binaries
from postgres.embedded.error import EmbeddedError

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
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # What a client does wrong it is told itself; in the log it would be people's data, and grow
    # without end.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}
FEWEST_CONNECTIONS = 50
DISK_FULL = "the disk is full; make room, or set DATA_DIR to a folder on another disk"
CURES = {  # what PostgreSQL's programs print -> what to do
    "No space left on device": DISK_FULL,
    "Check free disk space": DISK_FULL,
    "Disk quota exceeded": DISK_FULL,
    "insufficient file descriptors": "this process may open too few files; raise the limit with ulimit -n 1024",
    "Too many open files": "this process may open too few files; raise the limit with ulimit -n 1024",
    "File too large": "this process may write only small files; raise the limit with ulimit -f unlimited",
    "Cannot allocate memory": "there is too little memory; end other programs, or set ulimit -v unlimited",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def exists(data_dir: Path) -> bool:
    return (data_dir / "PG_VERSION").exists()


def create(data_dir: Path, programs: Binaries, durable: bool, lock: int) -> None:
    """initdb beside the folder, then rename: a half-made folder is never found in its place.

    Who writes here holds `lock`: initdb and its children have it too, in case they outlive us for a
    moment.
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
        _require_permissions(fresh)
        user = identity.choose(fresh, programs.postgres)
        identity.give(fresh, user)
        _initdb(fresh, programs, user, durable, lock)
        fresh.rename(data_dir)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _initdb(folder: Path, programs: Binaries, user: str, durable: bool, lock: int) -> None:
    program = [
        programs.initdb,
        "-D",
        str(folder),
        "-U",
        "postgres",
        "--encoding=UTF8",
        "--no-instructions",
    ]
    program += [
        "--auth-local=trust",
        "--auth-host=reject",
    ]  # the socket lies in a folder that only we may enter
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
            explained(f"PostgreSQL could not make its folder in {folder.parent}", done.stdout)
        )


def _require_permissions(folder: Path) -> None:
    """PostgreSQL refuses a folder that others may enter, and some file systems know no difference."""
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        raise EmbeddedError(
            f"PostgreSQL cannot keep its data in {folder.parent}, because the file system there keeps no permissions; "
            "set DATA_DIR to a folder on another one, or NEON_DATABASE_URL to a server."
        )


def explained(what_failed: str, output: bytes) -> str:
    """One sentence with what to do, where that is known; else what PostgreSQL's program printed
    last."""
    text = output.decode(errors="replace")
    for sign, cure in CURES.items():
        if sign in text:
            return f"{what_failed}: {cure}."
    lines = "\n".join(text.strip().splitlines()[-LOG_LINES_SHOWN:])
    return f"{what_failed}. It printed:\n{lines or '(nothing)'}"


def environment() -> dict[str, str]:
    """Ours, without the variables that would lead PostgreSQL's programs astray, and with English
    messages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {
        "LC_ALL": "C"
    }


def socket_dir(data_dir: Path) -> Path:
    """The folder itself; where it cannot hold a socket, one in /tmp that every process finds by the
    same rule."""
    if _may_name_a_socket(data_dir) and _takes_sockets(data_dir):
        return data_dir
    owner = data_dir.stat()
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    # Not the user's TMPDIR: the second process may have another one.
    folder = Path(f"/tmp/todo-postgres-{owner.st_uid}-{digest}")  # noqa: S108  # made 0700, and checked to be ours
    try:
        _make_owned_by(folder, owner)
        found = folder.lstat()
    except OSError as error:
        raise EmbeddedError(
            f"PostgreSQL's socket can be made neither in {data_dir} nor as {folder} ({error.strerror}); "
            "set DATA_DIR to a short path on a local disk."
        ) from error
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != owner.st_uid
        or stat.S_IMODE(found.st_mode) != 0o700
    ):
        raise EmbeddedError(
            f"{data_dir} cannot hold a socket, and {folder}, used instead, is not a private folder of the same owner; "
            "remove it, or set DATA_DIR to a short path on a local disk."
        )
    return folder


def _may_name_a_socket(folder: Path) -> bool:
    """By PostgreSQL's settings, which commas and quotes divide, and in a URL, which is UTF-8."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return False
    return len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_BYTES and not set(
        str(folder)
    ) & set(',"')


def _takes_sockets(folder: Path) -> bool:
    """False for many a folder that is shared with a virtual machine, a container or Windows, and
    then always."""
    if (folder / SOCKET_NAME).is_socket():
        return True
    trial = folder / f".s.{os.getpid():x}"
    trial.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(trial))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # of the disk, not of the file system
            return False
    trial.unlink()
    return True


def _make_owned_by(folder: Path, owner: os.stat_result) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(folder, owner.st_uid, owner.st_gid)


def server_command(
    data_dir: Path, sockets: Path, programs: Binaries, durable: bool, connections: int = 0
) -> list[str]:
    settings = SETTINGS | {"unix_socket_directories": str(sockets)}
    settings |= {"max_connections": str(max(connections, FEWEST_CONNECTIONS))}
    if programs.major >= IO_METHOD_SINCE:
        settings |= {"io_method": "sync"}  # no worker processes for a small database
    if not durable:
        settings |= NOT_DURABLE
    return [programs.postgres, "-D", str(data_dir)] + [
        f"--{name}={value}" for name, value in settings.items()
    ]


def wait_for_the_last_one(data_dir: Path) -> None:
    """A server on its way out closes its socket a moment before it gives up its lock."""
    deadline = time.monotonic() + LAST_MOMENTS_SECONDS
    while time.monotonic() < deadline:
        try:
            pid = int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
        except (OSError, ValueError):
            return
        if not _may_run_here(pid, data_dir):
            return
        time.sleep(0.01)


def disown_stale_locks(data_dir: Path, sockets: Path) -> None:
    """Let PostgreSQL see through a lock whose process id now belongs to another program, as in a
    restarted container.

    Called when nobody answers. A lock of its own parent, which we become, PostgreSQL takes for
    stale, and still checks that no old process uses the memory named in it; so the file is not
    removed. It refuses one without a number, which a power cut may leave; after a power cut no old
    process is there.
    """
    for lock in (data_dir / "postmaster.pid", sockets / f"{SOCKET_NAME}.lock"):
        try:
            first, newline, rest = lock.read_bytes().partition(b"\n")
        except FileNotFoundError:
            continue
        if not first.strip().lstrip(b"-").isdigit():
            lock.unlink()
        elif not _may_run_here(abs(int(first)), data_dir):
            lock.write_bytes(b"%d" % os.getpid() + newline + rest)


def _may_run_here(pid: int, data_dir: Path) -> bool:
    """Whether this process may be the PostgreSQL of `data_dir`; without /proc PostgreSQL judges for
    itself."""
    process = Path(f"/proc/{pid}")
    try:
        program = (process / "cmdline").read_bytes().split(b"\0")[0]
        if os.path.basename(program) not in (b"postgres", b"postmaster"):
            return False
        # It runs in its folder, and as the owner of it, or it would have refused to.
        return process.stat().st_uid == data_dir.stat().st_uid and (process / "cwd").samefile(
            data_dir
        )
    except OSError:
        return True


def open_log(data_dir: Path) -> BinaryIO:
    log = data_dir / LOG_NAME
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(f"{LOG_NAME}.1"))
    file = log.open("ab")
    os.fchmod(file.fileno(), 0o600)
    if os.geteuid() == 0:
        owner = data_dir.stat()
        os.fchown(
            file.fileno(), owner.st_uid, owner.st_gid
        )  # who may run it without being root another day
    return file


def log_since(data_dir: Path, begin: int) -> bytes:
    with (data_dir / LOG_NAME).open("rb") as file:
        file.seek(begin)
        return file.read()
