"""run.py makes the environment once, mends it by itself, and says plainly why it cannot."""

import ast
import hashlib
import os
import runpy
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

# In place of uv, which is not ours: it notes what it is asked for and installs a pytest that says
# where it runs.
STAND_IN = f"""#!{sys.executable}
import os, pathlib, sys, time
python = pathlib.Path(sys.argv[sys.argv.index("--python") + 1])
packages = next(python.parent.parent.glob("lib/python*/site-packages"))
here = pathlib.Path(__file__).parent
if "FAILING" in os.environ:
    sys.exit("error: out of luck")
if "CUT" in os.environ:
    (packages / "~alf_removed").touch()
    os.kill(os.getpid(), 9)
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

    def begin(
        self, *arguments: str, python: str = sys.executable, **variables: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python, str(self.root / "run.py"), *arguments],
            cwd=self.root,
            env=self.variables | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: str, python: str = sys.executable, **variables: str
    ) -> tuple[int, str, str]:
        process = self.begin(*arguments, python=python, **variables)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output.strip(), errors.strip()

    def forbid_pip(self) -> None:
        """To the environments that are there, so that no second installer takes seconds to try."""
        for packages in self.root.rglob("site-packages"):
            (packages / "sitecustomize.py").write_text(
                "import sys; sys.modules |= {'pip': None, 'ensurepip': None}"
            )

    def installs(self) -> list[str]:
        calls = self.tools / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture(scope="module")
def with_pip(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Its environment has pip, which takes seconds to make; the packages lie in its own folder."""
    project = Project(tmp_path_factory.mktemp("pip") / "project")
    (project.tools / "uv").unlink()
    project.variables |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(project.root),
    }
    assert project.run()[:2] == (0, "cli serve")
    digest = _wheel(project.root).split()[-1]
    (project.root / "backend" / "requirements.txt").write_text(f"greeting==1.0 \\\n    {digest}\n")
    (project.root / "backend" / "cli.py").write_text("import greeting")
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def test_without_a_word_it_serves_and_passes_the_options_on(project: Project) -> None:
    assert project.run("--port", "8123", "--host", "::1")[:2] == (
        0,
        "cli serve --port 8123 --host ::1",
    )
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
    assert all(
        word in output for word in ("--port", "--host", "test", "lint", "token", "TODO_VENV")
    )
    assert not (project.root / ".venv").exists()


def test_an_old_python_gets_one_sentence() -> None:
    ast.parse(RUN.read_text(), feature_version=(3, 6))
    pretend = "import runpy, sys; sys.hexversion = 0x03090000; sys.version = '3.9.2 (x)'; runpy.run_path(sys.argv[1])"
    old = subprocess.run(
        [sys.executable, "-c", pretend, str(RUN)], capture_output=True, text=True, check=False
    )
    assert old.returncode == 1
    assert (
        old.stderr == "This needs Python 3.11 or newer, and this is 3.9.2: try python3.11 run.py.\n"
    )


@pytest.mark.parametrize(
    ("word", "file"), [("serve", "requirements.txt"), ("test", "requirements-dev.txt")]
)
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


def test_an_installation_that_was_killed_is_made_anew_even_while_its_installer_lives(
    project: Project,
) -> None:
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
    assert [process.communicate(timeout=60)[0] for process in both] == [
        "cli serve 1\n",
        "cli serve 2\n",
    ]
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


def test_inside_an_environment_that_somebody_else_made_nothing_is_installed(
    project: Project,
) -> None:
    venv.create(project.root / ".venv", symlinks=True)
    assert project.run(python=str(project.root / ".venv" / "bin" / "python")) == (
        0,
        "cli serve",
        "",
    )
    assert project.installs() == []


def test_without_pip_and_uv_it_says_what_to_install(project: Project) -> None:
    """As on a Debian without python3-venv: neither module can be imported."""
    project.run()
    (project.tools / "uv").unlink()
    (project.root / "backend" / "requirements.txt").write_text("# something else\n")
    venv.create(project.root / "outer", symlinks=True)
    project.forbid_pip()

    code, _, errors = project.run(python=str(project.root / "outer" / "bin" / "python"))

    assert code == 1
    assert "apt-get install python3-venv" in errors


# --- an installation that was cut is never taken for whole ---


def test_an_installer_that_was_cut_leaves_nothing_that_an_older_stamp_vouches_for(
    project: Project,
) -> None:
    requirements = project.root / "backend" / "requirements.txt"
    project.run()
    project.forbid_pip()
    requirements.write_text(f"absent==1.0 --hash=sha256:{'0' * 64}\n")
    assert project.run(CUT="yes", PIP_NO_INDEX="1")[0] == 1
    requirements.write_text("# nothing\n")  # as after `git checkout`

    assert project.run()[:2] == (0, "cli serve")

    assert not list(project.root.glob(".venv/lib/*/site-packages/~alf_removed"))


