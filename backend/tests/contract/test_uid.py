"""A client may choose the `uid` of a task: what is sent again with it is not made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.contract.test_conditional import Meet, is_as_it_was
from tests.contract.wire import tag
from tests.people import Person


def test_a_task_has_a_uid_of_its_own_where_none_was_chosen(ada: Person) -> None:
    uids = [ada.has("Buy milk")["uid"] for _ in range(5)]
    assert len(set(uids)) == 5
    assert {str(UUID(uid)) for uid in uids} == set(uids)
    assert {UUID(uid).version for uid in uids} == {4}


@pytest.mark.parametrize("write_it", [str.lower, str.upper], ids=["small", "capital"])
def test_a_chosen_uid_is_the_tasks_and_stays_so(
    ada: Person, write_it: Callable[[str], str]
) -> None:
    uid = str(uuid4())
    created = ada.post({"title": "Buy milk", "uid": write_it(uid)})
    assert (created.status_code, created.json()["data"]["uid"]) == (201, uid)
    one = f"/{created.json()['data']['id']}"
    for reply in (
        ada.put(one[1:], {"uid": str(uuid4())}),
        ada.patch(f"{one}/complete"),
        ada.get(one),
    ):
        assert (reply.status_code, reply.json()["data"]["uid"]) == (200, uid)


def test_a_post_with_a_known_uid_is_200_with_the_task_as_it_now_is(ada: Person) -> None:
    uid = str(uuid4())
    created = ada.post({"title": "Buy milk", "uid": uid})
    now = ada.put(created.json()["data"]["id"], {"title": "Buy oat milk"}).json()["data"]
    count = len(ada.get().json()["data"])
    for sent in (uid, uid.upper()):
        again = ada.post({"title": "Buy milk", "uid": sent})
        assert (again.status_code, again.json()) == (
            200,
            {"data": now, "message": "Task already exists"},
        )
        assert (again.headers["etag"], again.headers["location"]) == (
            tag(now),
            created.headers["location"],
        )
    assert is_as_it_was(ada, now)
    assert len(ada.get().json()["data"]) == count


def test_a_uid_is_free_again_when_its_task_is_deleted_for_good(ada: Person) -> None:
    uid = str(uuid4())
    first = ada.post({"title": "Buy milk", "uid": uid}).json()["data"]
    ada.delete(first["id"])
    in_trash = ada.post({"title": "Buy milk", "uid": uid})
    assert (in_trash.status_code, in_trash.json()["code"]) == (409, "UID_IN_TRASH")
    ada.request("DELETE", f"/v1/trash/{first['id']}")
    second = ada.post({"title": "Buy milk", "uid": uid})
    assert (second.status_code, second.json()["data"]["uid"]) == (201, uid)
    assert second.json()["data"]["id"] != first["id"]


def test_two_users_may_choose_the_same_uid(ada: Person, bob: Person) -> None:
    uid = str(uuid4())
    hers, his = (person.post({"title": f"{person.id}'s", "uid": uid}) for person in (ada, bob))
    assert (hers.status_code, his.status_code) == (201, 201)
    assert hers.json()["data"]["uid"] == his.json()["data"]["uid"] == uid
    assert hers.json()["data"]["user_id"] == ada.id
    assert his.json()["data"]["user_id"] == bob.id


@pytest.mark.parametrize(
    "uid",
    [
        *(None, "", 7, True, [], {}, "abc", "3f0e4cf28a0c4b1f9d5e2f6b7a1c0d9e"),
        *(
            "{3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e}",
            "urn:uuid:3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e",
        ),
        *("3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9", "3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e0"),
        *(" 3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e", "3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e\n"),
        *(
            "3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9g",
            "3f0e-4cf28a0c-4b1f-9d5e-2f6b7a1c0d9e",
            "٣f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e",
        ),
    ],
    ids=repr,
)
def test_a_uid_is_a_canonical_uuid(ada: Person, uid: Any) -> None:
    reply = ada.post({"title": "Buy milk", "uid": uid})
    message = "Uid must be a UUID, such as 3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e"
    assert (reply.status_code, reply.json()["errors"]) == (
        400,
        [{"field": "uid", "message": message}],
    )


@pytest.mark.parametrize(
    "uid", [str(UUID(int=0)), str(UUID(int=2**128 - 1)), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"]
)
def test_a_uid_may_be_of_any_version(person: Meet, uid: str) -> None:
    assert person("dora").post({"title": "Buy milk", "uid": uid}).json()["data"]["uid"] == uid
