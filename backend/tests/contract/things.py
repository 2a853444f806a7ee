"""What a person has, and what they are told, at the doors under /v1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx

from tests.contract.wire import number
from tests.people import Person

Meet = Callable[[str], Person]
Thing = dict[str, Any]

NOBODYS_ID = 2**62


def task(person: Person, id: Any) -> Thing:
    found: Thing = _data(person.request("GET", f"/v1/tasks/{id}"))
    return found


def list_of(person: Person, id: Any) -> Thing:
    found: Thing = _data(person.request("GET", f"/v1/lists/{id}"))
    return found


def change_task(person: Person, id: Any, **fields: Any) -> Thing:
    found: Thing = _data(person.request("PATCH", f"/v1/tasks/{id}", json=fields))
    return found


def change_list(person: Person, id: Any, **fields: Any) -> Thing:
    found: Thing = _data(person.request("PATCH", f"/v1/lists/{id}", json=fields))
    return found


def delete_task(person: Person, id: Any) -> None:
    _data(person.request("DELETE", f"/v1/tasks/{id}"))


def delete_list(person: Person, id: Any) -> None:
    _data(person.request("DELETE", f"/v1/lists/{id}"))


def restore_task(person: Person, id: Any) -> Thing:
    found: Thing = _data(person.request("POST", f"/v1/trash/tasks/{id}/restore"))
    return found


def restore_list(person: Person, id: Any) -> Thing:
    found: Thing = _data(person.request("POST", f"/v1/trash/lists/{id}/restore"))
    return found


def purge_task(person: Person, id: Any) -> None:
    _data(person.request("DELETE", f"/v1/trash/tasks/{id}"))


def purge_list(person: Person, id: Any) -> None:
    _data(person.request("DELETE", f"/v1/trash/lists/{id}"))


def in_trash(person: Person) -> list[Thing]:
    found: list[Thing] = person.request("GET", "/v1/trash?limit=500").json()["data"]
    return found


def latest(person: Person) -> int:
    """The number of the last change."""
    return number(person.request("HEAD", "/v1/lists").headers["etag"])


def log(person: Person) -> list[Thing]:
    found: list[Thing] = []
    while more := _data(person.request("GET", f"/v1/changes?limit=500&since={len(found)}")):
        found += more
    return found


def last_group(person: Person) -> list[Thing]:
    """The changes that were made together last."""
    since = max(latest(person) - 500, 0)
    changes = _data(person.request("GET", f"/v1/changes?limit=500&since={since}"))
    return [change for change in changes if change["group"] == changes[-1]["group"]]


def undo_last(person: Person) -> httpx.Response:
    """What was done last is to be undone, as a group."""
    return person.request("POST", "/v1/undo", json={"group": last_group(person)[0]["group"]})


def undo_change(person: Person, seq: int) -> httpx.Response:
    return person.request("POST", f"/v1/changes/{seq}/undo")


def is_there(person: Person, entity: str, id: Any) -> bool:
    return person.request("GET", f"/v1/{entity}s/{id}").status_code == 200


def problems(reply: httpx.Response) -> list[tuple[str, str]]:
    """Of a 400: the fields, each with its sentence."""
    assert (reply.status_code, reply.json()["code"]) == (400, "VALIDATION_ERROR"), reply.text
    assert reply.json()["error"] == reply.json()["errors"][0]["message"]
    return [(problem["field"], problem["message"]) for problem in reply.json()["errors"]]


def conflict(reply: httpx.Response) -> str:
    """Of a 409: its code."""
    assert reply.status_code == 409, reply.text
    code: str = reply.json()["code"]
    return code


def new_uid() -> str:
    return str(uuid4())


def _data(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()["data"]
