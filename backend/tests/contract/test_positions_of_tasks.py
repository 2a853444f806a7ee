"""model.md, "Position": the order of tasks among their siblings, and the keys that the server
makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.things import (
    NOBODYS_ID,
    Meet,
    Thing,
    change_task,
    conflict,
    delete_list,
    delete_task,
    last_group,
    latest,
    new_uid,
    problems,
    task,
)
from tests.people import Person

NOT_A_SIBLING = [("position", "Position must name a task of the same list and parent")]
LONGEST = 128


def order(person: Person, **where: Any) -> str:
    """The titles of those that stand in this list, below this parent, by position and id."""
    stand = {"list_id": None, "parent_id": None, **where}
    tasks = [
        one
        for one in person.get().json()["data"]
        if all(one[name] == value for name, value in stand.items())
    ]
    return "".join(
        one["title"] for one in sorted(tasks, key=lambda one: (one["position"], one["id"]))
    )


def move(person: Person, id: Any, position: Any, **more: Any) -> Any:
    return person.request("PATCH", f"/v1/tasks/{id}", json={"position": position, **more})


def test_what_is_created_later_stands_later(person: Meet) -> None:
    dora = person("dora")
    for letter in "abcdefghijklmno":  # the 10th change needs a longer key
        dora.has_task(letter)
    assert order(dora) == "abcdefghijklmno"
    change_task(dora, dora.get("?limit=1").json()["data"][0]["id"], position="last")
    dora.has_task("p")
    assert order(dora) == "abcdefghijklmnop"


@pytest.mark.parametrize("named", ["id", "uid"])
@pytest.mark.parametrize("creating", [True, False], ids=["at creation", "later"])
@pytest.mark.parametrize("stand", ["in the Inbox", "in a list", "below a task"])
def test_a_task_goes_where_it_is_told_among_its_siblings(
    stand: str, creating: bool, named: str, person: Meet
) -> None:
    dora = person("dora")
    where: Thing = {}
    if stand == "in a list":
        where = {"list_id": dora.has_list("Work")["id"]}
    if stand == "below a task":
        where = {"parent_id": dora.has_task("parent")["id"]}
    a, b, c = (dora.has_task(name, **where) for name in "abc")
    dora.has_task("elsewhere", list_id=dora.has_list("Home")["id"], position="Zz")
    places: dict[str, tuple[Any, str]] = {
        "first": ("first", "xabc"),
        "last": ("last", "abcx"),
        "before": ({"before": b[named]}, "axbc"),
        "after": ({"after": b[named]}, "abxc"),
        "before the first": ({"before": a[named]}, "xabc"),
        "after the last": ({"after": c[named]}, "abcx"),
    }
    for place, expected in places.values():
        x = dora.has_task("x", **where, **({"position": place} if creating else {}))
        if not creating:
            assert move(dora, x["id"], place).status_code == 200
        assert order(dora, **where) == expected
        delete_task(dora, x["id"])


def test_the_first_of_all_gets_the_first_key(person: Meet) -> None:
    for place in ("first", "last"):
        assert person("dora").has_task("a", position=place)["position"] == "a0"


def test_one_move_is_one_change_of_one_task(person: Meet) -> None:
    dora = person("dora")
    tasks = [dora.has_task(letter) for letter in "abcd"]
    moved = change_task(dora, tasks[3]["id"], position={"before": tasks[1]["id"]})
    assert order(dora) == "adbc"
    [change] = last_group(dora)
    assert change["fields"] == {"position": [tasks[3]["position"], moved["position"]]}
    for one in tasks[:3]:
        assert task(dora, one["id"]) == one


def test_a_key_can_be_made_between_any_two_again_and_again(person: Meet) -> None:
    dora = person("dora")
    left, right = dora.has_task("l"), dora.has_task("r")
    for turn in range(40):
        side = {"after": left["id"]} if turn % 3 else {"before": right["id"]}
        made = dora.has_task("m", position=side)
        assert left["position"] < made["position"] < right["position"]
        left, right = (made, right) if turn % 2 else (left, made)


def test_the_place_is_in_the_list_and_below_the_parent_that_the_task_goes_to(person: Meet) -> None:
    dora = person("dora")
    work = dora.has_list("Work")
    a, b = (dora.has_task(letter, list_id=work["id"]) for letter in "ab")
    x = dora.has_task("x")
    moved = change_task(dora, x["id"], list_id=work["id"], position={"before": b["id"]})
    assert order(dora, list_id=work["id"]) == "axb"
    c = dora.has_task("c", parent_id=a["id"])
    change_task(dora, x["id"], parent_id=a["id"], position="last")
    assert order(dora, list_id=work["id"], parent_id=a["id"]) == "cx"
    change_task(dora, x["id"], list_id=None, position="first")
    assert order(dora).startswith("x")
    assert moved["list_id"] == task(dora, c["id"])["list_id"]


def test_a_move_without_a_position_keeps_the_key(ada: Person) -> None:
    made = ada.has_task("Task", position="a5V")
    parent = ada.has_task("Parent", list_id=ada.has_list("Work")["id"], position="a5V")
    for fields in ({"parent_id": parent["id"]}, {"list_id": None}, {"list_id": parent["list_id"]}):
        assert change_task(ada, made["id"], **fields)["position"] == "a5V"


STRANGERS: dict[str, Callable[[Person, Person, Thing], Any]] = {
    "the task itself": lambda ada, bob, made: made["id"],
    "the task itself by its uid": lambda ada, bob, made: made["uid"],
    "its parent": lambda ada, bob, made: made["parent_id"],
    "one below it": lambda ada, bob, made: ada.has_task("x", parent_id=made["id"])["id"],
    "one of level 1": lambda ada, bob, made: ada.has_task("x", list_id=made["list_id"])["id"],
    "one of the Inbox": lambda ada, bob, made: ada.has_task("x")["id"],
    "one of another list": lambda ada, bob, made: ada.has_task(
        "x", list_id=ada.has_list("Home")["id"]
    )["id"],
    "one in the trash": lambda ada, bob, made: thrown(ada, made)["id"],
    "one in the trash by its uid": lambda ada, bob, made: thrown(ada, made)["uid"],
    "another's": lambda ada, bob, made: bob.has_task("Bob's")["id"],
    "another's by its uid": lambda ada, bob, made: bob.has_task("Bob's")["uid"],
    "nobody's": lambda ada, bob, made: NOBODYS_ID,
    "nobody's by a uid": lambda ada, bob, made: new_uid(),
    "0": lambda ada, bob, made: 0,
    "beyond all ids": lambda ada, bob, made: 2**70,
    "a list": lambda ada, bob, made: made["list_id"],
}


def thrown(person: Person, sibling: Thing) -> Thing:
    made = person.has_task("x", parent_id=sibling["parent_id"])
    delete_task(person, made["id"])
    return made


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("word", ["before", "after"])
def test_a_position_names_a_sibling(
    word: str, stranger: Callable[[Person, Person, Thing], Any], ada: Person, bob: Person
) -> None:
    parent = ada.has_task("Parent", list_id=ada.has_list("Work")["id"])
    made = ada.has_task("Task", parent_id=parent["id"])
    other = stranger(ada, bob, made)
    before = latest(ada)
    assert problems(move(ada, made["id"], {word: other})) == NOT_A_SIBLING
    assert latest(ada) == before
    assert task(ada, made["id"]) == made
    if other not in (made["id"], made["uid"]):
        body = {"title": "x", "parent_id": parent["id"], "position": {word: other}}
        assert problems(ada.request("POST", "/v1/tasks", json=body)) == NOT_A_SIBLING
    assert latest(ada) == before


def test_a_sibling_in_a_list_that_went_to_the_trash_is_none(ada: Person) -> None:
    work = ada.has_list("Work")
    sibling, made = ada.has_task("x", list_id=work["id"]), ada.has_task("Task")
    delete_list(ada, work["id"])
    assert problems(move(ada, made["id"], {"before": sibling["id"]})) == NOT_A_SIBLING


def test_at_the_plans_doors_a_place_is_named_by_an_id(person: Meet) -> None:
    dora = person("dora")
    a = dora.has("a")
    b = dora.post({"title": "b", "position": {"before": a["id"]}}).json()["data"]
    assert order(dora) == "ba"
    dora.put(b["id"], {"position": "last"})
    assert order(dora) == "ab"
    dora.patch(f"/{b['id']}", json={"position": "first"})
    assert order(dora) == "ba"


@pytest.mark.parametrize(
    ("word", "expected"), [("before", "1xaab2"), ("after", "1aabx2")], ids=["before", "after"]
)
def test_beside_a_tie_it_goes_before_or_after_the_whole_tie(
    word: str, expected: str, person: Meet
) -> None:
    dora = person("dora")
    dora.has_task("1", position="a1")
    tied = [dora.has_task(letter, position="a2") for letter in "aab"]
    dora.has_task("2", position="a3")
    for place in range(3):
        x = dora.has_task("x", position={word: tied[place]["id"]})
        assert order(dora) == expected
        delete_task(dora, x["id"])


def test_a_task_of_the_tie_goes_before_or_after_the_others(person: Meet) -> None:
    dora = person("dora")
    a, b = (dora.has_task(letter, position="a2") for letter in "ab")
    change_task(dora, b["id"], position={"before": a["id"]})
    assert order(dora) == "ba"
    change_task(dora, b["id"], position={"after": a["id"]})
    assert order(dora) == "ab"


def test_ties_stand_by_id(person: Meet) -> None:
    dora = person("dora")
    for letter in "abc":
        dora.has_task(letter, position="a1")
    assert order(dora) == "abc"


FULL = "a1" + "V" * (LONGEST - 3)


@pytest.mark.parametrize("creating", [True, False], ids=["at creation", "later"])
def test_where_a_key_would_be_too_long_it_is_a_conflict_that_names_a_way_out(
    creating: bool, person: Meet
) -> None:
    dora = person("dora")
    low = dora.has_task("l", position=FULL + "V")
    dora.has_task("h", position=FULL + "W")
    x = dora.has_task("x")
    place = {"after": low["id"]}
    before = latest(dora)
    reply = (
        dora.request("POST", "/v1/tasks", json={"title": "y", "position": place})
        if creating
        else move(dora, x["id"], place)
    )
    assert conflict(reply) == "POSITION_EXHAUSTED"
    assert '"first"' in reply.json()["error"]
    assert latest(dora) == before
    assert move(dora, x["id"], "first").status_code == 200
    assert order(dora)[0] == "x"


NO_ROOM_BEFORE = "A" + 126 * "0" + "1"


def test_where_nothing_fits_first_the_way_out_is_last(person: Meet) -> None:
    dora = person("dora")
    lowest, x = dora.has_task("l", position=NO_ROOM_BEFORE), dora.has_task("x")
    sentences = []
    for place in ({"before": lowest["id"]}, "first"):
        reply = move(dora, x["id"], place)
        assert conflict(reply) == "POSITION_EXHAUSTED"
        sentences.append(reply.json()["error"])
    assert '"first"' in sentences[0]
    assert '"last"' in sentences[1]
    assert move(dora, lowest["id"], "last").status_code == 200
    assert move(dora, x["id"], "first").status_code == 200
    assert order(dora) == "xl"


def test_the_longest_key_is_made(person: Meet) -> None:
    dora = person("dora")
    low = dora.has_task("l", position=FULL[:-1])
    dora.has_task("h", position=FULL[:-1] + "1")
    made = dora.has_task("x", position={"after": low["id"]})
    assert len(made["position"]) == LONGEST
    assert order(dora) == "lxh"
