"""The plan, task by task: each acceptance line and each success criterion, by the plan's own
numbers and names.

Where the project departs from the plan's listings on purpose (docs/decisions), what they were for
is tested.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from packaging.requirements import Requirement
from sqlmodel import SQLModel
from starlette.requests import Request

import auth
import changes
import config
import database
import main
import models
import schemas
import storage
import tasks
import trash
import undo
from errors import Forbidden, Unauthorized
from postgres import migrate
from routes import tasks as task_routes
from storage import Function
from tests import servers
from tests.conftest import sql
from tests.people import SECRET, Person, token_for
from tokens import verification
from tokens.keys import Keys
from tokens.verification import Verifier

BACKEND = Path(__file__).resolve().parent.parent
FRONTEND = "http://localhost:3000"
DIRECTORY = [
    *(
        "main.py",
        "models.py",
        "schemas.py",
        "database.py",
        "auth.py",
        "routes/__init__.py",
        "routes/tasks.py",
    ),
    *("requirements.txt", ".env.example", ".gitignore"),
]


@pytest.fixture(scope="module")
def uvicorn(
    tmp_path_factory: pytest.TempPathFactory, database_url: str
) -> Iterator[servers.Running]:
    """Task 8.2's command, in `backend`, with task 8.1's settings."""
    folder, port = tmp_path_factory.mktemp("uvicorn"), servers.free_port()
    settings = servers.clean_environment(
        NEON_DATABASE_URL=database_url,
        BETTER_AUTH_SECRET=SECRET,
        BETTER_AUTH_URL=FRONTEND,
        DATA_DIR=str(folder),
        PYTHONDONTWRITEBYTECODE="1",
    )
    command = [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port)]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=BACKEND, env=settings, stdout=output, stderr=output)
    running = servers.Running(process, f"http://127.0.0.1:{port}", log)
    try:
        yield servers.wait_until_up(running)
    finally:
        running.stop()


# --- phase 1: project setup ---


@pytest.mark.parametrize("name", DIRECTORY)
def test_1_1_directory_structure_exists(name: str) -> None:
    assert (BACKEND / name).is_file()


def test_1_2_every_pinned_requirement_installs_and_is_installed_as_pinned() -> None:
    text = (BACKEND / "requirements.txt").read_text().replace("\\\n", " ")
    lines = [line.partition(" --hash")[0].partition(" #")[0].strip() for line in text.splitlines()]
    pinned = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    names = {requirement.name for requirement in pinned}
    assert {"fastapi", "sqlmodel", "uvicorn"} <= names
    for requirement in pinned:
        [specifier] = requirement.specifier
        assert specifier.operator == "==", f"{requirement.name} is not pinned"
        if requirement.marker is None or requirement.marker.evaluate():
            assert importlib.metadata.version(requirement.name) == specifier.version


def test_1_3_environment_template_exists() -> None:
    lines = (BACKEND / ".env.example").read_text().splitlines()
    template = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert template["NEON_DATABASE_URL"] == "postgresql://user:pass@host/db?sslmode=require"
    assert template["BETTER_AUTH_SECRET"] == "your-32-char-secret-here"
    assert template["BETTER_AUTH_URL"] == FRONTEND


def test_1_3_env_is_excluded_from_git() -> None:
    patterns = {
        line.strip().lstrip("/") for line in (BACKEND / ".gitignore").read_text().splitlines()
    }
    assert {"__pycache__/", "*.py[cod]", ".env", ".venv/", "venv/"} <= patterns
    assert "!.env" not in patterns


# --- phase 2: database connection ---


def test_2_1_create_tables_runs_without_error(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    for _ in range(2):  # and again
        database.create_tables(config.load(_env_file=None, NEON_DATABASE_URL=url))
    assert sql(url, "SELECT count(*) AS tasks FROM tasks")[0]["tasks"] == 0


def test_2_1_the_engine_of_neon_uses_tls() -> None:
    url = "postgresql://ada:secret@ep-x-pooler.eu-central-1.aws.neon.tech/db?sslmode=require&channel_binding=require"
    address = database.address(config.load(_env_file=None, NEON_DATABASE_URL=url))
    assert "sslmode=require" in address.url or address.tls is not None


def test_2_1_get_db_is_a_dependency_of_the_endpoints() -> None:
    assert callable(database.get_db)
    for route in task_endpoints():
        assert "get_db" in str(inspect.signature(route.endpoint, eval_str=True))


# --- phase 3: data models ---


def test_3_1_task_is_an_sqlmodel_with_the_plans_fields() -> None:
    assert issubclass(models.Task, SQLModel)
    columns = SQLModel.metadata.tables["tasks"].columns
    fields = ["id", "user_id", "title", "description", "completed", "created_at", "updated_at"]
    assert [column.name for column in columns][:7] == fields
    assert [column.name for column in columns][7:] == [
        *("uid", "version", "completed_at"),
        *("list_id", "parent_id", "position", "priority", "labels", "start", "due"),
        "deleted_at",
        *("title_key", "title_words", "description_words", "label_keys", "start_key", "due_key"),
    ]
    assert columns["id"].primary_key
    assert not columns["user_id"].nullable
    assert (columns["title"].type.length, columns["title"].nullable) == (200, False)  # type: ignore[attr-defined]
    assert (columns["description"].type.length, columns["description"].nullable) == (1000, True)  # type: ignore[attr-defined]
    assert models.Task(user_id="ada", title="Buy milk", version=1).completed is False


def test_3_1_user_id_is_indexed(server: servers.Running, database_url: str) -> None:
    indexes = sql(
        database_url, "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'tasks'"
    )
    led = {row["indexname"] for row in indexes if "(user_id" in row["indexdef"]}
    assert {row["indexname"] for row in indexes} - led == {
        "tasks_expiry"
    }  # of all users, for the trash to be emptied
    assert indexes


BEYOND_THE_PLAN = {"list_id", "parent_id", "position", "priority", "labels", "start", "due"}


@pytest.mark.parametrize(
    ("name", "required", "optional"),
    [
        ("TaskCreate", {"title"}, {"description", "uid", *BEYOND_THE_PLAN}),
        ("TaskUpdate", set(), {"title", "description", "completed", *BEYOND_THE_PLAN}),
        ("TaskResponse", {"data", "message"}, set()),
        ("TaskListResponse", {"data", "message"}, {"next_cursor"}),
        (
            "ErrorResponse",
            {"error", "code", "detail", "message"},
            {"errors", "reason", "hint", "data"},
        ),
    ],
)
def test_3_2_schemas_have_the_plans_fields(
    name: str, required: set[str], optional: set[str]
) -> None:
    fields = getattr(schemas, name).model_fields
    assert {field for field in fields if fields[field].is_required()} == required
    assert set(fields) == required | optional


# --- phase 4: JWT authentication ---


def request_with(authorization: str | None) -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    state = {"verifier": Verifier(Keys(SECRET.encode()), FRONTEND, FRONTEND)}
    return Request({"type": "http", "headers": headers, "state": state})


async def current_user(authorization: str | None) -> verification.CurrentUser:
    return await auth.get_current_user(request_with(authorization))


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer x", "Bearer a.b.c"]
)
def test_4_1_get_current_user_returns_401_for_a_missing_or_invalid_token(
    authorization: str | None,
) -> None:
    with pytest.raises(Unauthorized) as caught:
        asyncio.run(current_user(authorization))
    assert caught.value.status == 401


def test_4_1_get_current_user_extracts_the_user_from_a_valid_token() -> None:
    token = token_for("ada", email="ada@example.com")
    assert asyncio.run(current_user(f"Bearer {token}")) == {"id": "ada", "email": "ada@example.com"}
    assert asyncio.run(current_user(f"Bearer {token_for('ada')}")) == {"id": "ada", "email": None}


def test_4_2_verify_user_access_returns_403_when_user_id_mismatches() -> None:
    auth.verify_user_access("ada", {"id": "ada", "email": None})
    with pytest.raises(Forbidden) as caught:
        auth.verify_user_access("bob", {"id": "ada", "email": None})
    assert (caught.value.status, str(caught.value)) == (403, "Access denied")


# --- phase 5: task endpoints ---


def task_endpoints() -> list[Any]:
    return list(task_routes.router.routes)


def test_5_1_the_router_has_the_plans_prefix() -> None:
    assert isinstance(task_routes.router, APIRouter)
    assert task_routes.router.prefix == "/api/{user_id}/tasks"


def test_5_2_get_returns_the_users_tasks_and_filters_work(ada: Person, bob: Person) -> None:
    pending, completed = ada.has("Buy milk"), ada.has("Sell milk")
    bob.has("Bob's own")
    completed = ada.patch(f"/{completed['id']}/complete").json()["data"]
    found = {
        name: ada.get(f"?filter={name}").json()["data"] for name in ("all", "pending", "completed")
    }
    assert found == {"all": [completed, pending], "pending": [pending], "completed": [completed]}
    assert ada.get().json() == {"data": [completed, pending], "message": "Tasks retrieved"}


def test_5_3_post_creates_a_task_returns_201_and_validates(ada: Person) -> None:
    reply = ada.post({"title": "Buy milk", "description": "Two litres", "user_id": "bob"})
    assert reply.status_code == 201
    task = reply.json()["data"]
    assert (task["user_id"], task["title"], task["description"]) == (
        ada.id,
        "Buy milk",
        "Two litres",
    )
    assert ada.post({"description": "No title"}).status_code == 400
    assert ada.post({"title": "a" * 201}).status_code == 400
    assert ada.get().json()["data"] == [task]


def test_5_4_get_one_returns_the_task_and_404_for_a_missing_one(ada: Person, bob: Person) -> None:
    task = ada.has("Buy milk")
    assert ada.get(f"/{task['id']}").json()["data"] == task
    assert ada.get(f"/{task['id'] + 100_000}").status_code == 404
    assert bob.get(f"/{task['id']}").status_code == 404


def test_5_5_put_updates_sets_updated_at_and_validates(ada: Person) -> None:
    task = ada.has("Buy milk")
    changed = ada.put(task["id"], {"title": "Buy oat milk", "completed": True}).json()["data"]
    assert (changed["title"], changed["completed"]) == ("Buy oat milk", True)
    assert datetime.fromisoformat(changed["updated_at"]) > datetime.fromisoformat(
        task["updated_at"]
    )
    assert ada.put(task["id"], {"title": ""}).status_code == 400
    assert ada.put(task["id"] + 100_000, {"title": "x"}).status_code == 404


def test_5_6_delete_deletes_returns_200_and_404_for_a_missing_one(ada: Person) -> None:
    task = ada.has("Buy milk")
    assert [ada.delete(task["id"]).status_code for _ in range(2)] == [200, 404]
    assert ada.get().json()["data"] == []


def test_5_7_patch_toggles_completion_with_the_fitting_message(ada: Person) -> None:
    task = ada.has("Buy milk")
    replies = [ada.patch(f"/{task['id']}/complete").json() for _ in range(3)]
    assert [reply["data"]["completed"] for reply in replies] == [True, False, True]
    assert [reply["message"] for reply in replies[:2]] == [
        "Task marked as completed",
        "Task marked as incomplete",
    ]
    assert ada.patch(f"/{task['id'] + 100_000}/complete").status_code == 404


# --- phase 6: the application ---


def test_6_1_the_application_is_main_app_and_has_the_routers() -> None:
    assert isinstance(main.app, FastAPI)
    assert main.app.title == "Todo API"
    paths = main.app.openapi()["paths"]
    assert {"/health", "/api/{user_id}/tasks", "/api/{user_id}/tasks/{task_id}/complete"} <= set(
        paths
    )


def test_6_1_the_server_starts_and_health_returns_200(uvicorn: servers.Running) -> None:
    assert httpx.get(uvicorn.url + "/health").status_code == 200
    assert "Traceback" not in uvicorn.printed()


# --- phase 7: error handling ---


def test_7_1_validation_errors_return_the_standard_format(ada: Person) -> None:
    reply = ada.post({})
    assert reply.status_code == 400
    assert reply.json()["error"] == "Title is required"
    assert reply.json()["code"] == "VALIDATION_ERROR"


# --- phase 8: testing and validation ---


def test_8_1_an_env_file_with_the_frontends_values_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(os.environ) - set(servers.clean_environment()):
        monkeypatch.delenv(name)
    url = "postgresql://ada:secret@ep-x.eu-central-1.aws.neon.tech/db?sslmode=require"
    file = tmp_path / ".env"
    file.write_text(
        f"NEON_DATABASE_URL={url}\nBETTER_AUTH_SECRET={SECRET}\nBETTER_AUTH_URL={FRONTEND}\n"
    )
    settings = config.load(_env_file=file)
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == url
    assert settings.secret == SECRET.encode()
    assert settings.allowed_origins == {FRONTEND}
    assert config.Settings.model_config["env_file"] == BACKEND / ".env"


def test_8_2_the_plans_command_starts_the_server_and_8000_is_our_own_default(
    uvicorn: servers.Running,
) -> None:
    assert uvicorn.process.poll() is None
    assert config.Settings.model_fields["port"].default == 8000


def test_8_3_health_returns_exactly_healthy(uvicorn: servers.Running) -> None:
    assert httpx.get(uvicorn.url + "/health").json() == {"status": "healthy"}


def test_8_4_all_endpoints_work_with_the_frontend(uvicorn: servers.Running) -> None:
    """As a browser at the frontend's origin does it: preflight, then the request with the token and
    the origin."""
    ada, bob = Person(uvicorn.url, "ada"), Person(uvicorn.url, "bob")
    with ada.client, bob.client:
        one = f"{ada.tasks}/{ada.has('Buy milk')['id']}"
        for method, path, body, status in [
            ("GET", ada.tasks, None, 200),
            ("POST", ada.tasks, {"title": "Buy milk"}, 201),
            ("GET", one, None, 200),
            ("PUT", one, {"title": "Buy oat milk"}, 200),
            ("PATCH", f"{one}/complete", None, 200),
            ("DELETE", one, None, 200),
        ]:
            assert bob.request(method, path, json=body).status_code == 403
            asked = {
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "authorization",
            }
            preflight = httpx.options(uvicorn.url + path, headers={"Origin": FRONTEND, **asked})
            assert preflight.is_success
            assert method in preflight.headers["Access-Control-Allow-Methods"]
            reply = ada.request(method, path, json=body, headers={"Origin": FRONTEND})
            assert reply.status_code == status
            assert reply.headers["Access-Control-Allow-Origin"] == FRONTEND
        assert bob.get().json()["data"] == []


# --- critical implementation notes ---


STATEMENTS = {
    **{f"GET {name.__name__}": statement for name, statement in tasks.GET.items()},
    **{f"LIST {filter}": statement for filter, statement in tasks.LIST.items()},
    **{f"trash.LIST {entity}": statement for entity, statement in trash.LIST.items()},
    **{f"undo.CURRENT {entity}": statement for entity, statement in undo.CURRENT.items()},
    **{name: getattr(changes, name) for name in ("LATEST", "SINCE", "NUMBERED", "GROUPED")},
    "storage.CALL": storage.CALL,
    **{name: getattr(storage, name) for name in ("FIND_CALL", "KEEP_CALL")},
}
OWNED = "(tasks|lists|change_counters|changes|idempotency_keys)"


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_note_user_isolation_every_query_is_given_its_owner(statement: str) -> None:
    assert "$1" in statement
    asked = re.findall(rf"FROM {OWNED}\b", statement)
    assert len(re.findall(rf"FROM {OWNED}\s+WHERE user_id = scope\.user_id\b", statement)) == len(
        asked
    )
    assert asked or re.search(r"FROM \w+\(\$1,", statement)


@pytest.mark.parametrize("function", migrate.FUNCTIONS, ids=lambda function: function.name)
def test_note_user_isolation_every_write_names_its_owner(function: Function) -> None:
    parts = function.text.split(";")
    touched = [
        part for part in parts if re.search(rf"(?<!DO )UPDATE {OWNED}\b|FROM {OWNED}\b", part)
    ]
    inserted = [part for part in parts if re.search(rf"INSERT INTO {OWNED}\b", part)]
    for part in touched:
        assert re.search(r"WHERE (t\.)?user_id = p_user_id\b", part)
    for part in inserted:
        assert re.search(r"\(user_id, [^;]*\)\s+(VALUES \(|SELECT )\s*p_user_id,", part)
    assert touched or inserted


def test_note_jwt_secret_is_the_frontends_exactly(ada: Person) -> None:
    for secret in (SECRET + " ", SECRET.upper(), SECRET[:-1]):
        other = {"Authorization": f"Bearer {token_for(ada.id, secret=secret)}"}
        assert ada.get(headers=other).status_code == 401


def test_note_cors_origin_has_no_trailing_slash() -> None:
    assert config.Settings.model_fields["better_auth_url"].default == FRONTEND
    assert config.load(_env_file=None, better_auth_url=f"{FRONTEND}/").allowed_origins == {FRONTEND}


def test_note_timestamps_are_utc(ada: Person) -> None:
    created = datetime.fromisoformat(ada.has("Buy milk")["created_at"])
    assert created.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=5)


# --- success criteria ---


def test_success_all_six_endpoints_return_correct_responses(ada: Person) -> None:
    created = ada.post({"title": "Buy milk"})
    task = created.json()["data"]
    one = f"/{task['id']}"
    listed, got = ada.get(), ada.get(one)
    updated, toggled, deleted = (
        ada.put(task["id"], {"title": "B"}),
        ada.patch(f"{one}/complete"),
        ada.delete(task["id"]),
    )
    replies = (listed, created, got, updated, deleted, toggled)
    assert [(reply.status_code, reply.json()["message"]) for reply in replies] == [
        (200, "Tasks retrieved"),
        (201, "Task created"),
        (200, "Task retrieved"),
        (200, "Task updated"),
        (200, "Task deleted"),
        (200, "Task marked as completed"),
    ]
    assert listed.json()["data"] == [task] == [got.json()["data"]]


def test_success_authentication_rejects_invalid_and_missing_tokens(server: servers.Running) -> None:
    another, expired = (
        token_for("ada", secret="b" * 32),
        token_for("ada", exp=int(time.time()) - 60),
    )
    tokens = [
        None,
        "Bearer",
        "Bearer x",
        "Bearer a.b.c",
        f"Bearer {another}",
        f"Bearer {expired}",
        f"Basic {another}",
    ]
    asked = [
        ("GET", ""),
        ("POST", ""),
        *[(method, "/7") for method in ("GET", "PUT", "PATCH", "DELETE")],
    ]
    with httpx.Client(base_url=server.url) as client:
        for token in tokens:
            headers = {} if token is None else {"Authorization": token}
            for method, path in [*asked, ("PATCH", "/7/complete")]:
                reply = client.request(method, f"/api/ada/tasks{path}", headers=headers)
                assert (reply.status_code, reply.json()["code"]) == (401, "UNAUTHORIZED")


def test_success_user_isolation_prevents_cross_user_access(ada: Person, bob: Person) -> None:
    task = ada.has("Buy milk")
    for method, end in (
        ("GET", ""),
        ("PUT", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("PATCH", "/complete"),
    ):
        body = {"title": "Bob was here"} if method == "PUT" else None
        assert bob.request(method, f"{ada.tasks}/{task['id']}{end}", json=body).status_code == 403
        assert (
            bob.request(method, f"{bob.tasks}/{task['id']}{end}", json=body or {}).status_code
            == 404
        )
    assert bob.request("POST", ada.tasks, json={"title": "Bob was here"}).status_code == 403
    assert bob.get().json()["data"] == []
    assert ada.get().json()["data"] == [task]


def test_success_cors_allows_frontend_requests(ada: Person) -> None:
    reply = ada.get(headers={"Origin": FRONTEND})
    assert reply.headers["Access-Control-Allow-Origin"] == FRONTEND
    assert reply.headers["Access-Control-Allow-Credentials"] == "true"


def test_success_validation_errors_return_the_standard_format(ada: Person) -> None:
    for reply in (ada.post({"title": 7}), ada.get("/abc"), ada.get("?filter=done"), ada.put(7, [])):
        assert reply.status_code == 400
        assert reply.json()["code"] == "VALIDATION_ERROR"
        assert type(reply.json()["error"]) is str


def test_success_the_server_starts_without_errors(
    server: servers.Running, uvicorn: servers.Running
) -> None:
    for started in (server, uvicorn):
        assert started.process.poll() is None
        first = started.printed().partition("GET /")[0]
        assert "ERROR" not in first
        assert "Traceback" not in first


def test_success_tables_are_created_on_startup(server: servers.Running, database_url: str) -> None:
    """Nobody but the server has prepared this database."""
    tables = sql(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert "tasks" in {row["tablename"] for row in tables}
