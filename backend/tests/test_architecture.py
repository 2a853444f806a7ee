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
    {"selection", "trash"},
    {"lists", "tasks"},
    {"trees"},
    {"order"},
    {"changes", "ids"},
    {"auth"},
    {"tokens", "database"},
    {"call", "idempotency"},
    {"postgres"},
    {"models", "parameters", "schemas", "statements", "storage"},
    {"entities"},
    {"query"},
    {"rules"},
    {"positions", "texts", "times"},
    {"allowance", "config", "logs", "streams", "strict_json", "threads"},
    {"secret_file"},
    {"errors"},
]
# Within a package likewise: a module may import those of its own layer and of those below.
WITHIN = {
    "postgres": [
        {"migrate"},
        {"adoption", "functions", "pool", "proof"},
        {"turns"},
        {"outages"},
        {"sessions"},
        {"dsn"},
        {"embedded"},
    ],
    "query": [
        {"memory", "parser", "sorting"},
        {"sql", "terms"},
        {"limits"},
        {"arguments", "levels", "names", "reader"},
        {"days", "spelling"},
        {"cursor", "vocabulary"},
        {"tokens", "tree"},
        {"errors"},
    ],
    "storage": [
        {"answers", "writer"},
        {"change", "creation", "purge"},
        {"log", "references"},
        {"function"},
    ],
    "tokens": [{"report"}, {"verification"}, {"keys"}, {"jwks"}],
}
LEVEL = {name: -depth for depth, names in enumerate(LAYERS) for name in names}
APART = {"migrations", "tests"}  # run by Alembic and pytest, imported by nobody


def modules() -> dict[str, list[Path]]:
    """Every module and package of the source root, with its files."""
    single = {path.stem: [path] for path in BACKEND.glob("*.py")}
    packages = {
        path.parent.name: sorted(path.parent.rglob("*.py"))
        for path in BACKEND.glob("*/__init__.py")
    }
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


@pytest.mark.parametrize("package", WITHIN)
def test_imports_within_a_package_point_down(package: str) -> None:
    level = {name: -depth for depth, names in enumerate(WITHIN[package]) for name in names}
    folder = BACKEND / package
    found = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert set(level) == found - {"__init__"}
    for path in (folder / f"{name}.py" for name in level if (folder / f"{name}.py").exists()):
        inner = re.findall(
            rf"^\s*(?:from {package}\.(\w+)|from {package} import (\w+))",
            path.read_text(),
            re.MULTILINE,
        )
        for name in {dotted or plain for dotted, plain in inner}:
            assert level[name] <= level[path.stem], f"{package}/{path.name} imports {name} upwards"


def test_an_upward_import_would_be_seen() -> None:
    assert upward("tasks", "from web.answers import Answer") == {"web"}
    assert upward("errors", "import config, auth") == {"config", "auth"}
    assert upward("routes", "import tasks") == set()


def test_answers_and_what_is_kept_are_written_as_json_in_one_place() -> None:
    """So that a time has the same text everywhere."""
    writing = re.compile(r"orjson\.dumps|model_dump_json|pydantic_core.*to_json")
    writers = {
        name
        for name in set(modules()) - APART
        for path in modules()[name]
        if writing.search(path.read_text())
    }
    assert writers == {
        "storage",
        "strict_json",
    }  # the first writes edits, which only PostgreSQL reads


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
        constants = [
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant)
        ]
        texts = [text for text in constants if isinstance(text, str)]
        assert not [
            text
            for text in texts
            if text.lstrip().startswith(("SELECT ", "INSERT ", "UPDATE ", "DELETE "))
        ]


WRITES = re.compile(
    r"\b(?:INSERT INTO|UPDATE|DELETE FROM) (tasks|changes|change_counters|idempotency_keys|\{[\w.]+\})"
)


def written(source: str) -> set[str]:
    """The tables whose rows `source` writes. `generated` are those that an entity names."""
    return {"generated" if table.startswith("{") else table for table in WRITES.findall(source)}


def test_only_the_writer_writes_what_users_keep() -> None:
    """Besides the adoption of another backend's tasks, before there is a log; and retention of what
    has expired."""
    writers: dict[str, set[str]] = {}
    for name in set(modules()) - APART:
        for path in modules()[name]:
            for table in written(path.read_text()):
                writers.setdefault(table, set()).add(name)
    assert writers == {
        "generated": {"storage"},
        "tasks": {"postgres"},
        "change_counters": {"storage"},
        "changes": {"storage", "retention"},
        "idempotency_keys": {"storage", "retention"},
    }


def test_another_writer_would_be_seen() -> None:
    assert written('f"DELETE FROM {TASK.table} WHERE"') == {"generated"}
    assert written('"UPDATE tasks AS t SET"') == {"tasks"}
    assert written('"INSERT INTO changes (user_id"') == {"changes"}
    assert written('"ON CONFLICT (user_id) DO UPDATE SET at = 1; SELECT FROM tasks"') == set()
