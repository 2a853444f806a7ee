"""The shape of the house: imports point down, every module is packaged, no name hides another."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest

BACKEND = Path(__file__).resolve().parent.parent

# From the doors down to the leaves. A module may import its own layer and those below it.
LAYERS = [
    {"main", "cli", "server"},
    {"routes"},
    {"web"},
    {"retention", "undo"},
    {"trash"},
    {"explain", "idempotency", "tasks"},
    {"changes"},
    {"auth"},
    {"keys", "database"},
    {"migrate"},
    {"adoption"},
    {"jwks", "pool"},
    {"outages"},
    {"sessions"},
    {"models", "schemas"},
    {"dsn"},
    {"allowance", "config", "logs", "streams", "strict_json", "threads"},
    {"errors", "embedded"},
]
LEVEL = {name: -depth for depth, names in enumerate(LAYERS) for name in names}
APART = {"migrations", "tests"}  # run by Alembic and pytest, imported by nobody


def modules() -> dict[str, list[Path]]:
    """Every module and package of the source root, with its files."""
    single = {path.stem: [path] for path in BACKEND.glob("*.py")}
    packages = {path.parent.name: sorted(path.parent.rglob("*.py")) for path in BACKEND.glob("*/__init__.py")}
    return {**single, **packages}


def imports(source: str) -> set[str]:
    """The top-level names that `source` imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def upward(module: str, source: str) -> set[str]:
    return {name for name in imports(source) if name in LEVEL and LEVEL[name] > LEVEL[module]}


@pytest.mark.parametrize("module", sorted(set(modules()) - APART))
def test_imports_point_down(module: str) -> None:
    assert module in LEVEL, f"{module} has no layer; give it one in LAYERS"
    for path in modules()[module]:
        assert not upward(module, path.read_text()), f"{path.relative_to(BACKEND)} imports upwards"


def test_an_upward_import_would_be_seen() -> None:
    assert upward("tasks", "from web.answers import Answer") == {"web"}
    assert upward("errors", "import config, auth") == {"config", "auth"}
    assert upward("routes", "import tasks") == set()


def test_answers_and_what_is_kept_are_written_as_json_in_one_place() -> None:
    """So that a time has the same text everywhere."""
    sources = {path for name in set(modules()) - APART for path in modules()[name]}
    writers = {path.stem for path in sources if re.search(r"orjson\.dumps|model_dump_json|to_json", path.read_text())}
    assert writers == {"strict_json"}


def test_no_layer_names_a_module_that_is_gone() -> None:
    assert set(LEVEL) == set(modules()) - APART


def test_every_module_is_packaged() -> None:
    packaging = tomllib.loads((BACKEND / "pyproject.toml").read_text())["tool"]["setuptools"]
    single = {path.stem for path in BACKEND.glob("*.py")}
    packages = {
        str(path.parent.relative_to(BACKEND)).replace("/", ".")
        for path in BACKEND.rglob("__init__.py")
        if path.relative_to(BACKEND).parts[0] != "tests"
    }
    assert set(packaging["py-modules"]) == single
    assert set(packaging["packages"]) == packages | set(packaging["package-data"])


def test_no_module_hides_a_dependency_or_a_standard_module() -> None:
    installed = {
        name.partition("/")[0].removesuffix(".py")
        for distribution in distributions()
        for name in (str(file) for file in distribution.files or ())
        if name.endswith(".py") and not name.startswith((".", "_"))
    }
    ours = set(modules())
    assert not ours & set(sys.stdlib_module_names)
    assert not (ours - {"tests"}) & installed


def test_doors_hold_no_sql() -> None:
    for path in modules()["routes"] + modules()["web"]:
        constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        texts = [text for text in constants if isinstance(text, str)]
        assert not [text for text in texts if text.lstrip().startswith(("SELECT ", "INSERT ", "UPDATE ", "DELETE "))]


def test_only_tasks_and_trash_write_tasks_once_they_are_here() -> None:
    writes = ("INSERT INTO tasks", "UPDATE tasks", "DELETE FROM tasks")
    writers = {
        name
        for name, paths in modules().items()
        for path in paths
        if name not in APART and any(write in path.read_text() for write in writes)
    }
    assert writers == {"adoption", "tasks", "trash"}  # the first, before there is a log
