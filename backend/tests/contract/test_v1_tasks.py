"""model.md: a user's tasks under `/v1/tasks`: the operations and answers of the plan's endpoints,
by id or uid."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.things import (
    NOBODYS_ID,
    Meet,
    Thing,
    conflict,
    delete_task,
    in_trash,
    latest,
    new_uid,
    problems,
    task,
)
from tests.contract.wire import ask, tag
from tests.people import Person

TASKS = "/v1/tasks"
WRITES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"title": "New"}),
    ("PATCH", "", {}),
    ("PATCH", "", {"list_id": None}),
    ("PATCH", "", {"due": "2026-12-01"}),
    ("POST", "/complete", None),
    ("POST", "/complete", {"completed": True}),
    ("POST", "/complete", {"completed": False}),  # which it is already
    ("DELETE", "", None),
]
DOORS: list[tuple[str, str, Any]] = [("GET", "", None), ("HEAD", "", None), *WRITES]
each_write = pytest.mark.parametrize(("method", "end", "body"), WRITES, ids=str)
each_door = pytest.mark.parametrize(("method", "end", "body"), DOORS, ids=str)


def without_marks(shown: Thing) -> Thing:
    marks = ("id", "uid", "version", "updated_at", "created_at", "completed_at", "position")
    return {name: value for name, value in shown.items() if name not in marks}


# --- the same operations and answers as the plan's ---


def test_a_creation_answers_as_the_plans_does(ada: Person) -> None:
    body = {"title": " Buy milk ", "description": "Two litres", "completed": True}
    own, plans = ada.request("POST", TASKS, json=body), ada.post(body)
    assert (own.status_code, own.json()["message"]) == (201, "Task created")
    made = own.json()["data"]
    assert without_marks(made) == without_marks(plans.json()["data"])
    assert own.headers["location"] == f"/v1/tasks/{made['id']}"
    assert own.headers["etag"] == tag(made)
    assert (made["user_id"], made["title"], made["completed"]) == (ada.id, "Buy milk", False)
    assert ada.get(f"/{made['id']}").json()["data"] == made


@pytest.mark.parametrize("named", ["id", "uid", "UID"])
def test_a_task_is_named_by_its_id_or_by_its_uid_in_any_case(named: str, ada: Person) -> None:
    made = ada.has_task("Buy milk")
    url = f"{TASKS}/{made['uid'].upper() if named == 'UID' else made[named]}"
    read = ada.request("GET", url)
    assert (read.status_code, read.json()) == (200, {"data": made, "message": "Task retrieved"})
    changed = ada.request("PATCH", url, json={"title": "Buy oat milk"})
    assert (changed.status_code, changed.json()["message"]) == (200, "Task updated")
    assert (changed.json()["data"]["id"], changed.json()["data"]["uid"]) == (
        made["id"],
        made["uid"],
    )
    for body, said in (
        (None, "Task marked as completed"),
        ({}, "Task marked as incomplete"),
        ({"completed": True}, "Task marked as completed"),
        ({"completed": True}, "Task marked as completed"),
        ({"completed": False}, "Task marked as incomplete"),
    ):
        done = ada.request("POST", f"{url}/complete", json=body)
        assert (done.status_code, done.json()["message"]) == (200, said)
    deleted = ada.request("DELETE", url)
    assert (deleted.status_code, deleted.json()) == (200, {"data": None, "message": "Task deleted"})
    assert ada.request("GET", url).status_code == 404


@pytest.mark.parametrize("end", ["", "/complete"])
def test_the_plans_paths_take_integers_only(end: str, ada: Person) -> None:
    made = ada.has_task("Task")
    methods = ["PATCH"] if end else ["GET", "PUT", "PATCH", "DELETE"]
    for method in methods:
        reply = ada.request(method, f"{ada.tasks}/{made['uid']}{end}", json={})
        assert problems(reply) == [("task_id", "Task id must be an integer")]
    assert task(ada, made["id"]) == made


def test_what_a_client_made_offline_it_can_refer_to_before_it_has_a_number(ada: Person) -> None:
    work, parent, below = new_uid(), new_uid(), new_uid()
    ada.has_list("Work", uid=work)
    ada.has_task("Parent", uid=parent, list_id=work)
    ada.has_task("Below", uid=below, parent_id=parent)
    other = ada.has_task("Other", parent_id=parent, position={"before": below})
    shown = ada.request("GET", f"{TASKS}/{below}").json()["data"]
    assert type(shown["list_id"]) is type(shown["parent_id"]) is int
    assert shown["parent_id"] == other["parent_id"] == task(ada, parent)["id"]
    assert other["position"] < shown["position"]


def test_a_known_uid_creates_nothing_whatever_is_sent_with_it(ada: Person) -> None:
    made = ada.has_task("Buy milk", uid=new_uid())
    before = latest(ada)
    for more in (
        {},
        {"position": "first"},
        {"position": {"before": NOBODYS_ID}},
        {"list_id": NOBODYS_ID},
        {"list_id": new_uid()},
        {"parent_id": made["uid"]},
        {"labels": ["x"]},
    ):
        for uid in (made["uid"], made["uid"].upper()):
            reply = ada.request("POST", TASKS, json={"title": "Other", "uid": uid, **more})
            assert (reply.status_code, reply.json()["data"]) == (200, made), more
            assert reply.headers["location"] == f"/v1/tasks/{made['id']}"
    assert latest(ada) == before


@pytest.mark.parametrize("more", [{}, {"position": "first"}, {"list_id": NOBODYS_ID}], ids=str)
def test_a_uid_in_the_trash_is_a_conflict(more: Thing, ada: Person) -> None:
    made = ada.has_task("Task")
    delete_task(ada, made["id"])
    reply = ada.request("POST", TASKS, json={"title": "x", "uid": made["uid"], **more})
    assert conflict(reply) == "UID_IN_TRASH"


def test_anothers_uid_is_free(ada: Person, bob: Person) -> None:
    theirs = bob.has_task("Bob's")
    assert ada.has_task("Mine", uid=theirs["uid"])["id"] != theirs["id"]


# --- absent, wrong, not allowed ---


@each_door
def test_anothers_task_looks_like_one_that_is_nowhere(
    method: str, end: str, body: Any, ada: Person, bob: Person
) -> None:
    living, gone, own = bob.has_task("Bob's"), bob.has_task("Gone"), ada.has_task("In the trash")
    delete_task(bob, gone["id"])
    delete_task(ada, own["id"])
    of_list = ada.has_list("A list")
    things = (living, gone, own, of_list)
    names = [NOBODYS_ID, new_uid(), 0, -1, 2**70, *(one["id"] for one in things)]
    names += [one["uid"] for one in things]
    headers = {"X-Request-Id": "same"}
    replies = [
        ada.request(method, f"{TASKS}/{name}{end}", json=body, headers=headers) for name in names
    ]
    for reply in replies:
        reply.headers.pop("date")
        assert (reply.status_code, reply.headers) == (404, replies[0].headers)
        assert reply.content == replies[0].content
    if method != "HEAD":
        assert replies[0].json()["error"] == "Task not found"
    assert task(bob, living["id"]) == living


@pytest.mark.parametrize("name", ["01", "abc", "1.0", "3f0e4cf28a0c4b1f9d5e2f6b7a1c0d9e", "%20"])
@each_door
def test_what_is_neither_an_id_nor_a_uid_is_400(
    method: str, end: str, body: Any, name: str, ada: Person
) -> None:
    reply = ada.request(method, f"{TASKS}/{name}{end}", json=body)
    assert reply.status_code == 400
    if method != "HEAD":
        assert problems(reply) == [("task_id", "Task id must be an integer or a uid")]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (TASKS, {"GET", "HEAD", "POST"}),
        (f"{TASKS}/7", {"GET", "HEAD", "PATCH", "DELETE"}),
        (f"{TASKS}/7/complete", {"POST"}),
        ("/v1/trash/tasks/7", {"DELETE"}),
        ("/v1/trash/tasks/7/restore", {"POST"}),
    ],
)
def test_put_and_other_methods_are_405(path: str, allowed: set[str], ada: Person) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"):
        reply = ask(str(ada.client.base_url), method, path)
        if method in allowed:
            assert reply.status == 401
        else:
            assert reply.status == 405
            assert set(reply.headers["allow"].split(", ")) == allowed


def test_a_wrong_body_is_refused_as_at_the_plans_doors(ada: Person) -> None:
    url = f"{TASKS}/{ada.has_task('Task')['id']}"
    for body in ({}, {"title": None}, {"title": " "}):
        assert problems(ada.request("POST", TASKS, json=body)) == [("title", "Title is required")]
    assert problems(ada.request("PATCH", url, json={"completed": None})) == [
        ("completed", "Completed must be true or false")
    ]
    done = ada.request("POST", f"{url}/complete", json={"completed": "yes"})
    assert problems(done) == [("completed", "Completed must be true or false")]
    sent = ada.request("PATCH", url, content=b"{}", headers={"Content-Type": "text/plain"})
    assert sent.status_code == 415


# --- ETag, If-Match, If-None-Match, Idempotency-Key ---


def test_the_tag_is_the_same_at_both_paths(ada: Person) -> None:
    made = ada.has_task("Task")
    tags = {
        ada.request("GET", url).headers["etag"]
        for url in (f"{TASKS}/{made['id']}", f"{TASKS}/{made['uid']}", f"{ada.tasks}/{made['id']}")
    }
    assert tags == {tag(made)}


@each_write
def test_a_write_with_an_older_tag_is_412_with_the_task_as_it_is(
    method: str, end: str, body: Any, ada: Person
) -> None:
    made = ada.has_task("Task")
    before = latest(ada)
    for name in (made["id"], made["uid"]):
        reply = ada.request(
            method, f"{TASKS}/{name}{end}", json=body, headers={"If-Match": f'"{before - 1}"'}
        )
        assert (reply.status_code, reply.json()["data"]) == (412, made)
    assert latest(ada) == before
    passed = ada.request(
        method, f"{TASKS}/{made['uid']}{end}", json=body, headers={"If-Match": tag(made)}
    )
    assert passed.status_code == 200


def test_a_creation_can_be_guarded_by_the_users_last_change(person: Meet) -> None:
    dora = person("dora")
    dora.has_task("First")
    for more in ({}, {"position": "first"}):
        etag = dora.get().headers["etag"]
        dora.has_list("Meanwhile")
        before = latest(dora)
        body = {"title": "x", **more}
        refused = dora.request("POST", TASKS, json=body, headers={"If-Match": etag})
        assert (refused.status_code, latest(dora)) == (412, before)
        etag = dora.get().headers["etag"]
        made = dora.request("POST", TASKS, json=body, headers={"If-Match": etag})
        assert made.status_code == 201


def test_a_task_that_one_has_is_304(ada: Person) -> None:
    made = ada.has_task("Task")
    for name in (made["id"], made["uid"]):
        for known in (tag(made), f"W/{tag(made)}", "*"):
            reply = ada.request("GET", f"{TASKS}/{name}", headers={"If-None-Match": known})
            assert (reply.status_code, reply.content) == (304, b"")
        reply = ada.request("GET", f"{TASKS}/{name}", headers={"If-None-Match": '"0"'})
        assert reply.status_code == 200


def test_head_answers_as_get_without_a_body(ada: Person) -> None:
    made = ada.has_task("Task")
    for target in (f"{TASKS}/{made['id']}", f"{TASKS}/{made['uid']}", f"{TASKS}/0", f"{TASKS}/x"):
        got, head = (
            ask(ada, method, target, None, {"X-Request-Id": "same"}) for method in ("GET", "HEAD")
        )
        for reply in (got, head):
            reply.headers.pop("date")
        assert head == got._replace(body=b"")


CREATIONS = [
    ("POST", None, {"title": "New"}),
    ("POST", None, {"title": "New", "position": "first"}),
]


@pytest.mark.parametrize("named", ["id", "uid"])
@pytest.mark.parametrize(("method", "end", "body"), [*CREATIONS, *WRITES], ids=str)
def test_a_write_with_a_key_is_done_once(
    method: str, end: str | None, body: Any, named: str, ada: Person
) -> None:
    made = ada.has_task("Task")
    ada.has_task("Below", parent_id=made["id"])
    url = TASKS if end is None else f"{TASKS}/{made[named]}{end}"
    headers = {"Idempotency-Key": new_uid()}
    first = ada.request(method, url, json=body, headers=headers)
    before = latest(ada)
    again = ada.request(method, url, json=body, headers=headers)
    assert first.status_code in (200, 201)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    for name in ("etag", "location"):
        assert again.headers.get(name) == first.headers.get(name)
    assert latest(ada) == before


def test_the_trash_names_what_each_is(person: Meet) -> None:
    dora = person("dora")
    made = dora.has_task("Task", due="2026-12-01T09:00[Europe/Berlin]")
    delete_task(dora, made["uid"])
    [shown] = in_trash(dora)
    assert (shown["entity"], shown["due"]) == ("task", made["due"])
