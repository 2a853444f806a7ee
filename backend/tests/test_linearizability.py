"""One task, six callers at once: every answer is one that a single queue of callers could have got."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, NamedTuple

import httpx
import pytest

from tests.contract.wire import tag
from tests.linearizability import Operation, is_linearizable
from tests.people import Person

CLIENTS = 6
HISTORIES = 30
DELETED_EVERY = 3  # of so many histories, in one three try to delete the task, with more to come


class Task(NamedTuple):
    """A task as its owner sees it."""

    title: str
    completed: bool
    version: int


class Call(NamedTuple):
    """`argument` is the title to put, or the value of `completed` to set."""

    kind: str
    argument: Any = None


GET, TOGGLE, DELETE = Call("get"), Call("toggle"), Call("delete")
DELETED = "deleted"


def step(task: Task | None, call: Call) -> tuple[Task | str | None, Task | None]:
    """The answer to `call` and the task after it; None: there is no task, which is 404."""
    if task is None or call.kind == "get":
        return task, task
    if call.kind == "delete":
        return DELETED, None
    if call.kind == "set" and call.argument == task.completed:
        return task, task
    if call.kind == "put":
        changed = task._replace(title=call.argument, version=task.version + 1)
    else:
        completed = not task.completed if call.kind == "toggle" else call.argument
        changed = task._replace(completed=completed, version=task.version + 1)
    return changed, changed


# --- the checker itself ---

NEW = Task("a", False, 1)
DONE = Task("a", True, 2)
UNDONE = Task("a", False, 3)
RENAMED = Task("b", False, 2)


def at(began: float, ended: float, call: Call, answer: Task | str | None) -> Operation:
    return Operation(call, answer, began, ended)


LEGAL = {
    "nothing was asked": [],
    "one after the other": [at(0, 1, TOGGLE, DONE), at(2, 3, GET, DONE), at(4, 5, TOGGLE, UNDONE)],
    "a read beside a write sees what was before": [at(0, 9, TOGGLE, DONE), at(1, 2, GET, NEW)],
    "a read beside a write sees what is after": [at(0, 9, TOGGLE, DONE), at(1, 2, GET, DONE)],
    "first before, then after, beside one write": [
        at(0, 9, TOGGLE, DONE),
        at(1, 2, GET, NEW),
        at(3, 4, GET, DONE),
    ],
    "who began last was first": [at(0, 9, TOGGLE, UNDONE), at(1, 8, TOGGLE, DONE)],
    "in the very moment in which the other ended": [at(0, 1, TOGGLE, DONE), at(1, 2, GET, NEW)],
    "setting what is so already": [at(0, 1, Call("set", False), NEW), at(2, 3, GET, NEW)],
    "set and toggled at once": [at(0, 9, Call("set", True), DONE), at(0, 9, TOGGLE, UNDONE)],
    "put and toggled at once": [
        at(0, 9, Call("put", "b"), RENAMED),
        at(0, 9, TOGGLE, Task("b", True, 3)),
    ],
    "deleted once, and then gone": [
        at(0, 9, DELETE, DELETED),
        at(0, 9, DELETE, None),
        at(8, 10, GET, None),
    ],
    "read beside a delete": [
        at(0, 9, DELETE, DELETED),
        at(1, 2, GET, NEW),
        at(3, 4, TOGGLE, DONE),
        at(5, 6, GET, None),
    ],
}

ILLEGAL = {
    "an answer out of nowhere": [at(0, 1, GET, DONE)],
    "a read after a write sees what was before": [at(0, 1, TOGGLE, DONE), at(2, 3, GET, NEW)],
    "first after, then before, beside one write": [
        at(0, 9, TOGGLE, DONE),
        at(1, 2, GET, DONE),
        at(3, 4, GET, NEW),
    ],
    "two toggles, one flip": [at(0, 9, TOGGLE, DONE), at(0, 9, TOGGLE, DONE)],
    "two toggles, one flip, two versions": [
        at(0, 9, TOGGLE, DONE),
        at(0, 9, TOGGLE, Task("a", True, 3)),
    ],
    "one version, two contents": [at(0, 9, TOGGLE, DONE), at(0, 9, Call("put", "b"), RENAMED)],
    "an overwritten title": [
        at(0, 1, Call("put", "b"), RENAMED),
        at(2, 3, TOGGLE, Task("a", True, 3)),
    ],
    "set, and said to be the opposite": [
        at(0, 9, TOGGLE, DONE),
        at(0, 9, Call("set", True), UNDONE),
    ],
    "deleted twice": [at(0, 9, DELETE, DELETED), at(0, 9, DELETE, DELETED)],
    "read after its end": [at(0, 1, DELETE, DELETED), at(2, 3, GET, NEW)],
    "written after its end": [at(0, 1, DELETE, DELETED), at(2, 3, TOGGLE, DONE)],
    "gone before anybody deleted it": [at(0, 1, GET, None), at(2, 3, DELETE, DELETED)],
    "two callers see two writes in two orders": [
        at(0, 9, TOGGLE, DONE),
        at(0, 9, Call("put", "b"), Task("b", True, 3)),
        at(1, 2, GET, RENAMED),
        at(3, 4, GET, Task("b", True, 3)),
    ],
}


@pytest.mark.parametrize("history", LEGAL.values(), ids=LEGAL)
def test_what_one_queue_could_have_answered_is_accepted(history: list[Operation]) -> None:
    assert is_linearizable(history, NEW, step)
    assert is_linearizable(history[::-1], NEW, step)


@pytest.mark.parametrize("history", ILLEGAL.values(), ids=ILLEGAL)
def test_what_no_queue_could_have_answered_is_rejected(history: list[Operation]) -> None:
    assert not is_linearizable(history, NEW, step)
    assert not is_linearizable(history[::-1], NEW, step)


def test_the_search_forgets_nothing_that_it_has_tried() -> None:
    """Twelve at once, of which any may be first: 4096 sets of them, but 479 million orders."""

    def count(state: int, call: Call) -> tuple[None, int]:
        return None, state + 1

    alike = [at(0, 9, Call("count"), None)] * 12
    assert is_linearizable(alike, 0, count)
    began = time.monotonic()
    assert not is_linearizable([*alike, at(0, 9, Call("count"), DONE)], 0, count)
    assert time.monotonic() - began < 1


# --- the service ---


def ask(person: Person, task_id: int, call: Call) -> httpx.Response:
    if call.kind == "get":
        return person.get(f"/{task_id}")
    if call.kind == "delete":
        return person.delete(task_id)
    if call.kind == "put":
        return person.put(task_id, {"title": call.argument})
    body = {"completed": call.argument} if call.kind == "set" else None
    return person.patch(f"/{task_id}/complete", json=body)


def ask_by_hand(person: Person, task_id: int, call: Call) -> httpx.Response:
    """The control: a toggle that reads, and then puts the opposite."""
    if call.kind != "toggle":
        return ask(person, task_id, call)
    read = person.get(f"/{task_id}")
    if read.status_code == 404:
        return read
    return person.put(task_id, {"completed": not read.json()["data"]["completed"]})


def answered(answer: httpx.Response) -> Task | str | None:
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    if data is None:
        return DELETED
    assert answer.headers["etag"] == tag(data)
    return Task(data["title"], data["completed"], data["version"])


def calls_of(dice: random.Random, client: int, deletes: bool) -> list[Call]:
    """8 to 12 calls; no title is put twice, so that a title tells who put it."""
    calls = [
        dice.choice(
            [GET, TOGGLE, TOGGLE, Call("set", dice.random() < 0.5), Call("put", f"{client}.{turn}")]
        )
        for turn in range(dice.randint(8, 12))
    ]
    if deletes:
        calls[6] = DELETE
    return calls


def histories(
    person: Person, asks: Callable[[Person, int, Call], httpx.Response], clients: int = CLIENTS
) -> Iterator[tuple[bool, int]]:
    """For each: whether it is linearizable, and how many of its operations ran beside another."""
    dice = random.Random(20261125)
    starts = Barrier(clients)

    def one_client(task_id: int, calls: Sequence[Call]) -> list[Operation]:
        done = []
        starts.wait()
        for call in calls:
            began = time.monotonic()
            answer = asks(person, task_id, call)
            done.append(Operation(call, answered(answer), began, time.monotonic()))
        return done

    with ThreadPoolExecutor(clients) as threads:
        for number in range(HISTORIES):
            deletes = number % DELETED_EVERY == 0
            begun = person.has("As it began")
            calls = [calls_of(dice, client, deletes and client < 3) for client in range(clients)]
            done = threads.map(one_client, [begun["id"]] * clients, calls)
            history = [operation for own in done for operation in own]
            state = Task(begun["title"], begun["completed"], begun["version"])
            yield (
                is_linearizable(history, state, step),
                sum(runs_beside_another(one, history) for one in history),
            )


def runs_beside_another(one: Operation, history: list[Operation]) -> bool:
    return any(
        other is not one and other.began < one.ended and one.began < other.ended
        for other in history
    )


def test_every_history_of_six_callers_is_linearizable(ada: Person) -> None:
    found = list(histories(ada, ask))
    assert len(found) == HISTORIES
    assert min(beside for _, beside in found) >= 4 * CLIENTS  # they did run at once
    assert [legal for legal, _ in found] == [True] * HISTORIES


def test_toggling_by_read_and_write_is_not(ada: Person) -> None:
    assert not all(legal for legal, _ in histories(ada, ask_by_hand))
    assert all(
        legal for legal, _ in histories(ada, ask_by_hand, clients=1)
    )  # it is the others who break it
