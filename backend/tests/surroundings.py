"""A table of odd machines, and a way to start the product on each. The quick ones run with the
suite.

All of them, with the embedded PostgreSQL and a real installation (minutes; those that mount need
root on Linux):

    cd backend && python -m tests.surroundings [words of a name]
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import httpx

from tests.servers import BACKEND, clean_environment, free_port

ROOT = BACKEND.parent
START_SECONDS = 60
INSTALL_SECONDS = 600
IGNORING_CHILDREN = (
    "import os, signal, sys; "
    "signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"
)
PIPE_THAT_NOBODY_READS = (
    "import os, sys; r, w = os.pipe(); os.dup2(w, 2); os.close(r); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
WITHOUT_ROOTS_POWER_OVER_FILES = (
    "setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-all"
)

FOR_ANOTHER_PYTHON = {
    "PYTHONSAFEPATH": "1",
    "PYTHONPATH": "foreign",  # becomes the folder of that name
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONINSPECT": "1",
    "PYTHONEXECUTABLE": "/nowhere/python",
    "PYTHONSTARTUP": "/nowhere/startup.py",
    "PYTHONIOENCODING": "ascii",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "VIRTUAL_ENV": "/nowhere",
    "CONDA_PREFIX": "/nowhere",
}
FOR_ANOTHER_POSTGRESQL = {
    "PGHOST": "elsewhere",
    "PGPORT": "1",
    "PGUSER": "eve",
    "PGDATABASE": "hers",
    "PGPASSWORD": "hers",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nowhere/root.crt",
    "PGSSLNEGOTIATION": "nonsense",
    "PGTARGETSESSIONATTRS": "standby",
    "PGGSSLIB": "nonsense",
    "PGDATA": "/nowhere",
    "PGOPTIONS": "-c search_path=hers",
}
FOR_ANOTHER_INSTALLATION = {
    "PIP_USER": "1",
    "PIP_TARGET": "/nowhere",
    "PIP_PREFIX": "/nowhere",
    "PIP_ROOT": "/nowhere",
    "PIP_CONSTRAINT": "/nowhere",
    "PIP_REQUIREMENT": "/nowhere",
    "PIP_DRY_RUN": "1",
    "PIP_NO_DEPS": "1",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "UV_SYSTEM_PYTHON": "1",
    "UV_PYTHON": "2.7",
    "UV_CONSTRAINT": "/nowhere",
    "UV_EXCLUDE_NEWER": "2001-01-01",
    "UV_PROJECT_ENVIRONMENT": "/nowhere",
}


@dataclass(frozen=True)
class Surrounding:
    """`before` runs in the folder of the checkout; `streams` are redirections. Without `says` the
    server must start."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    streams: str = ""
    through: tuple[str, ...] = ()  # a program that starts the rest of its command line
    command: tuple[str, ...] = ("run.py",)
    folder: str = "todo"
    secret: bytes | None = None  # what .data/secret holds
    says: str | None = None  # the one line, as a pattern
    quick: bool = False
    needs_root: bool = False
    installs: bool = False


def mounted(name: str, command: str, **more: str) -> Surrounding:
    return Surrounding(name, before=command, through=("unshare", "-m"), needs_root=True, **more)  # type: ignore[arg-type]


