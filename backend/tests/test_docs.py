"""What the pages say is what the code does: each list of a page is compared with its source, each
command is run."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn

import cli
import config
import errors
from entities import ENTITIES, LIST, TASK, Entity
from main import app
from postgres import sessions
from tests.people import SECRET, Person
from tests.servers import BACKEND, Running, clean_environment
from tests.test_architecture import APART, LEVEL, modules

ROOT = BACKEND.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted(
        [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "RESULTS.md"]
    )
}
SETTINGS, API, TOKENS, DATABASE = (
    PAGES[f"docs/{name}.md"] for name in ("settings", "api", "tokens", "database")
)

CODE = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(
    r"^```(\w*)\n(.*?)^```$|((?:^ {4,}\S[^\n]*\n|(?<=\n)\n(?= {4,}\S))+)", re.DOTALL | re.MULTILINE
)


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table that begins with `heading`."""
    table = page[page.index(heading) :].split("\n\n")[0]
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in table.splitlines()]
    return [[cell.strip() for cell in row] for row in cells[2:]]


def blocks(page: str) -> list[str]:
    return [found[2] or found[3] for found in BLOCK.finditer(page)]


# --- settings ---

VARIABLES = rows(SETTINGS, "| variable |")


def variable_of(name: str) -> str:
    return str(config.Settings.model_fields[name].validation_alias or name.upper())


def read_elsewhere() -> set[str]:
    """Every variable that our code asks the environment for by its name, as in
    `os.environ.get("TODO_VENV")`."""
    found = set()
    for path in [
        ROOT / "run.py",
        *(file for name in set(modules()) - APART for file in modules()[name]),
    ]:
        source = path.read_text()
        constants = dict(re.findall(r'^(\w+) = "(\w+)"$', source, re.MULTILINE))
        for asked in re.findall(r"os\.environ\.get\(([^),]+)|os\.getenv\(([^),]+)", source):
            name = "".join(asked)
            found.add(constants.get(name) or ast.literal_eval(name))
    return found


def test_every_setting_has_its_row_and_no_row_is_without_a_setting() -> None:
    described = [name for row in VARIABLES for name in CODE.findall(row[0])]
    fields = {variable_of(name) for name in config.Settings.model_fields}
    assert len(described) == len(set(described))
    assert set(described) == fields | read_elsewhere()


def test_every_row_says_the_default_that_counts() -> None:
    """Of the settings whose default is a plain value: others are described in words."""
    cells = {name: row[1] for row in VARIABLES for name in CODE.findall(row[0])}
    for name, field in config.Settings.model_fields.items():
        if isinstance(field.default, bool | int | str):
            default = (
                str(field.default).lower()
                if isinstance(field.default, bool)
                else str(field.default)
            )
            assert re.search(rf"\b{re.escape(default)}\b", cells[variable_of(name)]), name


def test_the_example_of_an_environment_names_settings_only() -> None:
    named = re.findall(r"^(?:# )?([A-Z_]+)=", (BACKEND / ".env.example").read_text(), re.MULTILINE)
    assert set(named) <= {variable_of(name) for name in config.Settings.model_fields}


def test_every_value_of_a_session_is_in_the_table() -> None:
    settings = [sessions.MEANING, sessions.MEANING_SINCE_17, sessions.OF_A_SESSION]
    settings += [sessions.OF_A_TRANSACTION, sessions.LIMITS]
    table = {name for row in rows(DATABASE, "| setting | value |") for name in CODE.findall(row[0])}
    assert {name for each in settings for name in each} <= table
    assert table <= {name for each in settings for name in each} | {
        "role",
        "session_authorization",
        "search_path",
    }


# --- errors ---