def test_an_installer_that_failed_is_seen_to_fail_although_sigchld_is_ignored(
    project: Project,
) -> None:
    project.run()
    project.forbid_pip()
    ignoring = (
        "import os, signal, sys; "
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", ignoring, sys.executable, str(project.root / "run.py")]
    environment = project.variables | {"FAILING": "yes", "PIP_NO_INDEX": "1"}
    (project.root / "backend" / "requirements.txt").write_text(
        f"absent==1.0 --hash=sha256:{'0' * 64}\n"
    )
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "could not be installed" in ended.stderr


@pytest.mark.parametrize("option", ["dry-run = true", "target = {}"])
def test_packages_that_a_configuration_file_sent_elsewhere_are_missed(
    with_pip: Project, tmp_path: Path, option: str
) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(f"[install]\n{option.format(tmp_path / 'elsewhere')}\n")

    code, _, errors = with_pip.run(PIP_CONFIG_FILE=str(file))

    assert code == 1
    assert errors.splitlines()[-1].startswith(
        "The installer reported success, but greeting is not in"
    )


# --- the surroundings ---


def test_variables_and_a_folder_that_lead_pip_elsewhere_are_ignored(
    with_pip: Project, tmp_path: Path
) -> None:
    """While PIP_FIND_LINKS and the like, which say where packages come from, stay the user's
    choice."""
    misleading = {
        "PIP_DRY_RUN": "1",
        "PIP_TARGET": str(tmp_path / "elsewhere"),
        "PIP_CONSTRAINT": "/nowhere",
    }
    (with_pip.root / "pip.py").write_text("raise SystemExit('not pip')")  # where the user stands

    code, _, errors = with_pip.run(
        **misleading, PIP_REQUIRE_VIRTUALENV="1", PYTHONPATH=str(with_pip.root)
    )

    assert code == 0, errors
    assert "Installed in" in errors


def test_with_pip_alone_it_installs_and_without_network_it_says_so_and_keeps_what_worked(
    with_pip: Project,
) -> None:
    nowhere = {"PIP_NO_INDEX": "", "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "1"}
    requirements = with_pip.root / "backend" / "requirements.txt"
    local = requirements.read_text()
    code, _, errors = with_pip.run(**nowhere)
    assert code == 0, errors

    requirements.write_text(local + f"absent==1.0 --hash=sha256:{'0' * 64}\n")
    code, _, errors = with_pip.run(**nowhere)
    assert code == 1
    assert errors.endswith("there seems to be no network; try again when there is.")

    requirements.write_text(local)
    assert with_pip.run(**nowhere) == (0, "", "")


@pytest.mark.parametrize("name", [b"a:b", b"caf\xe9"], ids=["colon", "not UTF-8"])
def test_a_path_that_no_environment_can_have_is_named_with_what_to_do(
    tmp_path: Path, name: bytes
) -> None:
    project = Project(tmp_path / os.fsdecode(name))
    code, _, errors = project.run()
    assert code == 1
    assert errors.startswith("No environment can be made in ")
    assert errors.endswith("set TODO_VENV to another path.")
    assert errors.count("\n") == 0
    (tmp_path / "tools").symlink_to(project.tools)
    elsewhere = {"TODO_VENV": str(tmp_path / "venv"), "PATH": str(tmp_path / "tools")}
    assert project.run(**elsewhere)[:2] == (0, "cli serve")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/venv", "relative"])
def test_a_place_that_cannot_be_made_a_full_path_gets_one_sentence(
    project: Project, path: str
) -> None:
    """The second where the folder in which the user stands was deleted."""
    gone = project.root / "gone"
    gone.mkdir()
    command = [
        "/bin/sh",
        "-c",
        f"cd {gone} && /bin/rmdir {gone} && exec {sys.executable} {project.root}/run.py",
    ]
    ended = subprocess.run(
        command,
        env=project.variables | {"TODO_VENV": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("TODO_VENV cannot be made a full path here")


def test_nobody_else_may_write_into_the_environment_whatever_the_mask(project: Project) -> None:
    command = ["/bin/sh", "-c", f"umask 000; exec {sys.executable} {project.root}/run.py"]
    subprocess.run(command, env=project.variables, capture_output=True, check=True)
    folder = project.root / ".venv"
    open_to_others = [path for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & 0o022]
    assert [path for path in open_to_others if not path.is_symlink()] == []


def test_every_requirement_of_ours_is_found_where_it_was_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the check that would otherwise refuse a sound environment."""
    monkeypatch.setenv("TODO_VENV", sys.prefix)
    run = runpy.run_path(str(RUN))
    run["make_sure_of"](run["DEV"])


def _wheel(folder: Path) -> str:
    """The smallest package there is, as a requirement with its hash."""
    file = folder / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("greeting.py", "")
        wheel.writestr(
            "greeting-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        )
        wheel.writestr(
            "greeting-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("greeting-1.0.dist-info/RECORD", "")
    return f"{file.as_uri()} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
