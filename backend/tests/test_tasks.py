"""The endpoints of the REST contract, used as a frontend uses them."""

from __future__ import annotations

from tests.contract.wire import tag
from tests.people import Person


def test_a_task_lives_its_life(ada: Person) -> None:
    created = ada.post({"title": " Buy milk ", "description": "Two litres"})
    assert created.status_code == 201
    assert created.json()["message"] == "Task created"
    task = created.json()["data"]
    plans = ["id", "user_id", "title", "description", "completed", "created_at", "updated_at"]
    later = ["list_id", "parent_id", "position", "priority", "labels", "start", "due"]
    assert list(task) == [*plans, "uid", "version", "completed_at", *later]
    assert (task["version"], task["completed_at"], created.headers["etag"]) == (1, None, tag(task))
    assert (task["title"], task["completed"], task["user_id"]) == ("Buy milk", False, ada.id)
    assert created.headers["location"] == f"{ada.tasks}/{task['id']}"

    toggled = ada.patch(f"/{task['id']}/complete").json()
    assert (toggled["message"], toggled["data"]["completed"]) == ("Task marked as completed", True)
    assert ada.get("", params={"filter": "pending"}).json()["data"] == []
    assert ada.get("", params={"status": "COMPLETED"}).json()["data"] == [toggled["data"]]

    updated = ada.put(task["id"], {"description": None}).json()
    assert (updated["message"], updated["data"]["description"]) == ("Task updated", None)
    assert updated["data"]["updated_at"] > toggled["data"]["updated_at"]
    assert [reply["data"]["version"] for reply in (toggled, updated)] == [2, 3]
    assert (
        updated["data"]["completed_at"]
        == toggled["data"]["completed_at"]
        == toggled["data"]["updated_at"]
    )

    deleted = ada.delete(task["id"])
    assert (deleted.status_code, deleted.json()) == (200, {"data": None, "message": "Task deleted"})
    assert ada.get(f"/{task['id']}").status_code == 404