def every_error(kind: type[errors.ApiError] = errors.ApiError) -> Iterator[type[errors.ApiError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from every_error(narrower)


def test_every_error_is_in_the_table_with_its_status() -> None:
    table = set()
    for row in rows(API, "| status | `code` | when |"):
        table |= set(zip(map(int, row[0].split(" · ")), CODE.findall(row[1]), strict=True))
    ours = {kind for kind in every_error() if kind.__module__ == "errors"}
    assert table == {(kind.status, kind.code) for kind in ours}


def test_every_code_that_a_page_tells_a_client_to_look_for_exists() -> None:
    codes = {kind.code for kind in every_error()}
    for name, page in PAGES.items():
        for status, code in re.findall(r"\b(4\d\d|5\d\d) `([A-Z_]{5,})`", page):
            assert code in codes, f"{name}: {status} {code}"


def test_every_reason_of_a_401_is_in_the_table() -> None:
    table = [CODE.findall(row[0])[0] for row in rows(TOKENS, "| `reason` |")]
    assert sorted(table) == sorted(errors.ADVICE)


# --- the API and the code ---

DOCUMENT: dict[str, Any] = app.openapi()
TABLES = [rows(PAGES["README.md"], "| request | does |"), rows(API, "| request | answer |")]
TABLES.append(rows(PAGES["docs/undo.md"], "| request | answer |"))


def requests(cell: str) -> set[tuple[str, str]]:
    """`GET /health` · `GET /ready`, or `PUT` or `PATCH /v1/x`: methods and paths, whatever a path's
    value is called."""
    found = set()
    for part in cell.split(" · "):
        methods = re.findall(r"\b(GET|POST|PUT|PATCH|DELETE)\b", part)
        paths = re.findall(r" (/[^\s`?\\]*)", part)
        found |= set(product(methods, [re.sub(r"\{\w+\}", "{}", path) for path in paths]))
    return found


def test_every_request_is_in_the_readme_and_every_request_of_a_table_exists() -> None:
    served = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    }
    readme, api, undo = ({one for row in table for one in requests(row[0])} for table in TABLES)
    assert readme == served
    assert api | undo == {one for one in served if one[1] not in ("/health", "/ready")}


def test_every_layer_is_in_the_list_for_people_in_the_order_of_the_imports() -> None:
    listed = [
        name
        for line in blocks(PAGES["docs/architecture.md"])[0].splitlines()
        for name in re.findall(r"\w+", re.split(r"\s{2,}", line)[0])
    ]
    assert sorted(listed) == sorted(LEVEL)
    levels = [LEVEL[name] for name in listed]
    assert levels == sorted(levels, reverse=True)


# --- what is linked and named ---


def anchors(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


FOREIGN_FILES = {"lib/auth.ts", "lib/api.ts"}  # of the reader's frontend


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_is_named_exists(name: str) -> None:
    places = [ROOT, BACKEND, BACKEND / "tests", ROOT / "benchmarks", ROOT / "docs"]
    for text in CODE.findall(PAGES[name]):
        if re.fullmatch(r"[\w./-]+\.(?:py|md|txt|in|toml|ico|svg)|[\w.-]+/(?:[\w.-]+/)*", text):
            assert text in MADE_LATER or any((place / text).exists() for place in places), text


MADE_LATER = {".data/", ".venv/"}


# --- commands ---


class Command(NamedTuple):
    """What a page tells its reader to type: after `python3 run.py`, `todo`, `cli.py` or `uvicorn`."""

    page: str
    program: str
    arguments: list[str]


TYPED = re.compile(
    r"(python3 run\.py|uv run run\.py|python cli\.py|(?<![-.\w/])uvicorn(?= main:app)|(?<=^)todo)(?: (.*))?$"
)


def commands() -> Iterator[Command]:
    """Of every block of code, and of every inline code that is a command."""
    for name, page in PAGES.items():
        lines = [line for block in blocks(page) for line in block.splitlines()]
        for text in [*lines, *CODE.findall(re.sub(BLOCK, "", page))]:
            for part in re.split(r"&&|\||\$\(|\)", text):
                if typed := TYPED.search(part.strip()):
                    yield Command(name, typed[1], shlex.split(typed[2] or "", comments=True))


COMMANDS = list(commands())


def is_known(command: Command) -> bool:
    """Parsed as the program itself would; one that it does not know ends with SystemExit."""
    if command.program == "uvicorn":
        return bool(uvicorn.main.make_context("uvicorn", list(command.arguments)))
    first = command.arguments[0] if command.arguments else "serve"
    if command.program.endswith("run.py") and first in ("test", "lint"):
        return True
    if command.program.endswith("run.py") and (first.startswith("-") or not command.arguments):
        first, command = "serve", command._replace(arguments=["serve", *command.arguments])
    return bool(cli._parser().parse_args(command.arguments))


@pytest.mark.parametrize(
    "command", COMMANDS, ids=[f"{one.page}: {one.program} {one.arguments}" for one in COMMANDS]
)
def test_every_command_exists_with_its_flags(command: Command) -> None:
    assert is_known(command)


def test_every_command_is_on_a_page_and_in_the_help() -> None:
    told = {
        command.arguments[0]
        for command in COMMANDS
        if command.program != "uvicorn" and command.arguments
    }
    subparsers = next(
        each for each in cli._parser()._actions if isinstance(each, argparse._SubParsersAction)
    )
    assert set(subparsers.choices) <= told
    asked = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "--help"], capture_output=True, text=True, check=True
    )
    helped = set(re.findall(r"^python3 run\.py (\w+)", asked.stdout, re.MULTILINE))
    assert helped | {"serve"} == {"COMMAND", "test", "lint", *subparsers.choices}


