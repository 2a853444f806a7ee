"""model.md, "What belongs together moves together": moving, nesting, deleting, restoring, undoing,
purging."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.contract.things import (
    Meet,
    Thing,
    change_task,
    conflict,
    delete_list,
    delete_task,
    in_trash,
    is_there,
    last_group,
    latest,
    problems,
    purge_task,
    restore_list,
    restore_task,
    task,
    undo_change,
    undo_last,
)
from tests.people import Person

LEVELS = 5
TOO_DEEP = "Subtasks must not be nested deeper than 5 levels"


def chain(person: Person, levels: int, **top: Any) -> list[Thing]:
    """Tasks, each below the one before."""
    made = [person.has_task("1", **top)]
    while len(made) < levels:
        made.append(person.has_task(f"{len(made) + 1}", parent_id=made[-1]["id"]))
    return made


def stand(person: Person, id: Any) -> tuple[Any, Any]:
    """In which list, and below which task."""
    found = task(person, id)
    return found["list_id"], found["parent_id"]


def move(person: Person, id: Any, **fields: Any) -> Any:
    return person.request("PATCH", f"/v1/tasks/{id}", json=fields)


def trashed(person: Person, *things: Thing) -> list[Thing]:
    """How they are in the trash, each of them."""
    found = {one["id"]: one for one in in_trash(person)}
    return [found[one["id"]] for one in things]


def ids(*things: Thing) -> list[int]:
    return [one["id"] for one in things]


# --- levels ---


def test_five_levels_and_no_sixth(ada: Person) -> None:
    tasks = chain(ada, LEVELS)
    reply = ada.request("POST", "/v1/tasks", json={"title": "6", "parent_id": tasks[-1]["id"]})
    assert problems(reply) == [("parent_id", TOO_DEEP)]


@pytest.mark.parametrize("levels", range(1, LEVELS + 1))
def test_a_tree_goes_only_where_it_has_room(levels: int, ada: Person) -> None:
    tree, above = chain(ada, levels), chain(ada, LEVELS)
    before = latest(ada)
    for depth, parent in enumerate(above, 1):
        reply = move(ada, tree[0]["id"], parent_id=parent["id"])
        if depth + levels > LEVELS:
            assert problems(reply) == [("parent_id", TOO_DEEP)]
        else:
            assert reply.status_code == 200
    assert latest(ada) - before == LEVELS - levels


def test_a_task_is_not_below_itself(ada: Person) -> None:
    tasks = chain(ada, LEVELS - 1)
    other = ada.has_task("Other")
    before = latest(ada)
    for one in tasks:
        for name in ("id", "uid"):
            reply = move(ada, tasks[0]["id"], parent_id=one[name])
            assert problems(reply) == [("parent_id", "A task cannot be below itself")]
    assert latest(ada) == before
    assert move(ada, tasks[0]["id"], parent_id=other["id"]).status_code == 200


# --- moving ---


def test_a_subtask_is_in_its_parents_list(ada: Person) -> None:
    work, home = ada.has_list("Work"), ada.has_list("Home")
    parent = ada.has_task("Parent", list_id=work["id"])
    made = ada.has_task("Below", parent_id=parent["id"])
    assert (made["list_id"], made["parent_id"]) == (work["id"], parent["id"])
    other = ada.has_task("Other", list_id=home["id"])
    change_task(ada, other["id"], parent_id=parent["uid"])
    assert stand(ada, other["id"]) == (work["id"], parent["id"])


@pytest.mark.parametrize("creating", [True, False], ids=["at creation", "later"])
def test_a_parent_in_another_list_wins(creating: bool, ada: Person) -> None:
    work, home = ada.has_list("Work"), ada.has_list("Home")
    parent = ada.has_task("Parent", list_id=work["id"])
    inbox = ada.has_task("Of the Inbox")
    for above, list_id in ((parent, home["id"]), (parent, None), (inbox, home["id"])):
        fields = {"parent_id": above["id"], "list_id": list_id}
        made = ada.has_task("x", **(fields if creating else {}))
        if not creating:
            change_task(ada, made["id"], **fields)
        assert stand(ada, made["id"]) == (above["list_id"], above["id"])


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("target", ["another list", "its own list", "the Inbox"])
def test_a_list_alone_takes_a_subtask_out_of_its_parent_tree_along(
    target: str, levels: int, ada: Person
) -> None:
    work = ada.has_list("Work")
    parent = ada.has_task("Parent", list_id=work["id"])
    tree = chain(ada, levels, parent_id=parent["id"])
    list_id = {
        "another list": ada.has_list("Home")["id"],
        "its own list": work["id"],
        "the Inbox": None,
    }[target]
    change_task(ada, tree[0]["id"], list_id=list_id)
    assert stand(ada, tree[0]["id"]) == (list_id, None)
    for above, one in pairwise(tree):
        assert stand(ada, one["id"]) == (list_id, above["id"])
    assert stand(ada, parent["id"]) == (work["id"], None)


def test_no_parent_leaves_a_task_in_its_list(ada: Person) -> None:
    work = ada.has_list("Work")
    parent = ada.has_task("Parent", list_id=work["id"])
    made = ada.has_task("x", parent_id=parent["id"])
    change_task(ada, made["id"], parent_id=None)
    assert stand(ada, made["id"]) == (work["id"], None)


def test_a_tree_moves_as_one_group_with_a_change_for_each_task(ada: Person) -> None:
    work, home = ada.has_list("Work"), ada.has_list("Home")
    tree = chain(ada, 3, list_id=work["id"])
    beside = ada.has_task("beside", parent_id=tree[0]["id"])
    before = [task(ada, one["id"]) for one in [*tree, beside]]
    change_task(ada, tree[0]["id"], list_id=home["id"], title="Moved")
    group = last_group(ada)
    assert sorted(change["entity_id"] for change in group) == sorted(ids(*tree, beside))
    assert {change["op"] for change in group} == {"update"}
    lists = {"list_id": [work["id"], home["id"]]}
    assert group[0]["fields"] == {"title": ["1", "Moved"], **lists}
    assert [change["fields"] for change in group[1:]] == [lists] * 3
    assert undo_last(ada).status_code == 200
    assert [without_marks(task(ada, one["id"])) for one in before] == list(
        map(without_marks, before)
    )


def without_marks(shown: Thing) -> Thing:
    return {name: value for name, value in shown.items() if name not in ("version", "updated_at")}


def test_a_move_within_the_list_changes_one_task(ada: Person) -> None:
    parent, tree = ada.has_task("Parent"), chain(ada, 3)
    change_task(ada, tree[0]["id"], parent_id=parent["id"])
    assert [change["fields"] for change in last_group(ada)] == [{"parent_id": [None, parent["id"]]}]


def test_what_is_in_the_trash_is_not_moved_and_comes_back_below_its_parent(ada: Person) -> None:
    home = ada.has_list("Home")
    parent, below = chain(ada, 2)
    delete_task(ada, below["id"])
    change_task(ada, parent["id"], list_id=home["id"])
    assert len(last_group(ada)) == 1
    restore_task(ada, below["id"])
    assert stand(ada, below["id"]) == (home["id"], parent["id"])


def test_completing_a_task_does_not_complete_what_is_below_it(ada: Person) -> None:
    parent, below = chain(ada, 2)
    ada.request("POST", f"/v1/tasks/{parent['id']}/complete")
    assert task(ada, below["id"]) == below
    change_task(ada, below["id"], completed=True)
    ada.patch(f"/{parent['id']}/complete")
    assert task(ada, below["id"])["completed"] is True


@pytest.mark.parametrize("guard", ["older", "current"])
def test_a_move_and_a_deletion_of_a_tree_obey_if_match(guard: str, ada: Person) -> None:
    home, parent = ada.has_list("Home"), chain(ada, 2)[0]
    for method, body in (("PATCH", {"list_id": home["id"]}), ("DELETE", None)):
        version = task(ada, parent["id"])["version"]
        named = f'"{version - 1}"' if guard == "older" else f'"{version}"'
        reply = ada.request(
            method, f"/v1/tasks/{parent['id']}", json=body, headers={"If-Match": named}
        )
        assert reply.status_code == (412 if guard == "older" else 200)
        if guard == "older":
            assert reply.json()["data"] == parent


# --- deleting and restoring ---


@pytest.mark.parametrize("door", ["/v1/tasks/{id}", "/api/{user}/tasks/{id}"])
def test_a_deletion_takes_what_is_below_it_along_as_one_group(door: str, ada: Person) -> None:
    work = ada.has_list("Work")
    parent, beside = ada.has_task("Parent", list_id=work["id"]), ada.has_task("Beside")
    tree = chain(ada, 3, parent_id=parent["id"])
    leaf = ada.has_task("leaf", parent_id=tree[0]["id"])
    assert ada.request("DELETE", door.format(user=ada.id, id=tree[0]["id"])).status_code == 200
    group = last_group(ada)
    assert sorted(change["entity_id"] for change in group) == sorted(ids(*tree, leaf))
    assert {change["op"] for change in group} == {"delete"}
    shown = trashed(ada, *tree, leaf)
    assert len({one["deleted_at"] for one in shown}) == 1
    for one, was in zip(shown, [*tree, leaf], strict=True):
        assert (one["list_id"], one["parent_id"]) == (was["list_id"], was["parent_id"])
    assert is_there(ada, "task", parent["id"])
    assert is_there(ada, "task", beside["id"])

    restored = restore_task(ada, tree[0]["id"])
    assert restored["id"] == tree[0]["id"]
    group = last_group(ada)
    assert sorted(change["entity_id"] for change in group) == sorted(ids(*tree, leaf))
    assert {change["op"] for change in group} == {"restore"}
    assert {tuple(change["fields"]) for change in group} == {("deleted_at",)}
    for was in [*tree, leaf]:
        assert without_marks(task(ada, was["id"])) == without_marks(was)


@pytest.mark.parametrize("by", ["the group", "each change, from the last one"])
def test_one_undo_takes_a_deletion_back(by: str, ada: Person) -> None:
    tree = chain(ada, 3)
    delete_task(ada, tree[0]["id"])
    if by == "the group":
        assert undo_last(ada).status_code == 200
        assert len(last_group(ada)) == 3
    else:
        for change in reversed(last_group(ada)):
            assert undo_change(ada, change["seq"]).status_code == 200
    for was in tree:
        assert without_marks(task(ada, was["id"])) == without_marks(was)


def test_an_undo_of_a_restoration_puts_all_back(ada: Person) -> None:
    tree = chain(ada, 3)
    delete_task(ada, tree[0]["id"])
    before = trashed(ada, *tree)
    restore_task(ada, tree[0]["id"])
    assert undo_last(ada).status_code == 200
    assert list(map(without_marks, trashed(ada, *tree))) == list(map(without_marks, before))


def test_what_was_deleted_before_stays_in_the_trash(ada: Person) -> None:
    parent, earlier = chain(ada, 2)
    later = ada.has_task("later", parent_id=parent["id"])
    delete_task(ada, earlier["id"])
    delete_task(ada, parent["id"])
    restore_task(ada, parent["id"])
    assert is_there(ada, "task", later["id"])
    assert not is_there(ada, "task", earlier["id"])
    restore_task(ada, earlier["id"])
    assert stand(ada, earlier["id"]) == (None, parent["id"])


@pytest.mark.parametrize("why", ["its parent is in the trash", "its list is in the trash"])
def test_a_task_that_cannot_stand_where_it_stood_comes_to_level_1_of_the_inbox(
    why: str, ada: Person
) -> None:
    work = ada.has_list("Work")
    parent = ada.has_task("Parent", list_id=work["id"])
    tree = chain(ada, 3, parent_id=parent["id"])
    if why == "its parent is in the trash":
        delete_task(ada, tree[0]["id"])
        delete_task(ada, parent["id"])
    else:
        change_task(ada, tree[0]["id"], parent_id=None)
        delete_list(ada, work["id"])
    restored = restore_task(ada, tree[0]["id"])
    assert (restored["list_id"], restored["parent_id"]) == (None, None)
    assert len(last_group(ada)) == 3
    for above, one in pairwise(tree):
        assert stand(ada, one["id"]) == (None, above["id"])
    assert undo_last(ada).status_code == 200
    for one in trashed(ada, *tree):
        assert one["list_id"] == work["id"]


def test_a_part_of_what_was_deleted_comes_back_alone(ada: Person) -> None:
    tree = chain(ada, 4)
    delete_task(ada, tree[0]["id"])
    restore_task(ada, tree[2]["id"])
    assert stand(ada, tree[2]["id"]) == (None, None)
    assert stand(ada, tree[3]["id"]) == (None, tree[2]["id"])
    assert not is_there(ada, "task", tree[1]["id"])
    restore_task(ada, tree[0]["id"])
    assert stand(ada, tree[1]["id"]) == (None, tree[0]["id"])
    assert stand(ada, tree[2]["id"]) == (None, None)


def test_a_restoration_that_would_make_a_sixth_level_is_a_conflict(ada: Person) -> None:
    parent, above = ada.has_task("Parent"), chain(ada, LEVELS - 2)
    tree = chain(ada, 3, parent_id=parent["id"])
    delete_task(ada, tree[0]["id"])
    group = {"group": last_group(ada)[0]["group"]}
    change_task(ada, parent["id"], parent_id=above[-1]["id"])
    reply = ada.request("POST", f"/v1/trash/tasks/{tree[0]['id']}/restore")
    assert conflict(reply) == "UNDO_CONFLICT"
    assert reply.json()["error"] == TOO_DEEP
    assert conflict(ada.request("POST", "/v1/undo", json=group)) == "UNDO_CONFLICT"
    change_task(ada, parent["id"], parent_id=above[0]["id"])
    restore_task(ada, tree[0]["id"])
    assert stand(ada, tree[0]["id"]) == (None, parent["id"])


def test_six_levels_that_an_undo_made_in_the_trash_do_not_come_back(ada: Person) -> None:
    work = ada.has_list("Work")
    parent = ada.has_task("Parent", list_id=work["id"])
    top = ada.has_task("Top", parent_id=parent["id"])
    change_task(ada, top["id"], parent_id=None)
    moved = last_group(ada)[0]["seq"]
    tree = [top, *chain(ada, LEVELS - 1, parent_id=top["id"])]
    delete_list(ada, work["id"])
    assert undo_change(ada, moved).status_code == 200
    for url in (f"tasks/{parent['id']}", f"lists/{work['id']}"):
        reply = ada.request("POST", f"/v1/trash/{url}/restore")
        assert (conflict(reply), reply.json()["error"]) == ("UNDO_CONFLICT", TOO_DEEP)
    restore_task(ada, tree[0]["id"])
    restore_list(ada, work["id"])
    assert stand(ada, parent["id"]) == (work["id"], None)


# --- undo that would break a tree ---


def conflicts(person: Person, seq: int) -> bool:
    """Whether the change cannot be undone; then nothing was."""
    before = latest(person)
    reply = undo_change(person, seq)
    assert conflict(reply) == "UNDO_CONFLICT"
    assert "errors" not in reply.json()
    return latest(person) == before


def test_an_undo_below_what_is_in_the_trash_is_a_conflict(ada: Person) -> None:
    parent, below = chain(ada, 2)
    change_task(ada, below["id"], parent_id=None)
    moved = latest(ada)
    delete_task(ada, parent["id"])
    assert conflicts(ada, moved)
    restore_task(ada, parent["id"])
    assert undo_change(ada, moved).status_code == 200
    assert stand(ada, below["id"]) == (None, parent["id"])


def test_an_undo_into_a_list_in_the_trash_is_a_conflict(ada: Person) -> None:
    work = ada.has_list("Work")
    made = ada.has_task("Task", list_id=work["id"])
    change_task(ada, made["id"], list_id=None)
    moved = latest(ada)
    delete_list(ada, work["id"])
    assert conflicts(ada, moved)
    restore_list(ada, work["id"])
    assert undo_change(ada, moved).status_code == 200


def test_an_undo_that_would_make_a_cycle_is_a_conflict(ada: Person) -> None:
    a, b = chain(ada, 2)
    change_task(ada, b["id"], parent_id=None)
    moved = latest(ada)
    change_task(ada, a["id"], parent_id=b["id"])
    assert conflicts(ada, moved)


def test_an_undo_in_the_trash_that_would_make_a_cycle_is_a_conflict(ada: Person) -> None:
    a, b = chain(ada, 2)
    change_task(ada, b["id"], parent_id=None)
    moved = latest(ada)
    change_task(ada, a["id"], parent_id=b["id"])
    delete_task(ada, b["id"])
    assert conflicts(ada, moved)
    assert restore_task(ada, b["id"])["parent_id"] is None
    assert stand(ada, a["id"]) == (None, b["id"])


def test_an_undo_of_a_creation_with_living_children_is_a_conflict(ada: Person) -> None:
    parent = ada.has_task("Parent")
    created = latest(ada)
    below = ada.has_task("Below", parent_id=parent["id"])
    assert conflicts(ada, created)
    delete_task(ada, below["id"])
    assert undo_change(ada, created).status_code == 200
    assert not is_there(ada, "task", parent["id"])


def test_an_undo_that_would_make_a_sixth_level_is_a_conflict(ada: Person) -> None:
    _, below = chain(ada, 2)
    change_task(ada, below["id"], parent_id=None)
    moved = latest(ada)
    chain(ada, LEVELS - 1, parent_id=below["id"])
    assert conflicts(ada, moved)


def test_an_undo_of_a_move_that_others_joined_is_a_conflict(ada: Person) -> None:
    home, made = ada.has_list("Home"), ada.has_task("Task")
    change_task(ada, made["id"], list_id=home["id"])
    moved = latest(ada)
    joined = ada.has_task("Joined", parent_id=made["id"])
    assert conflicts(ada, moved)
    change_task(ada, joined["id"], list_id=home["id"])
    assert undo_change(ada, moved).status_code == 200


def test_an_undo_of_one_restoration_out_of_a_tree_is_a_conflict_while_others_need_it(
    ada: Person,
) -> None:
    parent, below = chain(ada, 2)
    delete_task(ada, parent["id"])
    restore_task(ada, parent["id"])
    restored = {change["entity_id"]: change["seq"] for change in last_group(ada)}
    assert conflicts(ada, restored[parent["id"]])
    assert undo_change(ada, restored[below["id"]]).status_code == 200
    assert undo_change(ada, restored[parent["id"]]).status_code == 200


def test_an_undo_of_one_deletion_out_of_a_tree_needs_what_is_above_it(ada: Person) -> None:
    parent, below = chain(ada, 2)
    delete_task(ada, parent["id"])
    deleted = {change["entity_id"]: change["seq"] for change in last_group(ada)}
    assert conflicts(ada, deleted[below["id"]])
    assert undo_change(ada, deleted[parent["id"]]).status_code == 200
    assert undo_change(ada, deleted[below["id"]]).status_code == 200


# --- deleting for good ---


def test_deleting_for_good_takes_one_task_and_what_stood_below_it_refers_to_nothing(
    ada: Person,
) -> None:
    work = ada.has_list("Work")
    parent = ada.has_task("Parent", list_id=work["id"])
    below = [ada.has_task("a", parent_id=parent["id"]), ada.has_task("b", parent_id=parent["id"])]
    leaf = ada.has_task("leaf", parent_id=below[0]["id"])
    delete_task(ada, parent["id"])
    before = trashed(ada, *below, leaf)
    purge_task(ada, parent["id"])
    *let_go, purged = last_group(ada)
    assert [(change["op"], change["entity_id"], change["fields"]) for change in let_go] == [
        ("update", one["id"], {"parent_id": [parent["id"], None]}) for one in below
    ]
    assert (purged["op"], purged["entity_id"], purged["fields"]) == ("purge", parent["id"], {})
    assert parent["id"] not in ids(*in_trash(ada))
    for one, was in zip(trashed(ada, *below, leaf), before, strict=True):
        expected = {**was, "parent_id": None if was in before[:2] else was["parent_id"]}
        assert without_marks(one) == without_marks(expected)
    restore_task(ada, below[0]["id"])
    assert stand(ada, below[0]["id"]) == (work["id"], None)
    assert stand(ada, leaf["id"]) == (work["id"], below[0]["id"])


def test_what_was_let_go_cannot_be_undone(ada: Person) -> None:
    parent, below = chain(ada, 2)
    delete_task(ada, parent["id"])
    purge_task(ada, parent["id"])
    let_go, purged = last_group(ada)
    assert conflicts(ada, let_go["seq"])
    assert conflicts(ada, purged["seq"])
    assert conflict(undo_last(ada)) == "UNDO_CONFLICT"
    restore_task(ada, below["id"])
    assert conflicts(ada, let_go["seq"])


def test_a_purge_with_an_older_tag_lets_nothing_go(ada: Person) -> None:
    parent, below = chain(ada, 2)
    delete_task(ada, parent["id"])
    before = latest(ada)
    reply = ada.request(
        "DELETE", f"/v1/trash/tasks/{parent['id']}", headers={"If-Match": f'"{before - 2}"'}
    )
    assert reply.status_code == 412
    assert latest(ada) == before
    assert trashed(ada, below)[0]["parent_id"] == parent["id"]


def test_all_of_it_is_one_persons_alone(ada: Person, bob: Person, person: Meet) -> None:
    dora = person("dora")
    tree, others = chain(dora, 2), chain(bob, 2)
    for one in tree:
        assert move(bob, one["id"], parent_id=None).status_code == 404
        assert problems(move(bob, others[0]["id"], parent_id=one["uid"])) == [
            ("parent_id", "Parent does not exist")
        ]
        assert bob.request("DELETE", f"/v1/tasks/{one['uid']}").status_code == 404
    delete_task(dora, tree[0]["id"])
    for end in ("", "/restore"):
        method = "POST" if end else "DELETE"
        assert bob.request(method, f"/v1/trash/tasks/{tree[0]['id']}{end}").status_code == 404
    assert latest(dora) == 4
