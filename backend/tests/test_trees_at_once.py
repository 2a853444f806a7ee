"""Two writers at once who would break a tree together: one of them is refused, and lists and trees
stay sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest

from tests import servers
from tests.conftest import sql
from tests.contract.things import Thing, delete_list, delete_task, latest
from tests.people import Person
from tests.test_trees_model import STATE, unsound

ROUNDS = 12

Call = Callable[[], httpx.Response]
Scene = Callable[[Person], list[Call]]


@pytest.fixture(scope="module")
def ada(server: servers.Running) -> Iterator[Person]:
    person = Person(server.url, "ada")
    yield person
    person.client.close()


@pytest.fixture(scope="module")
def hands() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def at_once(hands: ThreadPoolExecutor, calls: list[Call]) -> list[httpx.Response]:
    together = Barrier(len(calls))

    def run(call: Call) -> httpx.Response:
        together.wait(5)
        return call()

    return list(hands.map(run, calls))


def ask(person: Person, method: str, path: str, **body: Any) -> Call:
    return lambda: person.request(method, path, json=body or None)


def move(person: Person, one: Thing, **fields: Any) -> Call:
    return ask(person, "PATCH", f"/v1/tasks/{one['id']}", **fields)


def delete(person: Person, entity: str, one: Thing) -> Call:
    return ask(person, "DELETE", f"/v1/{entity}s/{one['id']}")


def restore(person: Person, entity: str, one: Thing) -> Call:
    return ask(person, "POST", f"/v1/trash/{entity}s/{one['id']}/restore")


def purge(person: Person, entity: str, one: Thing) -> Call:
    return ask(person, "DELETE", f"/v1/trash/{entity}s/{one['id']}")


def each_below_the_other(ada: Person) -> list[Call]:
    a, b = ada.has_task("a"), ada.has_task("b")
    return [move(ada, a, parent_id=b["id"]), move(ada, b, parent_id=a["id"])]


def a_ring_of_three(ada: Person) -> list[Call]:
    a, b, c = (ada.has_task(letter) for letter in "abc")
    pairs = ((a, b), (b, c), (c, a))
    return [move(ada, one, parent_id=above["id"]) for one, above in pairs]


def too_deep_together(ada: Person) -> list[Call]:
    a = ada.has_task("a")
    b = ada.has_task("b", parent_id=ada.has_task("b", parent_id=a["id"])["id"])
    c = ada.has_task("c")
    ada.has_task("d", parent_id=ada.has_task("d", parent_id=c["id"])["id"])
    return [
        move(ada, c, parent_id=b["id"]),
        move(ada, a, parent_id=ada.has_task("e")["id"]),
    ]


def a_list_goes_while_a_task_comes(ada: Person) -> list[Call]:
    work = ada.has_list("Work")
    ada.has_task("a", list_id=work["id"])
    return [
        delete(ada, "list", work),
        ask(ada, "POST", "/v1/tasks", title="b", list_id=work["id"]),
        ask(ada, "POST", f"{ada.tasks}", title="c", list_id=work["id"]),
        move(ada, ada.has_task("d"), list_id=work["id"]),
    ]


def an_empty_list_goes_while_a_task_comes(ada: Person) -> list[Call]:
    work = ada.has_list("Work")
    return [
        delete(ada, "list", work),
        ask(ada, "POST", "/v1/tasks", title="b", list_id=work["uid"]),
    ]


def a_parent_goes_while_a_child_comes(ada: Person) -> list[Call]:
    parent = ada.has_task("a")
    return [
        delete(ada, "task", parent),
        ask(ada, "POST", "/v1/tasks", title="b", parent_id=parent["id"]),
        move(ada, ada.has_task("c"), parent_id=parent["uid"]),
    ]


def a_restoration_and_a_purge(ada: Person) -> list[Call]:
    parent = ada.has_task("a")
    below = ada.has_task("b", parent_id=parent["id"])
    delete_task(ada, parent["id"])
    return [
        restore(ada, "task", parent),
        purge(ada, "task", parent),
        restore(ada, "task", below),
        purge(ada, "task", below),
    ]


def a_list_comes_back_while_it_is_purged(ada: Person) -> list[Call]:
    work = ada.has_list("Work")
    one = ada.has_task("a", list_id=work["id"])
    delete_list(ada, work["id"])
    return [restore(ada, "list", work), purge(ada, "list", work), restore(ada, "task", one)]


def a_tree_moves_while_it_grows(ada: Person) -> list[Call]:
    work, a = ada.has_list("Work"), ada.has_task("a")
    b = ada.has_task("b", parent_id=a["id"])
    return [
        move(ada, a, list_id=work["id"]),
        ask(ada, "POST", "/v1/tasks", title="c", parent_id=b["id"]),
        move(ada, b, list_id=None),
    ]


def an_undo_while_its_place_goes(ada: Person) -> list[Call]:
    work = ada.has_list("Work")
    one = ada.has_task("a", list_id=work["id"])
    move(ada, one, list_id=None)()
    moved = latest(ada)
    return [delete(ada, "list", work), ask(ada, "POST", f"/v1/changes/{moved}/undo")]


SCENES: dict[Scene, set[int]] = {  # and the answers that make sense
    each_below_the_other: {200, 400},
    a_ring_of_three: {200, 400},
    too_deep_together: {200, 400},
    a_list_goes_while_a_task_comes: {200, 201, 400},
    an_empty_list_goes_while_a_task_comes: {200, 201, 400},
    a_parent_goes_while_a_child_comes: {200, 201, 400},
    a_restoration_and_a_purge: {200, 404},
    a_list_comes_back_while_it_is_purged: {200, 404},
    a_tree_moves_while_it_grows: {200, 201},
    an_undo_while_its_place_goes: {200, 409},
}


def state(url: str, person: Person) -> list[dict[str, Any]]:
    return [dict(row) for row in sql(url, STATE, person.id)]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_whoever_comes_first_the_trees_stay_sound(
    scene: Scene, ada: Person, hands: ThreadPoolExecutor, database_url: str
) -> None:
    came: Counter[int] = Counter()
    for _ in range(ROUNDS):
        came.update(reply.status_code for reply in at_once(hands, scene(ada)))
    assert set(came) <= SCENES[scene], came
    assert unsound(state(database_url, ada)) == ""


@pytest.mark.parametrize("scene", [each_below_the_other, a_ring_of_three, too_deep_together])
def test_exactly_one_of_those_who_cannot_all_have_it_is_refused(
    scene: Scene, ada: Person, hands: ThreadPoolExecutor
) -> None:
    for _ in range(ROUNDS):
        replies = at_once(hands, scene(ada))
        assert sorted(reply.status_code for reply in replies)[-2:] == [200, 400]


def test_at_most_500_lists_however_many_come_at_once(
    server: servers.Running, hands: ThreadPoolExecutor, database_url: str
) -> None:
    dora = Person(server.url, "dora")
    dora.has_list("First")
    fill = (
        "INSERT INTO lists (user_id, version, name) SELECT $1, 1, 'x' FROM generate_series(1, 497)"
    )
    sql(database_url, fill, dora.id)
    calls = [ask(dora, "POST", "/v1/lists", name="New")] * 4
    assert sorted(reply.status_code for reply in at_once(hands, calls)) == [201, 201, 409, 409]
    dora.client.close()
