"""model.md: a list and its tasks go to the trash together and come back as they were; and what the
trash shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.things import (
    Meet,
    Thing,
    change_list,
    change_task,
    conflict,
    delete_list,
    delete_task,
    in_trash,
    is_there,
    last_group,
    latest,
    list_of,
    log,
    new_uid,
    purge_list,
    purge_task,
    restore_list,
    restore_task,
    task,
    undo_change,
    undo_last,
)
from tests.people import Person

LIST_KEYS = [
    *("id", "uid", "version", "name", "color", "position"),
    *("created_at", "updated_at", "deleted_at", "entity"),
]


def full_list(person: Person) -> tuple[Thing, list[Thing]]:
    """A list, and its tasks: `a`, below it `b`, below that `c`; and `d`."""
    found = person.has_list("Work", color="#2f6fed")
    a = person.has_task("a", list_id=found["id"], labels=["x"], due="2026-12-01")
    b = person.has_task("b", parent_id=a["id"])
    c = person.has_task("c", parent_id=b["id"], priority="high")
    return found, [a, b, c, person.has_task("d", list_id=found["id"])]


def without_marks(shown: Thing) -> Thing:
    return {name: value for name, value in shown.items() if name not in ("version", "updated_at")}


def are_as_they_were(person: Person, found: Thing, tasks: list[Thing]) -> bool:
    now = [list_of(person, found["id"]), *(task(person, one["id"]) for one in tasks)]
    return list(map(without_marks, now)) == list(map(without_marks, [found, *tasks]))


def stand(person: Person, id: Any) -> tuple[Any, Any]:
    found = task(person, id)
    return found["list_id"], found["parent_id"]


# --- into it and out of it ---


def test_a_list_takes_its_tasks_to_the_trash_as_one_group(ada: Person) -> None:
    found, tasks = full_list(ada)
    inbox = ada.has_task("Of the Inbox")
    delete_list(ada, found["id"])
    group = last_group(ada)
    assert {change["op"] for change in group} == {"delete"}
    assert [change["entity"] for change in group] == ["task"] * 4 + ["list"]
    assert {change["entity_id"] for change in group} == {one["id"] for one in [found, *tasks]}
    shown = {one["id"]: one for one in in_trash(ada)}
    assert len({shown[one["id"]]["deleted_at"] for one in [found, *tasks]}) == 1
    for was in tasks:
        one = shown[was["id"]]
        assert (one["list_id"], one["parent_id"]) == (was["list_id"], was["parent_id"])
    assert is_there(ada, "task", inbox["id"])


def test_a_restoration_brings_them_back_as_they_were_as_one_group(ada: Person) -> None:
    found, tasks = full_list(ada)
    delete_list(ada, found["id"])
    reply = ada.request("POST", f"/v1/trash/lists/{found['id']}/restore")
    assert (reply.status_code, reply.json()["message"]) == (200, "List restored")
    assert reply.headers["location"] == f"/v1/lists/{found['id']}"
    assert without_marks(reply.json()["data"]) == without_marks(found)
    group = last_group(ada)
    assert len(group) == 5
    assert {change["op"] for change in group} == {"restore"}
    assert {tuple(change["fields"]) for change in group} == {("deleted_at",)}
    assert are_as_they_were(ada, found, tasks)


def test_one_undo_brings_them_back_as_they_were(ada: Person) -> None:
    found, tasks = full_list(ada)
    delete_list(ada, found["id"])
    assert undo_last(ada).status_code == 200
    assert len(last_group(ada)) == 5
    assert are_as_they_were(ada, found, tasks)
    assert undo_last(ada).status_code == 200  # and away again
    assert not is_there(ada, "list", found["id"])
    restore_list(ada, found["id"])
    assert are_as_they_were(ada, found, tasks)


def test_a_list_without_tasks_goes_and_comes_alone(ada: Person) -> None:
    found = ada.has_list("Empty")
    gone = ada.has_task("Gone", list_id=found["id"])
    delete_task(ada, gone["id"])
    delete_list(ada, found["id"])
    assert len(last_group(ada)) == 1
    restore_list(ada, found["id"])
    assert len(last_group(ada)) == 1
    assert not is_there(ada, "task", gone["id"])


def test_a_task_that_was_deleted_before_its_list_stays_in_the_trash(ada: Person) -> None:
    found, (a, b, c, d) = full_list(ada)
    delete_task(ada, b["id"])
    delete_list(ada, found["id"])
    assert len(last_group(ada)) == 3
    restore_list(ada, found["id"])
    assert [is_there(ada, "task", one["id"]) for one in (a, b, c, d)] == [True, False, False, True]
    restore_task(ada, b["id"])
    assert stand(ada, c["id"]) == (found["id"], b["id"])
    assert stand(ada, b["id"]) == (found["id"], a["id"])


def test_a_task_of_a_list_in_the_trash_comes_to_the_inbox_and_stays_there(ada: Person) -> None:
    found, (a, b, c, d) = full_list(ada)
    delete_list(ada, found["id"])
    restore_task(ada, b["id"])
    assert stand(ada, b["id"]) == (None, None)
    assert stand(ada, c["id"]) == (None, b["id"])
    restore_list(ada, found["id"])
    assert stand(ada, a["id"]) == stand(ada, d["id"]) == (found["id"], None)
    assert stand(ada, b["id"]) == (None, None)


def in_the_trash_without_its_parent(person: Person) -> tuple[Thing, Thing, Thing]:
    """A list in the trash; a task in the Inbox that was in it; and one below that, which went with
    the list."""
    found = person.has_list("Work")
    parent = person.has_task("Parent", list_id=found["id"])
    below = person.has_task("Below", parent_id=parent["id"])
    delete_list(person, found["id"])
    restore_task(person, parent["id"])
    assert last_group(person)[-1]["entity_id"] == below["id"]
    assert undo_change(person, latest(person)).status_code == 200
    return found, parent, below


@pytest.mark.parametrize("parent_is", ["in the Inbox", "in the trash", "deleted for good"])
def test_a_task_whose_parent_does_not_come_back_with_the_list_is_on_level_1_of_it(
    parent_is: str, ada: Person
) -> None:
    found, parent, below = in_the_trash_without_its_parent(ada)
    if parent_is != "in the Inbox":
        delete_task(ada, parent["id"])
    if parent_is == "deleted for good":
        purge_task(ada, parent["id"])
    restore_list(ada, found["id"])
    assert stand(ada, below["id"]) == (found["id"], None)
    assert undo_last(ada).status_code == 200
    restore_list(ada, found["id"])
    assert stand(ada, below["id"]) == (found["id"], None)


def test_a_part_of_a_tree_that_an_undo_moved_in_the_trash_does_not_come_back_with_the_list(
    ada: Person,
) -> None:
    work, home = ada.has_list("Work"), ada.has_list("Home")
    a = ada.has_task("a", list_id=work["id"])
    b = ada.has_task("b", parent_id=a["id"])
    change_task(ada, a["id"], list_id=home["id"])
    moved = latest(ada)
    delete_list(ada, home["id"])
    assert undo_change(ada, moved).status_code == 200
    restore_list(ada, home["id"])
    assert (is_there(ada, "task", a["id"]), is_there(ada, "task", b["id"])) == (True, False)
    restore_task(ada, b["id"])
    assert stand(ada, b["id"]) == (home["id"], a["id"])


def test_an_undo_of_one_change_of_a_deletion_needs_the_list(ada: Person) -> None:
    found, tasks = full_list(ada)
    delete_list(ada, found["id"])
    deleted = {change["entity_id"]: change["seq"] for change in last_group(ada)}
    for one in tasks:
        assert conflict(undo_change(ada, deleted[one["id"]])) == "UNDO_CONFLICT"
    assert undo_change(ada, deleted[found["id"]]).status_code == 200
    assert is_there(ada, "list", found["id"])
    assert not any(is_there(ada, "task", one["id"]) for one in tasks)
    assert undo_change(ada, deleted[tasks[3]["id"]]).status_code == 200
    assert stand(ada, tasks[3]["id"]) == (found["id"], None)


@pytest.mark.parametrize("made_by", ["create", "restore"])
def test_an_undo_that_would_take_a_list_from_living_tasks_is_a_conflict(
    made_by: str, ada: Person
) -> None:
    found = ada.has_list("Work")
    if made_by == "restore":
        delete_list(ada, found["id"])
        restore_list(ada, found["id"])
    made = latest(ada)
    one = ada.has_task("Task", list_id=found["id"])
    before = latest(ada)
    reply = undo_change(ada, made)
    assert conflict(reply) == "UNDO_CONFLICT"
    assert reply.json()["error"].startswith("This cannot be undone: a list or task that it needs")
    assert latest(ada) == before
    change_task(ada, one["id"], list_id=None)
    assert undo_change(ada, made).status_code == 200
    assert not is_there(ada, "list", found["id"])


def test_a_task_is_not_made_in_or_moved_to_a_list_in_the_trash(ada: Person) -> None:
    found, made = ada.has_list("Work"), ada.has_task("Task")
    delete_list(ada, found["id"])
    for method, url in (("POST", "/v1/tasks"), ("PATCH", f"/v1/tasks/{made['id']}")):
        reply = ada.request(method, url, json={"title": "x", "list_id": found["id"]})
        assert (reply.status_code, reply.json()["error"]) == (400, "List does not exist")


# --- for good ---


def test_a_list_deleted_for_good_leaves_its_tasks_in_the_trash_in_no_list(ada: Person) -> None:
    found, tasks = full_list(ada)
    delete_list(ada, found["id"])
    reply = ada.request("DELETE", f"/v1/trash/lists/{found['id']}")
    assert (reply.status_code, reply.json()) == (
        200,
        {"data": None, "message": "List deleted for good"},
    )
    *let_go, purged = last_group(ada)
    assert [(change["op"], change["entity_id"], change["fields"]) for change in let_go] == [
        ("update", one["id"], {"list_id": [found["id"], None]}) for one in tasks
    ]
    assert (purged["entity"], purged["op"], purged["fields"]) == ("list", "purge", {})
    shown = {one["id"]: one for one in in_trash(ada)}
    assert found["id"] not in shown
    for was in tasks:
        one = shown[was["id"]]
        assert (one["list_id"], one["parent_id"]) == (None, was["parent_id"])
    restore_task(ada, tasks[0]["id"])
    for was in tasks[:3]:
        assert stand(ada, was["id"]) == (None, was["parent_id"])
    for seq in (let_go[0]["seq"], let_go[3]["seq"], purged["seq"]):
        assert conflict(undo_change(ada, seq)) == "UNDO_CONFLICT"


def test_no_name_of_a_list_deleted_for_good_is_kept(person: Meet) -> None:
    dora = person("dora")
    headers = {"Idempotency-Key": new_uid()}
    body = {"name": "Secret", "color": "#2f6fed"}
    made = dora.request("POST", "/v1/lists", json=body, headers=headers).json()["data"]
    change_list(dora, made["id"], name="Secret too")
    delete_list(dora, made["id"])
    purge_list(dora, made["id"])
    assert "Secret" not in str(log(dora))
    again = dora.request("POST", "/v1/lists", json=body, headers=headers)
    assert (again.status_code, again.json()["code"]) == (404, "NOT_FOUND")
    assert "Secret" not in again.text


# --- what the trash shows ---


def test_the_trash_has_tasks_and_lists_each_with_its_entity_last_deleted_first(
    person: Meet,
) -> None:
    dora = person("dora")
    found, tasks = dora.has_list("Work"), [dora.has_task(letter) for letter in "ab"]
    delete_task(dora, tasks[0]["id"])
    delete_list(dora, found["id"])
    delete_task(dora, tasks[1]["id"])
    shown = in_trash(dora)
    assert [(one["entity"], one["id"]) for one in shown] == [
        ("task", tasks[1]["id"]),
        ("list", found["id"]),
        ("task", tasks[0]["id"]),
    ]
    assert list(shown[1]) == LIST_KEYS
    assert shown[1]["deleted_at"] == shown[1]["updated_at"]
    assert {name: shown[1][name] for name in found if name not in ("version", "updated_at")} == (
        without_marks(found)
    )


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_pages_of_the_trash_show_each_once_in_order(limit: int, person: Meet) -> None:
    dora = person("dora")
    for _ in range(2):
        found, _tasks = full_list(dora)
        delete_list(dora, found["id"])
    expected = in_trash(dora)
    assert len(expected) == 10
    found_in_pages: list[Thing] = []
    cursor = ""
    while True:
        page = dora.request("GET", f"/v1/trash?limit={limit}{cursor}").json()
        assert len(page["data"]) <= limit
        found_in_pages += page["data"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found_in_pages == expected


@pytest.mark.parametrize("named", ["id", "uid"])
@pytest.mark.parametrize("path", ["/v1/trash/tasks/{}", "/v1/trash/{}"])
def test_tasks_are_restored_and_deleted_for_good_at_both_paths(
    path: str, named: str, ada: Person
) -> None:
    made = ada.has_task("Task")
    delete_task(ada, made["id"])
    reply = ada.request("POST", f"{path.format(made[named])}/restore")
    assert (reply.status_code, reply.json()["message"]) == (200, "Task restored")
    assert reply.json()["data"]["id"] == made["id"]
    location = reply.headers["location"]
    assert ada.request("GET", location).json()["data"] == reply.json()["data"]
    delete_task(ada, made["id"])
    reply = ada.request("DELETE", path.format(made[named]))
    assert (reply.status_code, reply.json()["message"]) == (200, "Task deleted for good")
    assert ada.request("POST", f"{path.format(made[named])}/restore").status_code == 404


def test_a_list_is_no_task_and_a_task_no_list_in_the_trash_too(ada: Person) -> None:
    found, made = ada.has_list("Work"), ada.has_task("Task")
    delete_list(ada, found["id"])
    delete_task(ada, made["id"])
    for name in ("id", "uid"):
        for path in (f"tasks/{found[name]}", f"{found[name]}", f"lists/{made[name]}"):
            assert ada.request("POST", f"/v1/trash/{path}/restore").status_code == 404
            assert ada.request("DELETE", f"/v1/trash/{path}").status_code == 404


def test_an_answer_that_is_kept_of_a_list_is_gone_with_the_list(ada: Person) -> None:
    again = {"headers": {"Idempotency-Key": f"list-{ada.id}"}, "json": {"name": "Gone"}}
    made = ada.request("POST", "/v1/lists", **again).json()["data"]
    ada.request("DELETE", f"/v1/lists/{made['id']}")
    ada.request("DELETE", f"/v1/trash/lists/{made['id']}")
    replayed = ada.request("POST", "/v1/lists", **again)
    assert (replayed.status_code, replayed.json()["error"]) == (404, "List not found")
