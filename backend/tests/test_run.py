"""run.py makes the environment once, mends it by itself, and says plainly why it cannot."""

import ast
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "run.py"

CLI = "import sys; print('cli', *sys.argv[1:])"

# In place of uv, which is not ours: it notes what it is asked for and installs a pytest that says where it runs.
STAND_IN = f"""#!{sys.executable}
import os, pathlib, sys, time
python = pathlib.Path(sys.argv[sys.argv.index("--python") + 1])
packages = next(python.parent.parent.glob("lib/python*/site-packages"))
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    print(*(pathlib.Path(word).name for word in sys.argv if word.endswith(".txt")), file=calls)
if "INTERRUPTED" in os.environ:
    (packages / "half_installed").touch()
    time.sleep(0.4)
(packages / "pytest.py").write_text("import os, sys; print('pytest', os.getcwd(), *sys.argv[1:])")
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in for uv is a script")


class Project:
    """A copy of the project with next to nothing in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "backend" / "tests").mkdir(parents=True)
        shutil.copy(RUN, root)
        (root / "backend" / "cli.py").write_text(CLI)
        (root / "backend" / "requirements.txt").write_text("# nothing\n")
        (root / "backend" / "requirements-dev.txt").write_text("# nothing more\n")
        self.tools = root / "tools"
        self.tools.mkdir()
        (self.tools / "uv").write_text(STAND_IN)
        (self.tools / "uv").chmod(0o755)
        self.variables = {"PATH": str(self.tools), "HOME": str(root)}

    def begin(self, *arguments: str, python: str = sys.executable, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python, str(self.root / "run.py"), *arguments],
            cwd=self.root,
            env=self.variables | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, python: str = sys.executable, **variables: str) -> tuple[int, str, str]:
        process = self.begin(*arguments, python=python, **variables)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output.strip(), errors.strip()

    def installs(self) -> list[str]:
        calls = self.tools / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def test_without_a_word_it_serves_and_passes_the_options_on(project: Project) -> None:
    assert project.run("--port", "8123", "--host", "::1")[:2] == (0, "cli serve --port 8123 --host ::1")
    assert project.run()[:2] == (0, "cli serve")


def test_any_other_word_goes_to_the_command_line_unchanged(project: Project) -> None:
    assert project.run("token", "--user", "ada")[:2] == (0, "cli token --user ada")


def test_a_later_start_installs_nothing_and_is_silent_and_quick(project: Project) -> None:
    project.run()
    begin = time.monotonic()

    assert project.run() == (0, "cli serve", "")

    assert time.monotonic() - begin < 1
    assert project.installs() == ["requirements.txt"]


def test_only_test_installs_the_test_tools_and_runs_in_backend(project: Project) -> None:
    project.run()
    _, output, _ = project.run("test", "-x")
    assert output == f"pytest {project.root / 'backend'} tests -x"
    assert project.installs() == ["requirements.txt", "requirements.txt requirements-dev.txt"]

    project.run()
    assert len(project.installs()) == 2


def test_a_named_test_file_runs_alone_from_wherever_it_is_named(project: Project) -> None:
    file = project.root / "backend" / "tests" / "test_a.py"
    file.touch()
    _, output, _ = project.run("test", "backend/tests/test_a.py::test_b", "-k", "tests")
    assert output == f"pytest {project.root / 'backend'} {file}::test_b -k tests"


def test_help_installs_nothing(project: Project) -> None:
    code, output, _ = project.run("--help")
    assert code == 0
    assert all(word in output for word in ("--port", "--host", "test", "lint", "token", "TODO_VENV"))
    assert not (project.root / ".venv").exists()


def test_an_old_python_gets_one_sentence() -> None:
    ast.parse(RUN.read_text(), feature_version=(3, 6))
    pretend = "import runpy, sys; sys.hexversion = 0x03090000; sys.version = '3.9.2 (x)'; runpy.run_path(sys.argv[1])"
    old = subprocess.run([sys.executable, "-c", pretend, str(RUN)], capture_output=True, text=True, check=False)
    assert old.returncode == 1
    assert old.stderr == "This needs Python 3.11 or newer, and this is 3.9.2: try python3.11 run.py.\n"


@pytest.mark.parametrize(("word", "file"), [("serve", "requirements.txt"), ("test", "requirements-dev.txt")])
def test_changed_requirements_are_installed(project: Project, word: str, file: str) -> None:
    project.run(word)
    (project.root / "backend" / file).write_text("# something else\n")
    project.run(word)
    assert len(project.installs()) == 2


