"""Contract, section "The six endpoints": what each answers, and what a path is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.contract.wire import JSON, Reply, ask, moment, send
from tests.people import Person

LARGEST = 2**63 - 1


def the_task(person: Person, task: dict[str, Any]) -> Any:
    return person.get(f"/{task['id']}").json()["data"]


def written(was: dict[str, Any], shown: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """`was` with `fields`, as the user's next change leaves it; of its time, which `shown` says,
    that it is later."""
    assert moment(shown["updated_at"]) > moment(was["updated_at"])
    expected = {**was, **fields, "updated_at": shown["updated_at"], "version": was["version"] + 1}
    if expected["completed"] != was["completed"]:
        expected["completed_at"] = shown["updated_at"] if expected["completed"] else None
    return expected


# --- each endpoint's status, message and data ---


def test_list_answers_200_tasks_retrieved_and_an_array(ada: Person) -> None:
    task = ada.has("Buy milk")
    reply = ada.get()
    assert (reply.status_code, reply.json()["message"]) == (200, "Tasks retrieved")
    assert reply.json()["data"][0] == task
    assert list(reply.json()) == ["data", "message"]


def test_create_answers_201_task_created_and_the_task(ada: Person) -> None:
    reply = ada.post({"title": "Buy milk", "description": "Two litres"})
    assert (reply.status_code, reply.json()["message"]) == (201, "Task created")
    task = reply.json()["data"]
    assert (task["title"], task["description"], task["completed"]) == (
        "Buy milk",
        "Two litres",
        False,
    )
    assert task["user_id"] == ada.id
    assert list(reply.json()) == ["data", "message"]


def test_get_answers_200_task_retrieved_and_the_task(ada: Person) -> None:
    task = ada.has("Buy milk")
    reply = ada.get(f"/{task['id']}")
    assert (reply.status_code, reply.json()) == (200, {"data": task, "message": "Task retrieved"})


def test_put_answers_200_task_updated_and_the_task(ada: Person) -> None:
    task = ada.has("Buy milk")
    reply = ada.put(
        task["id"], {"title": "Buy oat milk", "description": "One litre", "completed": True}
    )
    assert (reply.status_code, reply.json()["message"]) == (200, "Task updated")
    wanted = {"title": "Buy oat milk", "description": "One litre", "completed": True}
    assert reply.json()["data"] == written(task, reply.json()["data"], **wanted)
    assert the_task(ada, task) == reply.json()["data"]


def test_delete_answers_200_task_deleted_and_null(ada: Person) -> None:
    task = ada.has("Buy milk")
    reply = ada.delete(task["id"])
    assert (reply.status_code, reply.json()) == (200, {"data": None, "message": "Task deleted"})
    assert ada.get(f"/{task['id']}").status_code == 404
    assert ada.delete(task["id"]).status_code == 404
    assert task not in ada.get().json()["data"]


def test_complete_answers_200_and_says_which_way_it_went(ada: Person) -> None:
    task = ada.has("Buy milk")
    first, second = (ada.patch(f"/{task['id']}/complete") for _ in range(2))
    assert (first.status_code, first.json()["message"]) == (200, "Task marked as completed")
    assert (second.status_code, second.json()["message"]) == (200, "Task marked as incomplete")
    assert (first.json()["data"]["completed"], second.json()["data"]["completed"]) == (True, False)


def test_health_answers_exactly_healthy_to_anybody(ada: Person) -> None:
    reply = ask(str(ada.client.base_url), "GET", "/health")
    assert (reply.status, reply.json()) == (200, {"status": "healthy"})


def test_health_never_touches_the_database(forsaken: Any) -> None:
    assert ask(forsaken.url, "GET", "/health").json() == {"status": "healthy"}


# --- PUT and PATCH ---


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "change",
    [
        {"title": "B"},
        {"description": "d2"},
        {"description": None},
        {"description": ""},
        {"completed": True},
        {},
    ],
)
def test_put_and_patch_change_only_the_fields_present(
    ada: Person, method: str, change: dict[str, Any]
) -> None:
    task = ada.has("A", "d1")
    reply = ada.request(method, f"{ada.tasks}/{task['id']}", json=change)
    assert (reply.status_code, reply.json()["message"]) == (200, "Task updated")
    changed = reply.json()["data"]
    assert changed == written(task, changed, **change)
    assert the_task(ada, task) == changed


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("field", "message"),
    [("title", "Title is required"), ("completed", "Completed must be true or false")],
)
def test_null_clears_neither_title_nor_completed(
    ada: Person, method: str, field: str, message: str
) -> None:
    task = ada.has("Buy milk")
    reply = ada.request(method, f"{ada.tasks}/{task['id']}", json={field: None})
    assert (reply.status_code, reply.json()["errors"]) == (
        400,
        [{"field": field, "message": message}],
    )
    assert the_task(ada, task) == task


def test_setting_completed_to_what_it_is_changes_nothing_but_updated_at_and_version(
    ada: Person,
) -> None:
    task = ada.has("Buy milk")
    changed = ada.put(task["id"], {"completed": False}).json()["data"]
    assert changed == written(task, changed)
    completed = ada.put(task["id"], {"completed": True}).json()["data"]
    again = ada.put(task["id"], {"completed": True}).json()["data"]
    assert again == written(completed, again)
    assert again["completed_at"] == completed["updated_at"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_what_a_body_may_not_set_never_binds(ada: Person, bob: Person, method: str) -> None:
    task = ada.has("Buy milk")
    forged = {
        "id": LARGEST,
        "user_id": bob.id,
        "created_at": "2001-01-01T00:00:00Z",
        "updated_at": "2001-01-01T00:00:00Z",
        "completed_at": "2001-01-01T00:00:00Z",
        "version": LARGEST,
        "owner": {"id": bob.id},
        "": None,
    }
    path = ada.tasks if method == "POST" else f"{ada.tasks}/{task['id']}"
    if method != "POST":
        forged["uid"] = str(uuid4())  # chosen at creation, and never again
    reply = ada.request(method, path, json={"title": "Buy milk", **forged})
    shown = reply.json()["data"]
    assert reply.status_code == (201 if method == "POST" else 200)
    assert shown["id"] != LARGEST
    assert shown["user_id"] == ada.id
    assert moment(shown["created_at"]) >= moment(task["created_at"])
    assert moment(shown["updated_at"]) > moment(task["updated_at"])
    assert shown["version"] == task["version"] + 1
    assert shown["completed_at"] is None
    assert method == "POST" or shown["uid"] == task["uid"]
    assert "owner" not in shown
    assert bob.get().json()["data"] == []


@pytest.mark.parametrize("value", [True, "yes", None, 7])
def test_completed_in_a_post_is_ignored(ada: Person, value: Any) -> None:
    reply = ada.post({"title": "Buy milk", "completed": value})
    assert (reply.status_code, reply.json()["data"]["completed"]) == (201, False)


# --- complete ---


def test_concurrent_toggles_flip_as_often_as_they_are_asked(ada: Person) -> None:
    task = ada.has("Buy milk")
    path = f"{ada.tasks}/{task['id']}/complete"
    with ThreadPoolExecutor(8) as pool:
        replies: list[Reply] = list(pool.map(lambda _: ask(ada, "PATCH", path), range(41)))
    assert [reply.status for reply in replies] == [200] * 41
    assert sum(reply.data["completed"] for reply in replies) == 21
    assert len({reply.data["updated_at"] for reply in replies}) == 41
    assert {reply.data["version"] - task["version"] for reply in replies} == set(range(1, 42))
    assert the_task(ada, task)["completed"] is True


@pytest.mark.parametrize("body", [None, b"", b"{}", b" {} \n", b"null", b"\tnull\n"])
def test_complete_without_completed_toggles(ada: Person, body: bytes | None) -> None:
    task = ada.has("Buy milk")
    for expected in (True, False):
        headers = JSON if body else {}
        reply = ask(ada, "PATCH", f"{ada.tasks}/{task['id']}/complete", body, headers)
        assert (reply.status, reply.data["completed"]) == (200, expected)


def test_complete_with_completed_sets_so_that_a_retry_is_safe(ada: Person) -> None:
    task = ada.has("Buy milk")
    for wanted, word in ((True, "completed"), (False, "incomplete")):
        first, again = (
            ada.patch(f"/{task['id']}/complete", json={"completed": wanted}) for _ in range(2)
        )
        assert first.json()["data"]["completed"] is wanted
        assert first.json()["message"] == f"Task marked as {word}"
        assert moment(first.json()["data"]["updated_at"]) > moment(task["updated_at"])
        assert (again.status_code, again.json()) == (
            200,
            first.json(),
        )  # updated_at, version: nothing changed


MISSPELT = [
    b'{"complete": true}',
    b'{"Completed": true}',
    b'{"is_completed": false}',
    b'{"done": true, "title": "a"}',
    b'{"": 1}',
    b'{"completed": null}',
    b'{"complete": true, "completed": null}',
]


@pytest.mark.parametrize("body", MISSPELT)
def test_a_misspelt_completed_is_refused_and_does_not_toggle(ada: Person, body: bytes) -> None:
    task = ada.has("Buy milk")
    for headers in ({}, {"Idempotency-Key": task["uid"]}, {"If-Match": "*"}):
        reply = send(ada, "PATCH", f"/{task['id']}/complete", body, **headers)
        message = "Completed must be true or false"
        assert (reply.status, reply.json()["errors"]) == (
            400,
            [{"field": "completed", "message": message}],
        )
    assert the_task(ada, task) == task


@pytest.mark.parametrize(
    "body", [b'{"completed": true, "title": "a"}', b'{"x": 1, "completed": true}']
)
def test_complete_ignores_other_fields_beside_completed(ada: Person, body: bytes) -> None:
    task = ada.has("Buy milk")
    for _ in range(2):
        shown = send(ada, "PATCH", f"/{task['id']}/complete", body).data
        assert (shown["completed"], shown["title"]) == (True, "Buy milk")


@pytest.mark.parametrize("body", [b"null", b" null ", b""])
def test_null_as_a_body_is_no_body_wherever_none_is_needed(ada: Person, body: bytes) -> None:
    task = ada.has("Buy milk")
    one, in_trash = f"{ada.tasks}/{task['id']}", f"/v1/trash/{task['id']}"
    writes = [
        ("PATCH", f"{one}/complete"),
        ("DELETE", one),
        ("POST", f"{in_trash}/restore"),
        ("DELETE", one),
    ]
    for method, url in [*writes, ("DELETE", in_trash)]:
        assert ask(ada, method, url, body, JSON).status == 200
    seq = ada.has("Another")["version"]
    assert ask(ada, "POST", f"/v1/changes/{seq}/undo", body, JSON).status == 200
    assert send(ada, "POST", "", body).status == 400  # where one is needed, it is none either


@pytest.mark.parametrize(
    "body", [b"true", b"[]", b'"completed"', b"{", b'{"completed": 1}', b"null,", b"nul"]
)
def test_complete_refuses_a_body_that_is_no_object_or_no_boolean(ada: Person, body: bytes) -> None:
    task = ada.has("Buy milk")
    assert send(ada, "PATCH", f"/{task['id']}/complete", body).status == 400
    assert the_task(ada, task) == task
