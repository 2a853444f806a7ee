"""Contract, section "The six endpoints": ids, paths and methods."""

from __future__ import annotations

from typing import Any

import pytest

from errors import BadRequest
from tests.contract.wire import JSON, ask, say, send
from tests.people import Person
from web.paths import segments

LARGEST = 2**63 - 1


def the_task(person: Person, task: dict[str, Any]) -> Any:
    return person.get(f"/{task['id']}").json()["data"]


# --- ids ---

NOT_FOUND_IDS = [
    "0",
    "-1",
    "-7",
    f"-{2**63}",
    str(LARGEST),
    str(2**63),
    "9" * 30,
    f"-{'9' * 30}",
    "9" * 4000,
    "%39" * 18,
]
INVALID_IDS = [
    *(
        "abc",
        "1.0",
        "1.",
        "1e3",
        "+1",
        "-0",
        "--1",
        "01",
        "-01",
        "00",
        "1_0",
        "%201",
        "1%20",
        "1%0A",
        "%091",
        "1%00",
        "%00",
    ),
    *(
        "0x1",
        "1%2F2",
        "1%2E0",
        "%2B1",
        "%2531",
        "NaN",
        "null",
        "true",
        "1,2",
        "*",
        "-",
        "%2D0",
        "1;2",
        "%FF",
        "%",
        "%zz",
    ),
    *(
        "%D9%A1",
        "%E0%A5%A7",
        "%EF%BC%91",
        "%C2%B9",
        "%E2%91%A0",
        "%F0%9D%9F%8F",
        "%E2%88%921",
    ),  # ١ १ １ ¹ ① 𝟏 −1
]


