"""Make the environment, then start the server in it; `python3 run.py --help` says what else it can do."""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Before anything an older Python cannot run. The whole file must stay readable to the parser of Python 3.6.
if sys.hexversion < 0x030B0000:
    sys.exit(f"This needs Python 3.11 or newer, and this is {sys.version.split()[0]}: try python3.11 run.py.")

ROOT = Path(__file__).resolve().parent
BACKEND = ROOT / "backend"
VENV = Path(os.environ.get("TODO_VENV") or ROOT / ".venv").expanduser().absolute()
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = VENV / "run.lock"  # also the sign that the folder is ours to rebuild

RUNTIME = (BACKEND / "requirements.txt",)
DEV = (*RUNTIME, BACKEND / "requirements-dev.txt")

# Settings of an outer environment that would send packages, or the interpreter, elsewhere.
MISLEADING = ("PYTHONHOME", "__PYVENV_LAUNCHER__", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON")
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

HELP = """\
python3 run.py [--port N] [--host H]   start the server (the same as: serve)
python3 run.py test [pytest options]   run all tests, or the ones named
python3 run.py lint                    ruff check, ruff format --check, mypy --strict
python3 run.py token --user ada        print a token to try the server with
python3 run.py migrate                 bring the database to this version
python3 run.py openapi                 print the API's description
python3 run.py COMMAND --help          what one of them takes

The first start makes the environment in .venv (elsewhere: set TODO_VENV to a path); later ones go straight on.
It is made anew by itself when the requirements, the Python or the place of this folder change."""


class SetupError(Exception):
    """One clear sentence for a person, after what the installer said."""


def main(arguments: list[str]) -> int:
    first = arguments[0] if arguments else "serve"
    if first in ("-h", "--help", "help"):
        print(HELP)
        return 0
    for name in MISLEADING:
        os.environ.pop(name, None)
    try:
        make_environment("dev" if first in ("test", "lint") else "runtime")
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("Stopped; the next run makes the environment anew.")
        return 130
    if first == "test":
        # Dozens of processes compile the same files unless they may keep what they compiled: 10 s against 4 to collect.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        # Many tests wait: for a server to start, for a time-out to pass.
        os.environ.setdefault("PYTEST_XDIST_AUTO_NUM_WORKERS", str((os.cpu_count() or 1) + 1))
        return become("-m", "pytest", *test_arguments(arguments[1:]), folder=BACKEND)
    if first == "lint":
        return lint()
    return become(str(BACKEND / "cli.py"), *(["serve"] if first.startswith("-") or not arguments else []), *arguments)


def become(*arguments: str, folder: Path | None = None) -> int:
    """Let the environment's Python take this process over, so that signals and the exit code are its own."""
    command = [str(PYTHON), *arguments]
    if os.name == "nt":  # untested; it has no exec that keeps the console
        return subprocess.call(command, cwd=folder)
    if folder:
        os.chdir(folder)
    sys.stdout.flush()
    os.execv(command[0], command)


def test_arguments(arguments: list[str]) -> list[str]:
    """Paths may be given from where the user stands; without any, all tests run."""
    named = False
    translated = []
    for argument in arguments:
        path, *rest = argument.split("::", 1)
        if (path.endswith(".py") or "/" in path) and not path.startswith("-") and Path(path).exists():
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
    return max([subprocess.call([str(PYTHON), "-m", *command], cwd=BACKEND) for command in commands])


def make_environment(kind: str) -> None:
    """Nothing to do takes a millisecond: one stamp is compared."""
    if is_current(kind) or is_somebody_elses():
        return
    try:
        with only_one_at_a_time():
            if not is_current(kind):  # the run we waited for may have made it
                renew(kind)
    except OSError as error:
        raise SetupError(
            f"The environment in {VENV} cannot be written ({error}); "
            "make that folder writable, or set TODO_VENV to a path that is."
        ) from error


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
        return file.read_text()
    except OSError:
        return ""


@contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Held while installing; the system lets go of it when this process ends, however it ends."""
    if VENV.is_dir() and any(VENV.iterdir()) and not LOCK.exists():
        raise SetupError(f"{VENV} was not made by run.py; remove it, or set TODO_VENV to another path.")
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
    sound = PYTHON.exists() and any(text.startswith(foundation() + "\n") for text in stamps.values())
    if not sound:
        create()
    # A crash from here on leaves no stamp, so that the next run starts from nothing.
    for file in stamps:
        file.unlink(missing_ok=True)
    try:
        install(DEV if kind == "dev" else RUNTIME)
    except SetupError:
        for file, text in stamps.items():
            if sound and text:
                file.write_text(text)  # what was there still works
        raise
    for finished in {"runtime", kind}:
        write_whole(stamp_file(finished), wanted_stamp(finished))


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
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(VENV)


def write_whole(file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def install(requirements: tuple[Path, ...]) -> None:
    say(f"Installing what {' and '.join(file.name for file in requirements)} names into {VENV} (once).")
    options = ["--require-hashes"]
    for file in requirements:
        options += ["-r", str(file)]
    said: list[str] = []
    begin = time.monotonic()
    for installer in installers():
        code, said = run_visibly([*installer, *options])
        if code == 0:
            say(f"Installed in {time.monotonic() - begin:.0f} s.")
            return
    raise SetupError("\n".join([*said, explain(said)]) if said else no_installer())


def installers() -> Iterator[list[str]]:
    """uv where there is one, else pip inside the environment, else (Debian without python3-venv) pip from outside."""
    uv = shutil.which("uv")
    if uv:
        yield [uv, "pip", "install", "--python", str(PYTHON)]
    if works(str(PYTHON), "-c", "import pip") or works(str(PYTHON), "-m", "ensurepip"):
        yield [str(PYTHON), "-m", "pip", "install"]
    elif works(sys.executable, "-c", "import pip"):
        yield [sys.executable, "-m", "pip", "--python", str(PYTHON), "install"]


def works(*command: str) -> bool:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def run_visibly(command: list[str]) -> tuple[int, list[str]]:
    """Run it quietly but with a sign of life; return its exit code and last lines."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    said: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        command,
        env=environment,
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
        print(f"\r{line:<72}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal:
        print("\r" + " " * 72, end="\r", file=sys.stderr, flush=True)


def explain(said: list[str]) -> str:
    text = "\n".join(said).lower()
    if any(sign in text for sign in NO_NETWORK):
        return "The packages could not be fetched: there seems to be no network; try again when there is."
    if "no space left" in text:
        return f"The disk that holds {VENV} is full; make room, or set TODO_VENV to another place."
    if "hash" in text:
        return "A package is not the one that was tested with this version (its hash differs), so nothing was started."
    return "The packages could not be installed; the lines above say why."


def no_installer() -> str:
    return (
        "This Python has no pip and there is no uv: run 'apt-get install python3-venv' (Debian, Ubuntu), "
        "or install uv, and try again."
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