def test_in_a_container_it_listens_where_others_can_reach_it() -> None:
    [command] = [
        one for one in COMMANDS if one.page == "README.md" and one.program == "python cli.py"
    ]
    assert cli._parser().parse_args(command.arguments).host == "0.0.0.0"


# --- curl ---

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="the pages' examples need curl")


def shell(script: str, folder: Path, **variables: str) -> str:
    environment = {
        **clean_environment(BETTER_AUTH_SECRET=SECRET, DATA_DIR=str(folder)),
        **variables,
    }
    ended = subprocess.run(
        ["sh", "-ec", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@needs_curl
def test_the_first_task_of_the_readme_is_created_changed_and_deleted(
    tmp_path: Path, server: Running, ada: Person
) -> None:
    """As it stands there, but with this server's address and another user's name, and the id that
    the task got."""
    [script] = [block for block in blocks(PAGES["README.md"]) if "curl" in block]
    script = script.replace("python3 run.py", f"'{sys.executable}' '{BACKEND / 'cli.py'}'")
    script = script.replace("http://localhost:8000", server.url).replace("ada", ada.id)
    script = script.replace("$TASKS/1", f"$TASKS/{ada.has('Buy bread')['id']}").replace(
        "curl ", "curl -sS -w '\\n' "
    )
    answers = [json.loads(line) for line in shell(script, tmp_path).splitlines()]
    assert [answer["message"] for answer in answers] == [
        "Task created",
        "Tasks retrieved",
        "Tasks retrieved",
        "Task updated",
        "Task marked as completed",
        "Task deleted",
    ]


@needs_curl
def test_the_queries_of_the_page_select_what_their_comments_say(
    tmp_path: Path, server: Running, ada: Person
) -> None:
    work = ada.has_list("Work")["id"]
    today, week = (datetime.now(UTC) + timedelta(days=days) for days in (0, 6))
    ada.has_task("late", due="2026-01-01", list_id=work, priority="high", labels=["waiting"])
    ada.has_task("now", due=f"{today:%Y-%m-%d}", list_id=work, priority="high")
    ada.has_task("soon", due=f"{week:%Y-%m-%d}")
    ada.has_task("idea", priority="low", description="for the return of the tax office")
    done = ada.has_task("done")["id"]
    ada.patch(f"/{done}/complete")
    [script] = [block for block in blocks(PAGES["docs/query.md"]) if "curl" in block]
    script = script.replace("python3 run.py", f"'{sys.executable}' '{BACKEND / 'cli.py'}'")
    script = script.replace("http://localhost:8000", server.url)
    script = script.replace("--user ada", f"--user {ada.id}").replace("curl ", "curl -sS -w '\\n' ")
    answers = [json.loads(line) for line in shell(script, tmp_path).splitlines()]
    assert [[task["title"] for task in answer["data"]] for answer in answers] == [
        ["now", "late"],
        ["now"],
        ["idea", "soon", "now"],
        ["done"],
        ["idea"],
    ]


@needs_curl
def test_the_undo_of_the_page_takes_a_change_back(
    tmp_path: Path, server: Running, ada: Person
) -> None:
    [script] = [block for block in blocks(PAGES["docs/undo.md"]) if "curl" in block]
    assert ada.has("Buy milk")["version"] == 1
    script = (
        script.replace("http://localhost:8000", server.url)
        .replace("/12/", "/1/")
        .replace("curl ", "curl -sS ")
    )
    assert json.loads(shell(script, tmp_path, TOKEN=ada.token))["message"] == "Change undone"


@needs_curl
def test_the_examples_of_tasks_and_lists_do_what_they_say(
    tmp_path: Path, server: Running, ada: Person
) -> None:
    [script] = [block for block in blocks(PAGES["docs/tasks.md"]) if "curl" in block]
    script = script.replace("python3 run.py", f"'{sys.executable}' '{BACKEND / 'cli.py'}'")
    script = script.replace("http://localhost:8000", server.url).replace("ada", ada.id)
    script = script.replace("curl ", "curl -sS -w '\\n' ")
    answers = [json.loads(line) for line in shell(script, tmp_path).splitlines()]
    assert [answer["message"] for answer in answers] == [
        "List created",
        *["Task created"] * 3,
        "Task updated",
        "List deleted",
        "List restored",
        "Tasks retrieved",
    ]
    kitchen, walls, paint = (answer["data"] for answer in answers[1:4])
    assert (kitchen["due"], kitchen["list_id"]) == (
        "2026-12-01T18:00:00+01:00[Europe/Berlin]",
        answers[0]["data"]["id"],
    )
    assert walls["parent_id"] == paint["parent_id"] == kitchen["id"]
    assert (answers[4]["data"]["start"], answers[4]["data"]["due"]) == (None, "2026-12-05")
    in_order = [task["title"] for task in answers[-1]["data"]]
    assert set(in_order) == {"Paint the kitchen", "Paint the walls", "Buy paint"}
    assert in_order.index("Buy paint") < in_order.index("Paint the walls")


EXAMPLES_OF_TIMES = rows(PAGES["docs/tasks.md"], "| kind | you send | you get |")


@pytest.mark.parametrize(("kind", "sent", "got"), [row[:3] for row in EXAMPLES_OF_TIMES])
def test_every_kind_of_time_comes_out_as_the_page_says(
    kind: str, sent: str, got: str, ada: Person
) -> None:
    made = ada.post({"title": kind, "due": sent.strip("`")}).json()["data"]
    assert made["due"] == got.strip("`")


def test_every_field_of_a_task_is_on_its_page() -> None:
    told = {
        name
        for row in rows(PAGES["docs/tasks.md"], "| field | is |")
        for name in CODE.findall(row[0])
    }
    plain = {"title", "description", "completed", "uid"}
    assert told == {column.name for column in TASK.columns if column.rule} - plain


@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.name)
def test_the_api_page_shows_every_field(entity: Entity) -> None:
    """A task as an example, a list as a row of names."""
    if entity is TASK:
        [shown] = [json.loads(block) for block in blocks(API) if '"user_id"' in block]
        assert shown == TASK.example | {"description": None}
    else:
        assert f"{{{', '.join(LIST.names)}}}" in API


# --- words ---

RIDDLES = re.compile(
    r"\bthe plan(?:'s)?\b|\banew\b|\bas it now is\b|\bcannot be meant\b|\bdo away with\b",
    re.IGNORECASE,
)


def spoken() -> dict[str, str]:
    """What a user or a newcomer reads: the pages, the OpenAPI document, and the sentences of
    errors."""
    sentences = "\n".join([*errors.ADVICE.values(), *(kind.sentence for kind in every_error())])
    return {**PAGES, "openapi.json": json.dumps(DOCUMENT), "errors": sentences}


@pytest.mark.parametrize(("name", "text"), spoken().items(), ids=spoken())
def test_no_sentence_needs_a_second_reading(name: str, text: str) -> None:
    """The words that made readers ask; CONTRIBUTING.md has the rule."""
    assert not RIDDLES.findall(text)
