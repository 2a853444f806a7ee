"""`completed_at` says since when a task is completed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.wire import moment, read
from tests.people import Person


@pytest.mark.parametrize(
    ("method", "end", "complete", "undo"),
    [
        ("PATCH", "/complete", None, None),
        ("PATCH", "/complete", {"completed": True}, {"completed": False}),
        ("PATCH", "", {"completed": True}, {"completed": False}),
        ("PUT", "", {"completed": True, "title": "A"}, {"completed": False, "title": "B"}),
    ],
)
def test_completed_at_is_when_it_was_completed_and_null_while_it_is_not(
    ada: Person, method: str, end: str, complete: Any, undo: Any
) -> None:
    task = ada.has("Buy milk")
    one = f"/{task['id']}"
    assert task["completed_at"] is None
    for _ in range(2):
        completed = ada.request(method, ada.tasks + one + end, json=complete).json()["data"]
        assert completed["completed_at"] == completed["updated_at"]
        for later in (
            ada.put(task["id"], {"title": "B"}),
            ada.put(task["id"], {"completed": True}),
            ada.patch(f"{one}/complete", json={"completed": True}),
            ada.get(one),
        ):
            assert later.json()["data"]["completed_at"] == completed["completed_at"]
        assert moment(ada.get(one).json()["data"]["updated_at"]) > moment(completed["completed_at"])
        undone = ada.request(method, ada.tasks + one + end, json=undo).json()["data"]
        assert undone["completed_at"] is None
        assert ada.get(one).json()["data"] == undone


def test_the_list_shows_versions_uids_and_times_as_the_task_does(ada: Person) -> None:
    task = ada.has("Buy milk")
    completed = ada.patch(f"/{task['id']}/complete").json()["data"]
    for query in ("", "?filter=completed", "?limit=1"):
        assert json.loads(read(ada, query).body)["data"][0] == completed