EXFAT = (
    "truncate -s 300M disk && mkfs.exfat disk >/dev/null && mkdir .data && "
    "device=$(losetup -f --show disk) && mount.exfat-fuse -o {} $device .data >/dev/null && "
    "losetup -d $device"  # once nobody uses it
)
SURROUNDINGS = [
    Surrounding("nothing special"),
    Surrounding("no standard streams", streams="<&- >&- 2>&-", quick=True),
    Surrounding("no standard input", streams="<&-"),
    Surrounding("no standard output", streams=">&-"),
    Surrounding("no standard error", streams="2>&-", quick=True),
    Surrounding(
        "no standard streams, two workers",
        streams="<&- >&- 2>&-",
        command=("run.py", "serve", "--workers", "2"),
    ),
    Surrounding("a log on a full disk", streams="2>/dev/full", quick=True),
    Surrounding("a log that nobody reads", through=(sys.executable, "-c", PIPE_THAT_NOBODY_READS)),
    Surrounding(
        "variables for another Python, installation and PostgreSQL",
        FOR_ANOTHER_PYTHON | FOR_ANOTHER_INSTALLATION | FOR_ANOTHER_POSTGRESQL,
        quick=True,
    ),
    *[Surrounding(f"{name}={value}", {name: value}) for name, value in FOR_ANOTHER_PYTHON.items()],
    *[
        Surrounding(f"{name}={value}", {name: value})
        for name, value in FOR_ANOTHER_POSTGRESQL.items()
    ],
    Surrounding(
        "a locale of ASCII",
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        folder="é",
    ),
    Surrounding("no HOME", before="unset HOME"),
    Surrounding("a HOME that is not there", {"HOME": "/nowhere", "TMPDIR": "/nowhere"}),
    Surrounding(
        "a HOME that we may not enter",
        before="mkdir -m 700 home && chown 1 home && export HOME=$PWD/home",
        through=tuple(WITHOUT_ROOTS_POWER_OVER_FILES.split()),
        needs_root=True,
    ),
    Surrounding("no PATH", before="PATH="),
    Surrounding("a folder that was deleted", before="mkdir gone && cd gone && rmdir ../gone"),
    Surrounding("a path with a colon", folder="a:b"),
    Surrounding("a path that is not UTF-8", folder=os.fsdecode(b"caf\xe9")),
    Surrounding("a path with every character", folder="a b'\"%41 %s\n,c$HOME"),
    Surrounding("a path too long for a socket", folder="l" * 120),
    Surrounding("umask 000", before="umask 000"),
    Surrounding(
        "umask 777",
        before="umask 777",
        through=tuple(WITHOUT_ROOTS_POWER_OVER_FILES.split()),
        needs_root=True,
    ),
    Surrounding("64 open files", before="ulimit -n 64"),
    Surrounding(
        "20 open files",
        before="ulimit -n 20",
        says=r"PostgreSQL could not .* raise the limit with ulimit -n 1024\.",
    ),
    Surrounding(
        "small files only",
        before="ulimit -f 4000",
        says=r".* raise the limit with ulimit -f unlimited\.",
    ),
    Surrounding("children's exit codes ignored", through=(sys.executable, "-c", IGNORING_CHILDREN)),
    Surrounding("an empty secret", secret=b""),
    Surrounding("a secret of zeros", secret=b"\0" * 64),
    Surrounding(
        "a short secret",
        secret=b"secret\n",
        says=r".*/secret holds fewer than 32 bytes.*; remove it, .*",
        quick=True,
    ),
    Surrounding(
        "everything at once",
        FOR_ANOTHER_POSTGRESQL | {"PYTHONSAFEPATH": "1", "TMPDIR": "/nowhere", "LC_ALL": "C"},
        before="umask 000; ulimit -n 128; unset HOME; mkdir gone && cd gone && rmdir ../gone",
        streams="<&- >&-",
        through=(sys.executable, "-c", IGNORING_CHILDREN),
        folder=os.fsdecode(b"caf\xe9: '\"%41\n"),
        quick=True,
    ),
    Surrounding(
        "an unknown home",
        {"DATA_DIR": "~nobody-of-this-name/todo"},
        says="DATA_DIR must be .*",
        quick=True,
    ),
    Surrounding(
        "an unknown home of PostgreSQL",
        {"POSTGRES_BIN_DIR": "~nobody-of-this-name"},
        says="POSTGRES_BIN_DIR is .*",
    ),
    Surrounding(
        "data that cannot be written", {"DATA_DIR": "/proc/todo"}, says=".* set DATA_DIR to .*"
    ),
    Surrounding("data below a file", {"DATA_DIR": "/etc/passwd"}, says=".* set DATA_DIR to .*"),
    Surrounding(
        "a folder in place of the secret",
        before="mkdir -p .data/secret",
        says=".* set DATA_DIR to .*",
    ),
    Surrounding(
        "cli.py with PYTHONSAFEPATH",
        {"PYTHONSAFEPATH": "1"},
        command=("backend/cli.py", "serve"),
        says="PYTHONSAFEPATH .* unset it, or start with python3 run.py.",
        quick=True,
    ),
    Surrounding(
        "cli.py without its packages",
        command=("-S", "backend/cli.py", "serve"),
        says="(A package is missing .*: start with python3 run.py, or|The environment is broken .*: remove) .*",
        quick=True,
    ),
    mounted("no shared memory", "umount -l /dev/shm"),
    mounted("shared memory that cannot be written", "mount -t tmpfs -o ro none /dev/shm"),
    mounted("a small disk", "mkdir .data && mount -t tmpfs -o size=45m none .data"),
    mounted(
        "a full disk",
        "mkdir .data && mount -t tmpfs -o size=20m none .data",
        says=r".*: the disk is full; make room, .*",
    ),
    mounted(
        "no room at all",
        "mkdir .data && mount -t tmpfs -o nr_inodes=2 none .data",
        says=r".*: the disk is full; .*",
    ),
    mounted(
        "a checkout that cannot be written",
        "mount --bind -o ro . .",
        says=r".* set DATA_DIR to another, .*",
    ),
    mounted("a disk without links, sockets and owners", EXFAT.format("umask=077")),
    mounted(
        "a disk without permissions",
        EXFAT.format("umask=0"),
        says=".*keeps no permissions; set DATA_DIR .*",
    ),
    Surrounding(
        "an installation",
        FOR_ANOTHER_INSTALLATION | FOR_ANOTHER_PYTHON,
        before="umask 000",
        installs=True,
    ),
    Surrounding(
        "an installation below a colon",
        folder="a:b",
        installs=True,
        says="No environment can be made in .* set TODO_VENV .*",
    ),
]


