"""On odd machines the server starts, or says in one sentence what to do; a command says when its
answer is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import secret_file
from postgres import embedded
from tests.servers import BACKEND, clean_environment
from tests.surroundings import SURROUNDINGS, Surrounding, complaint

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shells and file descriptors of POSIX")
QUICK = [surrounding for surrounding in SURROUNDINGS if surrounding.quick]


@pytest.mark.parametrize("surrounding", QUICK, ids=[surrounding.name for surrounding in QUICK])
def test_it_starts_or_says_what_to_do(
    surrounding: Surrounding, tmp_path: Path, cluster: embedded.Server
) -> None:
    """Most of them on the tests' own database, by the URL that the server uses for its embedded
    one."""
    settings = (
        {}
        if surrounding.name == "everything at once"
        else {"NEON_DATABASE_URL": cluster.complete_url()}
    )
    assert complaint(surrounding, tmp_path, **settings) == ""


def todo(
    *arguments: str, output: int = subprocess.PIPE, **settings: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, str(BACKEND / "cli.py"), *arguments],
        env=clean_environment(**settings),
        stdout=output,
        stderr=subprocess.PIPE,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_token_for_a_full_disk_is_said_to_be_lost(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        ended = todo("token", "--user", "ada", output=full.fileno(), DATA_DIR=str(tmp_path))
    assert ended.returncode == 1
    said = (
        "Standard output cannot be written (No space left on device); send it to another place.\n"
    )
    assert ended.stderr.decode() == said


def test_a_token_for_a_pipe_that_nobody_reads_is_said_to_be_lost(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = todo("token", "--user", "ada", output=writer, DATA_DIR=str(tmp_path))
    os.close(writer)
    assert ended.returncode == 1
    assert (
        ended.stderr.decode()
        == "Standard output cannot be written (Broken pipe); send it to another place.\n"
    )


def test_the_description_is_the_same_in_a_locale_of_ascii() -> None:
    ended = todo("openapi", PYTHONIOENCODING="ascii", DATA_DIR="/nowhere")
    assert ended.stderr == b""
    assert json.loads(ended.stdout) == json.loads(
        (BACKEND / "openapi.json").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("left", [b"", b"\0" * 100], ids=["empty", "zeros"])
def test_an_environment_that_a_power_cut_emptied_is_named_with_what_to_do(
    tmp_path: Path, left: bytes
) -> None:
    venv.create(tmp_path, symlinks=True)
    (tmp_path / "run.lock").touch()  # as run.py leaves it
    [packages] = tmp_path.glob("lib/python*/site-packages")
    (packages / "jwt.py").write_bytes(left)
    command = [str(tmp_path / "bin" / "python"), str(BACKEND / "cli.py"), "serve"]
    ended = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("The environment is broken (")
    assert ended.stderr.endswith(f"): remove {tmp_path}, and python3 run.py makes it again.\n")
    assert ended.stderr.count("\n") == 1


# --- the development secret ---


@pytest.mark.parametrize("left", [b"", b" \n", b"\0" * 64], ids=["empty", "blank", "zeros"])
def test_a_secret_that_everybody_knows_is_made_again(
    tmp_path: Path, left: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A power cut leaves a file with its name and without its content."""
    (tmp_path / "secret").write_bytes(left)

    secret = secret_file.read_or_make(tmp_path / "secret")

    assert len(secret) == 64
    assert len(set(secret)) > 4
    assert secret_file.read_or_make(tmp_path / "secret") == secret
    assert "earlier tokens are refused" in caplog.text
    assert secret.decode() not in caplog.text


def test_a_secret_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on exFAT; `tests/surroundings.py` starts on a real one."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert len(secret_file.read_or_make(tmp_path / "secret")) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_everybody_who_starts_at_once_has_the_same_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    script = "import sys, pathlib, secret_file; print(secret_file.read_or_make(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", script, str(tmp_path / "secret")]
    starts = [
        subprocess.Popen(command, cwd=BACKEND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in "1234"
    ]
    assert len({start.communicate()[0] for start in starts}) == 1


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_the_folder_of_the_secret_is_private_whatever_the_mask(tmp_path: Path, mask: int) -> None:
    command = f"umask {mask:o}; exec {sys.executable} {BACKEND}/cli.py token --user ada"
    subprocess.run(
        ["/bin/sh", "-c", command],
        env=clean_environment(DATA_DIR=str(tmp_path / "data")),
        check=True,
    )
    assert oct((tmp_path / "data").stat().st_mode & 0o777) == oct(0o700)
    assert oct((tmp_path / "data" / "secret").stat().st_mode & 0o777) == oct(0o600)