ON_ONE_TASK = [("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("PATCH", "/complete")]


@pytest.mark.parametrize("id", NOT_FOUND_IDS, ids=lambda text: f"{text[:22]} {len(text)}")
def test_an_integer_that_is_no_id_of_a_task_is_not_found(ada: Person, id: str) -> None:
    for method, end in ON_ONE_TASK:
        body = b"{}" if method in ("PUT", "PATCH") else None
        reply = ask(ada, method, f"{ada.tasks}/{id}{end}", body, JSON)
        assert (reply.status, reply.error) == (404, "Task not found")


@pytest.mark.parametrize("id", INVALID_IDS)
def test_what_is_no_canonical_decimal_integer_is_400(ada: Person, id: str) -> None:
    for method, end in ON_ONE_TASK:
        body = b"{}" if method in ("PUT", "PATCH") else None
        reply = ask(ada, method, f"{ada.tasks}/{id}{end}", body, JSON)
        assert (reply.status, reply.error) == (400, "Task id must be an integer")
        assert reply.json()["errors"] == [
            {"field": "task_id", "message": "Task id must be an integer"}
        ]


def test_a_canonical_integer_may_be_percent_encoded(ada: Person) -> None:
    task = ada.has("Buy milk")
    encoded = "".join(f"%3{digit}" for digit in str(task["id"]))
    assert ask(ada, "GET", f"{ada.tasks}/{encoded}").data == task


def test_absent_deleted_and_anothers_tasks_are_byte_identical(ada: Person, bob: Person) -> None:
    deleted = ada.has("Buy milk")["id"]
    ada.delete(deleted)
    for method, end, body in [
        ("GET", "", None),
        ("PUT", "", b'{"title":"x"}'),
        ("PATCH", "", b'{"title":"x"}'),
        ("DELETE", "", None),
        ("PATCH", "/complete", None),
        ("PATCH", "/complete", b'{"completed":true}'),
    ]:
        anothers = bob.has("Bob's own")
        replies = [
            ask(ada, method, f"{ada.tasks}/{id}{end}", body, {**JSON, "X-Request-Id": "same"})
            for id in (LARGEST, deleted, anothers["id"])
        ]
        for reply in replies:
            reply.headers.pop("date")
        assert replies[0] == replies[1] == replies[2]
        assert (replies[0].status, replies[0].error) == (404, "Task not found")
        assert the_task(bob, anothers) == anothers


# --- paths and methods ---


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_trailing_slash_is_the_same_resource_answered_directly(ada: Person, slash: str) -> None:
    created = send(ada, "POST", slash, b'{"title":"Buy milk"}')
    assert created.status == 201
    one = f"{ada.tasks}/{created.data['id']}"
    assert ask(ada, "GET", one + slash).data == created.data
    assert ask(ada, "PUT", one + slash, b"{}", JSON).status == 200
    assert ask(ada, "PATCH", one + slash, b"{}", JSON).status == 200
    assert ask(ada, "PATCH", f"{one}/complete{slash}").data["completed"] is True
    assert (
        ask(ada, "GET", f"{ada.tasks}{slash}?filter=completed&limit=1").data[0]["id"]
        == created.data["id"]
    )
    assert ask(ada, "DELETE", one + slash).status == 200
    assert ask(ada, "GET", f"/health{slash}").json() == {"status": "healthy"}


@pytest.mark.parametrize(
    "path",
    [
        "{tasks}",
        "{tasks}?limit=1",
        "{tasks}/{id}",
        "{tasks}/{absent}",
        "{tasks}/abc",
        "/health",
        "/nowhere",
    ],
)
def test_head_answers_as_get_without_a_body(ada: Person, path: str) -> None:
    target = path.format(tasks=ada.tasks, id=ada.has("Buy milk")["id"], absent=LARGEST)
    got, head = (
        ask(ada, method, target, None, {"X-Request-Id": "same"}) for method in ("GET", "HEAD")
    )
    assert (head.status, head.body) == (got.status, b"")
    for reply in (got, head):
        reply.headers.pop("date")
    assert head.headers == got.headers


ALLOW = {
    "{tasks}": {"GET", "HEAD", "POST"},
    "{tasks}/7": {"GET", "HEAD", "PUT", "PATCH", "DELETE"},
    "{tasks}/abc": {"GET", "HEAD", "PUT", "PATCH", "DELETE"},
    "{tasks}/7/complete": {"PATCH"},
    "/health": {"GET", "HEAD"},
}
METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "QUERY",
    "LINK",
]


@pytest.mark.parametrize("path", ALLOW)
@pytest.mark.parametrize("slash", ["", "/"])
def test_other_methods_are_405_with_the_ones_that_are_allowed(
    ada: Person, path: str, slash: str
) -> None:
    url, target = str(ada.client.base_url), path.format(tasks=ada.tasks) + slash
    for method in METHODS:
        reply = ask(url, method, target)
        if method in ALLOW[path]:
            assert reply.status in (200, 401)
        else:
            assert reply.status == 405
            assert set(reply.headers["allow"].split(", ")) == ALLOW[path]
            assert method == "HEAD" or reply.json()["code"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://localhost:3000"}, {"Access-Control-Request-Method": "GET"}],
    ids=["plain", "without a method", "without an origin"],
)
def test_options_that_is_no_preflight_is_405(ada: Person, headers: dict[str, str]) -> None:
    reply = ask(ada, "OPTIONS", ada.tasks, None, headers)
    assert reply.status == 405
    assert set(reply.headers["allow"].split(", ")) == ALLOW["{tasks}"]


UNKNOWN_PATHS = [
    *(
        "/nowhere",
        "/api",
        "/api/{user}",
        "/api/{user}/task",
        "/api/{user}/Tasks",
        "/API/{user}/tasks",
        "/health/x",
        "/healthz",
    ),
    *(
        "{tasks}/7/completed",
        "{tasks}/7/complete/x",
        "/tasks",
        "/{user}/tasks",
        "/api/{user}/tasks/7/complete/7",
    ),
    *(
        "{tasks};v=1",
        "{tasks}.json",
        "/api/{user}%2Ftasks",
        "/api%2F{user}/tasks",
        "/health%2F",
        "/health%20",
        "/Health",
    ),
    *(
        "/api/./{user}/tasks",
        "/api/../health",
        "{tasks}/../tasks",
        "/api/{user}/tasks%2F7",
        "/api/{user}/x/../tasks",
    ),
]
DOUBLED_SLASHES = [
    *(
        "//",
        "//health",
        "/health//",
        "//api/{user}/tasks",
        "/api//{user}/tasks",
        "/api/{user}//tasks",
        "/api//tasks",
    ),
    *(
        "/api//tasks/7",
        "{tasks}//",
        "{tasks}//7",
        "{tasks}/7//",
        "{tasks}//complete",
        "{tasks}/7//complete",
        "{tasks}/7/complete//",
    ),
]


@pytest.mark.parametrize("path", UNKNOWN_PATHS + DOUBLED_SLASHES)
def test_unknown_paths_and_doubled_slashes_are_404_for_everybody(ada: Person, path: str) -> None:
    target = path.format(user=ada.id, tasks=ada.tasks)
    for who in (ada, str(ada.client.base_url)):
        for method in ("GET", "POST", "PATCH", "DELETE", "PROPFIND"):
            reply = ask(who, method, target)
            assert (reply.status, reply.json()["code"], reply.error) == (
                404,
                "NOT_FOUND",
                "Not found",
            )


def test_a_segment_is_decoded_once_and_an_encoded_slash_makes_no_new_one(
    ada: Person, person: Any
) -> None:
    assert ask(ada, "GET", f"/%61pi/{ada.id}/t%61sks").status == 200
    assert ask(ada, "GET", f"/api/{ada.id.replace('-', '%2D')}/tasks").status == 200
    assert ask(ada, "GET", f"/api/{ada.id.replace('-', '%252D')}/tasks").status == 403
    assert ask(ada, "GET", f"/api/{ada.id}%2Ftasks%2F7/tasks").status == 403
    assert ask(ada, "GET", f"/api/x%2F..%2F{ada.id}/tasks").status == 403


@pytest.mark.parametrize(
    "lead", ["*", "*/", "**/", "x", "?", "#", "//ada.example/../", "ws://ada.example/"]
)
def test_no_byte_of_a_target_is_dropped_unseen(ada: Person, lead: str) -> None:
    """`POST *api/ada/tasks` used to create a task."""
    title = f'{{"title":"Unseen {lead}"}}'.encode()
    head = (
        f"POST {lead}{ada.tasks[1:]} HTTP/1.1\r\nHost: todo.example\r\nAuthorization: Bearer {ada.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(title)}\r\n\r\n"
    )
    reply = say(str(ada.client.base_url), head.encode() + title, "POST")
    assert (reply.status, reply.json()["code"]) in [(400, "VALIDATION_ERROR"), (404, "NOT_FOUND")]
    assert f"Unseen {lead}" not in ada.get().text


def test_a_whole_url_is_the_same_as_its_path(ada: Person) -> None:
    assert ask(ada, "GET", f"http://todo.example{ada.tasks}").status == 200
    assert ask(ada, "GET", "http://todo.example/health").json() == {"status": "healthy"}


@pytest.mark.parametrize(
    ("root_path", "raw_path", "found"),
    [
        ("", b"/health", ("health",)),
        ("", b"/", ()),
        ("", b"*health", None),
        ("", b"health", None),
        ("/todo", b"/todo/health", ("health",)),
        ("/todo", b"/todo", ()),
        ("/todo", b"/todo*health", None),
        ("/todo", b"/todosomewhere/health", None),
        ("/todo", b"/health", ("health",)),  # of a server that leaves the root path out
    ],
)
def test_under_any_server_a_path_begins_with_a_slash(
    root_path: str, raw_path: bytes, found: tuple[str, ...] | None
) -> None:
    """Uvicorn as it comes passes on whatever its parser lets through."""
    scope = {"root_path": root_path, "raw_path": raw_path, "path": raw_path.decode()}
    if found is None:
        with pytest.raises(BadRequest):
            segments(scope)
    else:
        assert segments(scope) == found


@pytest.mark.parametrize(
    "headers", [{}, JSON, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}]
)
@pytest.mark.parametrize(
    "body", [b"", b"garbage", b'{"title": "x", "completed": true}', b"\xff\xfe"]
)
def test_bodies_on_get_and_delete_are_ignored(
    ada: Person, headers: dict[str, str], body: bytes
) -> None:
    task = ada.has("Buy milk")
    one = f"{ada.tasks}/{task['id']}"
    assert ask(ada, "GET", one, body, headers).data == task
    assert ask(ada, "GET", f"{ada.tasks}?limit=1", body, headers).data == [task]
    assert ask(ada, "DELETE", one, body, headers).json() == {
        "data": None,
        "message": "Task deleted",
    }