def checkout(place: Path, surrounding: Surrounding) -> Path:
    """The product as it is cloned, in a folder of its own."""
    folder = place / surrounding.folder
    shutil.copytree(
        BACKEND, folder / "backend", ignore=shutil.ignore_patterns("tests", ".env", ".venv")
    )
    shutil.copy2(ROOT / "run.py", folder)
    (folder / "foreign").mkdir()
    for name in ("auth", "tasks", "logs", "jwt", "fastapi", "uvicorn"):
        (folder / "foreign" / f"{name}.py").write_text("raise SystemExit('a foreign module')")
    if surrounding.secret is not None:
        (folder / ".data").mkdir()
        (folder / ".data" / "secret").write_bytes(surrounding.secret)
    return folder


def complaint(surrounding: Surrounding, place: Path, **settings: str) -> str:
    """Start there, and stop again; empty where all was as it should be."""
    folder = checkout(place, surrounding)
    port = free_port()
    variables = clean_environment(**{"PORT": str(port), **settings, **surrounding.variables})
    if not surrounding.installs:
        variables["TODO_VENV"] = sys.prefix
    if "PYTHONPATH" in surrounding.variables:
        variables["PYTHONPATH"] = str(folder / "foreign")
    script = f'set -e; cd "$0"\n{surrounding.before or ":"}\nexec "$@" {surrounding.streams}'
    # Our own environment's Python only where it is named: run.py is started by the one that made
    # it.
    python = (
        sys.executable
        if surrounding.command[0] != "run.py"
        else str(Path(sys.executable).resolve())
    )
    arguments = [
        str(folder / word) if word.endswith(".py") else word for word in surrounding.command
    ]
    log = place / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*surrounding.through, "/bin/sh", "-c", script, str(folder), python, *arguments],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        ready = _becomes_ready(
            process, port, INSTALL_SECONDS if surrounding.installs else START_SECONDS
        )
        code = _stop(process) if ready else process.poll()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        _remove_sockets_elsewhere(folder)
    if ready and _others_may_write(folder):
        return "others may write into .data"
    return _judge(surrounding, ready, code, log.read_text(errors="replace"))


def _remove_sockets_elsewhere(folder: Path) -> None:
    digest = sha256(os.fsencode(folder.resolve() / ".data" / "postgres")).hexdigest()[:16]
    for left_over in Path("/tmp").glob(f"todo-postgres-*-{digest}"):
        shutil.rmtree(left_over, ignore_errors=True)


def _others_may_write(folder: Path) -> bool:
    data = folder / ".data"
    return data.exists() and bool(data.stat().st_mode & 0o022)


def _judge(surrounding: Surrounding, ready: bool, code: int | None, printed: str) -> str:
    if surrounding.says is None and not ready:
        return f"it did not start (exit code {code}): {printed}"
    if surrounding.says is None and code != 0:
        return f"it ended with exit code {code}: {printed}"
    if surrounding.says is not None and (
        code != 1 or not re.fullmatch(surrounding.says, printed.strip())
    ):
        return f"expected exit code 1 and one line, {surrounding.says!r}; got {code}: {printed}"
    return f"a traceback: {printed}" if "Traceback" in printed else ""


def _becomes_ready(process: subprocess.Popen[bytes], port: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    return False


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(30)


def main(words: list[str]) -> int:
    failed = 0
    for surrounding in SURROUNDINGS:
        if not all(word in surrounding.name for word in words):
            continue
        if surrounding.needs_root and (sys.platform != "linux" or os.geteuid() != 0):
            print(f"skipped  {surrounding.name} (needs root on Linux)")
            continue
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            found = complaint(surrounding, Path(place))
        failed += bool(found)
        print(
            f"{'FAILED' if found else 'ok':8} {surrounding.name!r} {time.monotonic() - begin:.1f} s {found}",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
