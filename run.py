"""Make the environment, then start the server in it; `python3 run.py --help` says what else it can do."""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Before anything an older Python cannot run. The whole file must stay readable to the parser of Python 3.6.
if sys.hexversion < 0x030B0000:
    sys.exit(
        f"This needs Python 3.11 or newer, and this is {sys.version.split()[0]}: try python3.11 run.py."
    )

ROOT = Path(__file__).resolve().parent
BACKEND = ROOT / "backend"
try:
    VENV = Path(os.environ.get("TODO_VENV") or ROOT / ".venv").expanduser().absolute()
except (
    RuntimeError,
    OSError,
):  # no home folder to put for the ~, or the folder we stand in was deleted
    sys.exit(
        "TODO_VENV cannot be made a full path here: write it out, as in TODO_VENV=/srv/todo/venv."
    )
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = VENV / "run.lock"  # also the sign that the folder is ours to rebuild

RUNTIME = (BACKEND / "requirements.txt",)
DEV = (*RUNTIME, BACKEND / "requirements-dev.txt")

# Variables of the surroundings that choose which code runs, or how, in place of the environment that we make.
# PYTHONOPTIMIZE would take the assertions out of the tests; PYTHONWARNINGS=error makes errors of other people's advice.
MISLEAD_PYTHON = frozenset(
    {
        *(
            "PYTHONHOME",
            "PYTHONPATH",
            "PYTHONSAFEPATH",
            "PYTHONPLATLIBDIR",
            "PYTHONEXECUTABLE",
            "PYTHONCASEOK",
        ),
        *("PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "__PYVENV_LAUNCHER__"),
    }
)
# What else an installer is told by variables would send packages elsewhere, leave some out, or add others. These say
# where packages come from, and how they are fetched: that is for whoever runs this to choose.
WANTED_OF_PIP = frozenset(
    {
        *(
            "INDEX_URL",
            "EXTRA_INDEX_URL",
            "NO_INDEX",
            "FIND_LINKS",
            "PROXY",
            "CERT",
            "CLIENT_CERT",
            "TRUSTED_HOST",
        ),
        *(
            "TIMEOUT",
            "DEFAULT_TIMEOUT",
            "RETRIES",
            "RESUME_RETRIES",
            "CACHE_DIR",
            "NO_CACHE_DIR",
            "CONFIG_FILE",
        ),
        *(
            "KEYRING_PROVIDER",
            "USE_FEATURE",
            "USE_DEPRECATED",
            "ONLY_BINARY",
            "NO_BINARY",
            "PREFER_BINARY",
        ),
        *("NO_COLOR", "VERBOSE", "QUIET", "LOG", "PROGRESS_BAR"),
    }
)
MISLEAD_UV = frozenset(
    {
        *(
            "SYSTEM_PYTHON",
            "PYTHON",
            "MANAGED_PYTHON",
            "NO_MANAGED_PYTHON",
            "PYTHON_PREFERENCE",
            "WORKING_DIR",
        ),
        *(
            "CONSTRAINT",
            "BUILD_CONSTRAINT",
            "OVERRIDE",
            "EXCLUDE",
            "EXCLUDE_NEWER",
            "RESOLUTION",
            "PRERELEASE",
        ),
        *("TORCH_BACKEND", "PROJECT", "WORKING_DIRECTORY", "NO_VERIFY_HASHES"),
    }
)
NO_NETWORK = (
    "name resolution",
    "name or service not known",
    "nodename nor servname",
    "failed to resolve",
    "failed to lookup address",
    "failed to establish a new connection",
    "connection refused",
    "connection reset",
    "network is unreachable",
    "cannot connect to proxy",
    "dns error",
    "error sending request",
    "timed out",
)

DISK_FULL = f"The disk that holds {VENV} is full; make room, or set TODO_VENV to another place."

ALWAYS_INSTALLED = re.compile(
    r"^([A-Za-z0-9._-]+)==([^\s;]+)(?=[ \\]*$)", re.MULTILINE
)  # without a condition
LIST_INSTALLED = """
from importlib.metadata import distributions
for package in distributions():
    print(f"{package.metadata['Name']}=={package.version}")
"""

HELP = """\
python3 run.py [--port N] [--host H]   start the server (the same as: python3 run.py serve)
python3 run.py test [pytest options]   run all tests, or the ones named
python3 run.py lint                    ruff check, ruff format --check, mypy --strict
python3 run.py token --user ada        print a token to try the server with
python3 run.py migrate                 bring the database to this version
python3 run.py openapi                 print the API's description
python3 run.py COMMAND --help          show the options of a command

The first run installs everything into .venv (set TODO_VENV to use another folder); later runs start at once.
If the requirements, the Python or the place of this folder change, it is installed again. Variables that would
mislead Python, pip or uv (PYTHONPATH, PIP_TARGET, UV_SYSTEM_PYTHON …) are ignored."""


class SetupError(Exception):
    """One clear sentence for a person, after what the installer said."""


def main(arguments: list[str]) -> int:
    mend_surroundings()
    first = arguments[0] if arguments else "serve"
    if first in ("-h", "--help", "help"):
        print(HELP)
        return 0
    try:
        make_environment("dev" if first in ("test", "lint") else "runtime")
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("Stopped; the next run makes the environment again.")
        return 130
    if first == "test":
        # Many tests wait: for a server to start, for a time-out to pass.
        os.environ.setdefault("PYTEST_XDIST_AUTO_NUM_WORKERS", str((os.cpu_count() or 1) + 1))
        return become("-m", "pytest", *test_arguments(arguments[1:]), folder=BACKEND)
    if first == "lint":
        return lint()
    return become(
        str(BACKEND / "cli.py"),
        *(["serve"] if first.startswith("-") or not arguments else []),
        *arguments,
    )


def mend_surroundings() -> None:
    """Whoever starts us may have closed streams, a mask that shares everything, and variables for another Python."""
    open_standard_streams()
    os.umask(os.umask(0o022) & 0o077 | 0o022)  # nobody else may write what we make; we may
    if os.name != "nt":
        # Ignored, it takes the exit codes of child processes away: an installer that failed would seem to succeed.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name in [name for name in os.environ if is_misleading(name)]:
        del os.environ[name]
    os.environ["PYTHONUTF8"] = "1"  # names of files are the same in every locale


def open_standard_streams() -> None:
    """Where 0, 1 or 2 is closed, the next file would get that number: a lock or a socket, and what is printed into it.

    The server does the same (`streams.py` there); this file must stand alone.
    """
    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            name = ("stdin", "stdout", "stderr")[number]
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # as long as we live


def is_misleading(name: str) -> bool:
    if name.startswith("PIP_"):
        return name[len("PIP_") :] not in WANTED_OF_PIP
    if name.startswith("UV_"):
        return name[len("UV_") :] in MISLEAD_UV
    return name in MISLEAD_PYTHON


def become(*arguments: str, folder: Path | None = None) -> int:
    """Let the environment's Python take this process over, so that signals and the exit code are its own."""
    command = [str(PYTHON), *arguments]
    if os.name == "nt":  # untested; it has no exec that keeps the console
        return subprocess.call(command, cwd=folder)
    if folder:
        os.chdir(folder)
    with suppress(OSError):
        sys.stdout.flush()
    try:
        os.execv(command[0], command)
    except OSError as error:
        say(
            f"{PYTHON} cannot be run ({error.strerror}); remove {VENV}, and the next run makes it again."
        )
        return 1


def test_arguments(arguments: list[str]) -> list[str]:
    """Paths may be given from where the user stands; without any, all tests run."""
    named = False
    translated = []
    for argument in arguments:
        path, *rest = argument.split("::", 1)
        if (
            (path.endswith(".py") or "/" in path)
            and not path.startswith("-")
            and Path(path).exists()
        ):
            named = True
            argument = "::".join([str(Path(path).absolute()), *rest])
        translated.append(argument)
    return translated if named else ["tests", *translated]


def lint() -> int:
    places = [".", "../run.py"]
    commands = (
        ["ruff", "check", "--config", "pyproject.toml", *places],
        ["ruff", "format", "--check", "--config", "pyproject.toml", *places],
        ["mypy", "--strict", *places],
    )
    return max(
        [subprocess.call([str(PYTHON), "-m", *command], cwd=BACKEND) for command in commands]
    )


def make_environment(kind: str) -> None:
    """Nothing to do takes a millisecond: one stamp is compared."""
    if is_current(kind) or is_somebody_elses():
        return
    try:
        with only_one_at_a_time():
            if not is_current(kind):  # the run we waited for may have made it
                renew(kind)
    except OSError as error:
        raise SetupError(cannot_write(error)) from error


def cannot_write(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    return (
        f"The environment in {VENV} cannot be written ({error}); "
        "make that folder writable, or set TODO_VENV to a path that is."
    )


def is_current(kind: str) -> bool:
    return PYTHON.exists() and read(stamp_file(kind)) == wanted_stamp(kind)


def is_somebody_elses() -> bool:
    """True when we run inside it already (`uv run`, say) and did not make it."""
    return Path(sys.prefix) == VENV and not LOCK.exists()


def wanted_stamp(kind: str) -> str:
    """Two lines: what the environment is made for, and what is in it."""
    files = DEV if kind == "dev" else RUNTIME
    try:
        contents = b"\0".join(file.read_bytes() for file in files)
    except FileNotFoundError as error:
        raise SetupError(f"{error.filename} is missing: it says what to install.") from error
    return f"{foundation()}\n{hashlib.sha256(contents).hexdigest()}\n"


def foundation() -> str:
    return f"{VENV} {sysconfig.get_platform()} {sys.version}".replace("\n", " ")


def stamp_file(kind: str) -> Path:
    return VENV / f"run.{kind}.stamp"


def read(file: Path) -> str:
    try:
        return os.fsdecode(file.read_bytes())
    except OSError:
        return ""


@contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Held while installing; the system lets go of it when this process ends, however it ends."""
    if VENV.is_dir() and any(VENV.iterdir()) and not LOCK.exists():
        raise SetupError(
            f"{VENV} was not made by run.py; remove it, or set TODO_VENV to another path."
        )
    VENV.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a") as file:
        os.set_inheritable(file.fileno(), True)  # should we be killed, the installer still holds it
        if sys.platform == "win32":  # untested
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another run is making the environment; waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def renew(kind: str) -> None:
    stamps = {file: read(file) for file in (stamp_file("runtime"), stamp_file("dev"))}
    sound = PYTHON.exists() and any(
        text.startswith(foundation() + "\n") for text in stamps.values()
    )
    if not sound:
        create()
    # A crash from here on leaves no stamp, so that the next run starts from nothing.
    for file in stamps:
        file.unlink(missing_ok=True)
    before = packages()
    try:
        install(DEV if kind == "dev" else RUNTIME)
    except SetupError:
        for file, text in stamps.items():
            if sound and text and packages() == before:  # what was there still works
                write_whole(file, text)
        raise
    for finished in {"runtime", kind}:
        write_whole(stamp_file(finished), wanted_stamp(finished))


def packages() -> list[str]:
    """What an installer that was cut has taken away or added is seen here; pip itself may have come."""
    found = (path.name for path in VENV.glob("[Ll]ib/**/site-packages/*"))
    return sorted(name for name in found if not name.startswith("pip"))


def create() -> None:
    for left_over in VENV.iterdir():
        if left_over.is_dir() and not left_over.is_symlink():
            shutil.rmtree(left_over)
        elif left_over != LOCK:
            left_over.unlink()
    try:
        import venv
    except ImportError as error:
        raise SetupError(no_installer()) from error
    try:
        venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(VENV)
    except ValueError as error:
        # ':' would end an entry of PATH; bytes that are no UTF-8 cannot be written into a script
        raise SetupError(
            f"No environment can be made in {VENV}, because its path has a {os.pathsep!r} or bytes that are not UTF-8; "
            "set TODO_VENV to another path."
        ) from error


def write_whole(file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_bytes(os.fsencode(text))
    fresh.replace(file)


def install(requirements: tuple[Path, ...]) -> None:
    say(
        f"Installing what {' and '.join(file.name for file in requirements)} names into {VENV} (once)."
    )
    options = ["--require-hashes"]
    for file in requirements:
        options += ["-r", str(file)]
    said: list[str] = []
    begin = time.monotonic()
    for installer in installers():
        code, said = run_visibly([*installer, *options])
        if code == 0:
            make_sure_of(requirements)
            say(f"Installed in {time.monotonic() - begin:.0f} s.")
            return
    raise SetupError("\n".join([*said, explain(said)]) if said else no_installer())


def make_sure_of(requirements: tuple[Path, ...]) -> None:
    """A configuration file of pip's or uv's may have sent the packages elsewhere, or asked for a rehearsal."""
    wanted = {
        match
        for file in requirements
        for match in ALWAYS_INSTALLED.findall(file.read_text(encoding="utf-8"))
    }
    asked = subprocess.run(
        [str(PYTHON), "-I", "-c", LIST_INSTALLED], capture_output=True, text=True, check=False
    )
    installed = {canonical(line) for line in asked.stdout.split()}
    missing = sorted(
        name for name, version in wanted if canonical(f"{name}=={version}") not in installed
    )
    if missing:
        raise SetupError(
            f"The installer reported success, but {', '.join(missing[:3])} is not in {VENV}: look for options such as "
            "target, prefix, user or dry-run in pip's and uv's configuration files (pip config list), and remove them."
        )


def canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+(?=.*==)", "-", requirement).lower()


def installers() -> Iterator[list[str]]:
    """uv where there is one, else pip inside the environment, else (Debian without python3-venv) pip from outside."""
    uv = shutil.which("uv")
    if uv:
        yield [uv, "pip", "install", "--python", str(PYTHON)]
    # -I: a pip.py in the folder where the user stands is not the pip that is meant.
    if works(str(PYTHON), "-I", "-c", "import pip") or works(str(PYTHON), "-I", "-m", "ensurepip"):
        yield [str(PYTHON), "-I", "-m", "pip", "install"]
    elif works(sys.executable, "-I", "-c", "import pip"):
        yield [sys.executable, "-I", "-m", "pip", "--python", str(PYTHON), "install"]


def works(*command: str) -> bool:
    return (
        subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode
        == 0
    )


def run_visibly(command: list[str]) -> tuple[int, list[str]]:
    """Run it quietly but with a sign of life; return its exit code and last lines."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    said: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,  # not where the user stands: uv takes its configuration from there
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        close_fds=False,  # see the lock
    ) as process:
        finished = threading.Event()
        clock = threading.Thread(target=show_life, args=(said, finished), daemon=True)
        clock.start()
        try:
            assert process.stdout is not None
            said.extend(line.rstrip() for line in process.stdout if line.strip())
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            raise
        finally:
            finished.set()
            clock.join()
    return code, list(said)


def show_life(said: deque[str], finished: threading.Event) -> None:
    """Once a second on a terminal, rarely in a log."""
    terminal = sys.stderr.isatty()
    begin = time.monotonic()
    while not finished.wait(1 if terminal else 10):
        step = (said[-1] if said else "").strip()[:60]
        line = f"  {time.monotonic() - begin:3.0f} s  {step}"
        say(f"\r{line:<72}" if terminal else line, end="" if terminal else "\n")
    if terminal:
        say("\r" + " " * 72, end="\r")


def explain(said: list[str]) -> str:
    text = "\n".join(said).lower()
    if any(sign in text for sign in NO_NETWORK):
        return "The packages could not be fetched: there seems to be no network; try again when there is."
    if "no space left" in text:
        return DISK_FULL
    if "hash" in text:
        return "A package is not the one that was tested with this version (its hash differs), so nothing was started."
    return "The packages could not be installed; the lines above say why."


def no_installer() -> str:
    return (
        "This Python has no pip and there is no uv: run 'apt-get install python3-venv' (Debian, Ubuntu), "
        "or install uv, and try again."
    )


def say(line: str, end: str = "\n") -> None:
    with suppress(OSError):  # who reads it may have gone, or the disk that it goes to is full
        print(line, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