def test_a_vanished_interpreter_and_a_moved_folder_heal(project: Project) -> None:
    project.run()
    (project.root / ".venv" / "bin" / "python").unlink()
    assert project.run()[:2] == (0, "cli serve")

    project.root = project.root.rename(project.root.with_name("moved"))
    project.variables["PATH"] = str(project.root / "tools")
    assert project.run()[:2] == (0, "cli serve")
    assert str(project.root) in (project.root / ".venv" / "pyvenv.cfg").read_text()


def test_an_installation_that_was_killed_is_made_anew_even_while_its_installer_lives(project: Project) -> None:
    project.run()
    (project.root / "backend" / "requirements.txt").write_text("# something else\n")
    killed = project.begin(INTERRUPTED="yes")
    while not list(project.root.glob(".venv/lib/*/site-packages/half_installed")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)

    code, output, errors = project.run()

    assert (code, output) == (0, "cli serve")
    assert "Another run is making the environment" in errors
    assert not list(project.root.glob(".venv/lib/*/site-packages/half_installed"))
    killed.communicate()


def test_two_first_starts_at_once_install_once(project: Project) -> None:
    both = [project.begin("serve", number) for number in "12"]
    assert [process.communicate(timeout=60)[0] for process in both] == ["cli serve 1\n", "cli serve 2\n"]
    assert len(project.installs()) == 1


def test_the_environment_can_be_elsewhere(project: Project, tmp_path: Path) -> None:
    assert project.run(TODO_VENV=str(tmp_path / "elsewhere"))[:2] == (0, "cli serve")
    assert (tmp_path / "elsewhere" / "bin" / "python").exists()
    assert not (project.root / ".venv").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(project: Project) -> None:
    code, _, errors = project.run(TODO_VENV=str(project.root))
    assert code == 1
    assert errors.endswith("was not made by run.py; remove it, or set TODO_VENV to another path.")
    assert (project.root / "backend").exists()


def test_an_environment_that_somebody_else_made_is_left_alone(project: Project) -> None:
    theirs = project.root / "theirs"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").write_text("home = /usr\n")
    (theirs / "precious.txt").write_text("x")
    code, _, errors = project.run(TODO_VENV=str(theirs))
    assert code == 1
    assert "was not made by run.py" in errors
    assert (theirs / "precious.txt").exists()


def test_a_folder_that_cannot_be_written_is_named(project: Project) -> None:
    code, _, errors = project.run(TODO_VENV="/proc/venv")
    assert code == 1
    assert errors.startswith("The environment in /proc/venv cannot be written")
    assert errors.count("\n") == 0


def test_inside_an_environment_that_somebody_else_made_nothing_is_installed(project: Project) -> None:
    venv.create(project.root / ".venv", symlinks=True)
    assert project.run(python=str(project.root / ".venv" / "bin" / "python")) == (0, "cli serve", "")
    assert project.installs() == []


def test_with_pip_alone_it_installs_and_without_network_it_says_so_and_keeps_what_worked(project: Project) -> None:
    (project.tools / "uv").unlink()
    requirements = project.root / "backend" / "requirements.txt"
    local = f"greeting @ {_wheel(project.root)}\n"
    requirements.write_text(local)
    (project.root / "backend" / "cli.py").write_text("import greeting")
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    code, _, errors = project.run(**nowhere)
    assert code == 0, errors

    requirements.write_text(local + f"absent==1.0 --hash=sha256:{'0' * 64}\n")
    code, _, errors = project.run(**nowhere)
    assert code == 1
    assert errors.endswith("there seems to be no network; try again when there is.")

    requirements.write_text(local)
    assert project.run(**nowhere) == (0, "", "")


def test_without_pip_and_uv_it_says_what_to_install(project: Project) -> None:
    """As on a Debian without python3-venv: neither module can be imported."""
    (project.tools / "uv").unlink()
    blocked = project.root / "blocked"
    blocked.mkdir()
    for module in ("pip", "ensurepip"):
        (blocked / f"{module}.py").write_text("raise ImportError\n")
    code, _, errors = project.run(PYTHONPATH=str(blocked))
    assert code == 1
    assert "apt-get install python3-venv" in errors


def _wheel(folder: Path) -> str:
    """The smallest package there is, as a requirement with its hash."""
    file = folder / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("greeting.py", "")
        wheel.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("greeting-1.0.dist-info/RECORD", "")
    return f"{file.as_uri()} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
