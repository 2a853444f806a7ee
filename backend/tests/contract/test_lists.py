"""model.md, section "Lists": what a list is made of, and what can be done to it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.conftest import sql
from tests.contract.test_task_shape import INVISIBLE, WHITE_SPACE
from tests.contract.things import (
    NOBODYS_ID,
    Meet,
    Thing,
    change_list,
    conflict,
    delete_list,
    latest,
    list_of,
    log,
    new_uid,
    problems,
    restore_list,
    undo_change,
    undo_last,
)
from tests.contract.wire import ask, moment, number
from tests.people import Person
from web.fields import entity_tag

LISTS = "/v1/lists"
KEYS = ["id", "uid", "version", "name", "color", "position", "created_at", "updated_at"]
POSITION = 'Position must be a key, "first", "last", or {"before": id} or {"after": id}'
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def create(person: Person, body: Any, **headers: str) -> Any:
    return person.request("POST", LISTS, json=body, headers=headers)


def change(person: Person, id: Any, body: Any, **headers: str) -> Any:
    return person.request("PATCH", f"{LISTS}/{id}", json=body, headers=headers)


def all_lists(person: Person) -> list[Thing]:
    found: list[Thing] = person.request("GET", LISTS).json()["data"]
    return found


def names(person: Person) -> list[str]:
    return [one["name"] for one in all_lists(person)]


# --- what a list is ---


def test_every_answer_with_a_list_has_the_same_keys_in_order(ada: Person) -> None:
    made = create(ada, {"name": "Work"}).json()["data"]
    id = made["id"]
    answers = [made, list_of(ada, id), change_list(ada, id, name="Job"), all_lists(ada)[-1]]
    delete_list(ada, id)
    answers.append(restore_list(ada, id))
    for shown in answers:
        assert list(shown) == KEYS
        assert [type(shown[name]) for name in ("id", "version")] == [int, int]
        assert UUID.fullmatch(shown["uid"])


def test_what_is_not_sent_has_a_default(person: Meet) -> None:
    dora = person("dora")
    shown = dora.has_list("Work")
    assert (shown["color"], shown["position"], shown["version"]) == (None, "a1", 1)
    assert shown["created_at"] == shown["updated_at"]


def test_unknown_fields_are_ignored_and_what_the_server_keeps_cannot_be_set(ada: Person) -> None:
    other = ada.has_list("Other")
    kept = {"id": other["id"], "version": 99, "created_at": "2020-01-01", "user_id": "bob"}
    made = ada.has_list("Work", **kept, deleted_at="2020-01-01T00:00:00Z", what=1)
    changed = change(ada, made["id"], {**kept, "uid": new_uid()}).json()["data"]
    assert changed == {**made, **of(changed, "version", "updated_at")}
    assert made["id"] != other["id"]
    assert made["version"] == other["version"] + 1


def of(shown: Thing, *names: str) -> Thing:
    return {name: shown[name] for name in names}


NAMES: dict[str, tuple[Any, str]] = {  # what is sent, and what is kept
    "plain": ("Work", "Work"),
    "one character": ("W", "W"),
    "100 characters": ("W" * 100, "W" * 100),
    "100 emoji": ("\U0001f600" * 100, "\U0001f600" * 100),
    "stripped": (" \t\u3000Work at home\u2028\n", "Work at home"),
    "stripped to 100": (" " * 300 + "W" * 100 + " " * 300, "W" * 100),
    "invisible ones beside another": ("\u200bW", "\u200bW"),
}


@pytest.mark.parametrize(("sent", "kept"), NAMES.values(), ids=NAMES)
def test_a_name_is_kept_without_white_space_around_it(sent: Any, kept: str, ada: Person) -> None:
    assert create(ada, {"name": sent}).json()["data"]["name"] == kept
    assert change_list(ada, ada.has_list("Other")["id"], name=sent)["name"] == kept


REQUIRED = "Name is required"
TOO_LONG = "Name must be between 1 and 100 characters"
NOT_STORED = "Name must not contain U+0000 or unpaired surrogates"
WRONG_NAMES: dict[str, tuple[Any, str]] = {
    "null": (None, REQUIRED),
    "empty": ("", REQUIRED),
    "white space": ("".join(WHITE_SPACE), REQUIRED),
    "only invisible": ("".join(INVISIBLE[:50]), REQUIRED),
    "101 characters": ("W" * 101, TOO_LONG),
    "101 emoji": ("\U0001f600" * 101, TOO_LONG),
    "a number": (7, "Name must be a string"),
    "a list": (["Work"], "Name must be a string"),
    "true": (True, "Name must be a string"),
    "NUL": ("a\0b", NOT_STORED),
}


@pytest.mark.parametrize(("sent", "sentence"), WRONG_NAMES.values(), ids=WRONG_NAMES)
def test_a_wrong_name_is_refused_with_a_sentence(sent: Any, sentence: str, ada: Person) -> None:
    found = ada.has_list("Work")
    assert problems(create(ada, {"name": sent})) == [("name", sentence)]
    assert problems(change(ada, found["id"], {"name": sent})) == [("name", sentence)]
    assert list_of(ada, found["id"]) == found


def test_a_creation_needs_a_name_and_a_change_does_not(ada: Person) -> None:
    assert problems(create(ada, {"color": None})) == [("name", REQUIRED)]
    assert change_list(ada, ada.has_list("Work")["id"])["name"] == "Work"


@pytest.mark.parametrize("color", ["#2f6fed", "#000000", "#AbCdEf", None])
def test_a_color_is_kept_as_it_is_sent(color: Any, ada: Person) -> None:
    made = ada.has_list("Work", color=color)
    assert made["color"] == color
    change_list(ada, made["id"], color="#ffffff")
    assert change_list(ada, made["id"], color=color)["color"] == color


@pytest.mark.parametrize(
    "color", ["", "red", "2f6fed", "#2f6", "#2f6fedff", "#2f6feg", "#2f6fed\n", " #2f6fed", 7, []]
)
def test_another_color_is_refused(color: Any, ada: Person) -> None:
    found = ada.has_list("Work")
    wrong = [("color", "Color must be #rrggbb or null")]
    assert problems(create(ada, {"name": "Work", "color": color})) == wrong
    assert problems(change(ada, found["id"], {"color": color})) == wrong
    assert list_of(ada, found["id"]) == found


def test_all_that_is_wrong_is_said_at_once(ada: Person) -> None:
    said = problems(create(ada, {"name": "", "color": "red", "position": 5, "uid": "x"}))
    assert {field for field, _ in said} == {"name", "color", "position", "uid"}


@pytest.mark.parametrize("uid", ["", "x", "3f0e4cf28a0c4b1f9d5e2f6b7a1c0d9e", 7, None])
def test_a_uid_must_be_a_uuid(uid: Any, ada: Person) -> None:
    sentence = "Uid must be a UUID, such as 3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e"
    assert problems(create(ada, {"name": "Work", "uid": uid})) == [("uid", sentence)]


# --- their order ---


def test_lists_come_by_position_by_code_point_and_then_by_id(person: Meet) -> None:
    dora = person("dora")
    for name, key in [("5", "b00"), ("1", "Zz"), ("3", "aV"), ("4", "az"), ("2", "a0")]:
        dora.has_list(name, position=key)
    dora.has_list("tied", position="aV")
    assert names(dora) == ["1", "2", "3", "tied", "4", "5"]


def test_what_is_created_later_stands_later(person: Meet) -> None:
    dora = person("dora")
    for place in range(12):
        dora.has_list(f"{place}")
    assert names(dora) == [f"{place}" for place in range(12)]


@pytest.mark.parametrize("named", ["id", "uid"])
@pytest.mark.parametrize("creating", [True, False], ids=["at creation", "later"])
def test_a_list_goes_where_it_is_told(creating: bool, named: str, person: Meet) -> None:
    dora = person("dora")
    a, b, c = (dora.has_list(name) for name in "abc")
    places: dict[str, tuple[Any, str]] = {
        "first": ("first", "xabc"),
        "last": ("last", "abcx"),
        "before": ({"before": b[named]}, "axbc"),
        "after": ({"after": b[named]}, "abxc"),
        "before the first": ({"before": a[named]}, "xabc"),
        "after the last": ({"after": c[named]}, "abcx"),
    }
    for place, order in places.values():
        x = dora.has_list("x", **({"position": place} if creating else {}))
        if not creating:
            change_list(dora, x["id"], position=place)
        assert "".join(names(dora)) == order
        delete_list(dora, x["id"])


@pytest.mark.parametrize(
    "position",
    [*("", "5", "b0", "a00", "a-", "First", "a" + "1" * 128, None, 5, True, [], {}),
     *({"before": None}, {"before": "x"}, {"before": 1, "after": 1}, {"above": 1}, {"before": 1.5})],
    ids=str,
)  # fmt: skip
def test_another_position_is_refused(position: Any, ada: Person) -> None:
    found = ada.has_list("Work")
    assert problems(create(ada, {"name": "x", "position": position})) == [("position", POSITION)]
    assert problems(change(ada, found["id"], {"position": position})) == [("position", POSITION)]
    assert list_of(ada, found["id"]) == found


def test_a_position_names_another_list_that_is_there(ada: Person, bob: Person) -> None:
    found, gone, task = ada.has_list("Work"), ada.has_list("Gone"), ada.has_task("Task")
    delete_list(ada, gone["id"])
    others = [gone["id"], gone["uid"], bob.has_list("Bob's")["id"], NOBODYS_ID, new_uid()]
    for other in [*others, task["id"], 0, found["id"], found["uid"]]:
        reply = change(ada, found["id"], {"position": {"before": other}})
        assert problems(reply) == [("position", "Position must name another list")]
    for other in others:
        reply = create(ada, {"name": "x", "position": {"after": other}})
        assert problems(reply) == [("position", "Position must name another list")]
    assert list_of(ada, found["id"]) == found


# --- making one ---


def test_a_creation_says_where_the_list_is(ada: Person) -> None:
    reply = create(ada, {"name": "Work", "color": "#2f6fed"})
    assert (reply.status_code, reply.json()["message"]) == (201, "List created")
    made = reply.json()["data"]
    assert reply.headers["location"] == f"/v1/lists/{made['id']}"
    read = ada.request("GET", reply.headers["location"])
    assert (read.json()["message"], read.json()["data"]) == ("List retrieved", made)
    assert reply.headers["etag"] == read.headers["etag"]
    assert number(reply.headers["etag"]) == made["version"]


def test_a_known_uid_creates_nothing(ada: Person) -> None:
    made = ada.has_list("Work", uid=new_uid())
    before = latest(ada)
    for uid in (made["uid"], made["uid"].upper()):
        reply = create(ada, {"name": "Other", "uid": uid, "position": "first"})
        assert (reply.status_code, reply.json()["data"]) == (200, made)
        assert reply.headers["location"] == f"/v1/lists/{made['id']}"
    assert latest(ada) == before


def test_a_uid_of_a_list_in_the_trash_is_a_conflict(ada: Person) -> None:
    made = ada.has_list("Work")
    delete_list(ada, made["id"])
    reply = create(ada, {"name": "Other", "uid": made["uid"]})
    assert conflict(reply) == "UID_IN_TRASH"
    sentence = "The list with this uid is in the trash; restore that list, or choose another uid"
    assert reply.json()["error"] == sentence


def test_a_uid_of_anothers_list_or_of_a_task_is_free(ada: Person, bob: Person) -> None:
    for uid in (bob.has_list("Bob's")["uid"], ada.has_task("Task")["uid"]):
        assert ada.has_list("Mine", uid=uid)["uid"] == uid


# --- at most 500 ---

FILL = "INSERT INTO lists (user_id, version, name) SELECT $1, 1, 'List' FROM generate_series(1, $2::integer)"


def test_at_most_500_living_lists_and_what_would_be_one_more_is_a_conflict(
    person: Meet, database_url: str
) -> None:
    dora = person("dora")
    first, thrown = dora.has_list("First"), dora.has_list("Thrown")
    delete_list(dora, thrown["id"])
    thrown_at = latest(dora)
    sql(database_url, FILL, dora.id, 499)
    assert len(all_lists(dora)) == 500
    before = latest(dora)
    again = [
        create(dora, {"name": "One more"}),
        create(dora, {"name": "One more", "uid": new_uid()}),
        dora.request("POST", f"/v1/trash/lists/{thrown['id']}/restore"),
        undo_change(dora, thrown_at),
        undo_last(dora),
    ]
    for reply in again:
        assert conflict(reply) == "LIMIT_REACHED"
        assert reply.json()["error"] == "There can be at most 500 lists; delete one first"
    assert latest(dora) == before
    assert create(dora, {"name": "Known", "uid": first["uid"]}).status_code == 200
    assert change_list(dora, first["id"], name="Renamed", position="last")["name"] == "Renamed"
    assert conflict(create(dora, {"name": "x", "uid": thrown["uid"]})) == "UID_IN_TRASH"
    delete_list(dora, first["id"])
    assert restore_list(dora, thrown["id"])["name"] == "Thrown"
    assert len(all_lists(dora)) == 500


# --- one list: by id or uid, its tag, its key ---


@pytest.mark.parametrize("named", ["id", "uid", "UID"])
def test_a_list_is_named_by_its_id_or_by_its_uid_in_any_case(named: str, ada: Person) -> None:
    made = ada.has_list("Work")
    name = made["uid"].upper() if named == "UID" else made[named]
    assert list_of(ada, name) == made
    assert change_list(ada, name, name="Job")["id"] == made["id"]
    delete_list(ada, name)
    assert restore_list(ada, name)["id"] == made["id"]
    delete_list(ada, name)
    assert ada.request("DELETE", f"/v1/trash/lists/{name}").status_code == 200
    assert ada.request("GET", f"{LISTS}/{made['id']}").status_code == 404


def test_messages_say_what_was_done(ada: Person) -> None:
    url = f"{LISTS}/{ada.has_list('Work')['id']}"
    trash = url.replace(LISTS, "/v1/trash/lists")
    requests: list[tuple[str, str, Any]] = [
        ("GET", LISTS, None),
        ("GET", url, None),
        ("PATCH", url, {}),
        ("DELETE", url, None),
        ("POST", f"{trash}/restore", None),
        ("DELETE", url, None),
        ("DELETE", trash, None),
    ]
    said = [
        ada.request(method, path, json=body).json()["message"] for method, path, body in requests
    ]
    assert said == [
        *("Lists retrieved", "List retrieved", "List updated", "List deleted", "List restored"),
        *("List deleted", "List deleted for good"),
    ]


EACH: list[tuple[str, str, Any]] = [
    ("GET", "/v1/lists/{}", None),
    ("HEAD", "/v1/lists/{}", None),
    ("PATCH", "/v1/lists/{}", {"name": "New"}),
    ("PATCH", "/v1/lists/{}", {"position": "first"}),
    ("PATCH", "/v1/lists/{}", {"position": {"before": NOBODYS_ID}}),
    ("DELETE", "/v1/lists/{}", None),
    ("POST", "/v1/trash/lists/{}/restore", None),
    ("DELETE", "/v1/trash/lists/{}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), EACH, ids=str)
def test_anothers_list_looks_like_one_that_is_nowhere(
    method: str, path: str, body: Any, ada: Person, bob: Person
) -> None:
    living, gone = bob.has_list("Bob's"), bob.has_list("Bob's, in the trash")
    delete_list(bob, gone["id"])
    names = [NOBODYS_ID, new_uid(), living["id"], living["uid"], gone["id"], gone["uid"], 0]
    names += [ada.has_task("A task")["id"], ada.has_task("A task")["uid"], 2**63, -1]
    if "trash" in path:
        names.append(ada.has_list("Not in the trash")["id"])
    else:
        own = ada.has_list("In the trash")
        delete_list(ada, own["id"])
        names += [own["id"], own["uid"]]
    headers = {"X-Request-Id": "same"}
    replies = [ada.request(method, path.format(name), json=body, headers=headers) for name in names]
    for reply in replies:
        reply.headers.pop("date")
        assert (reply.status_code, reply.headers) == (404, replies[0].headers)
        assert reply.content == replies[0].content
    if method != "HEAD":
        assert (replies[0].json()["code"], replies[0].json()["error"]) == (
            "NOT_FOUND",
            "List not found",
        )
    assert list_of(bob, living["id"]) == living


@pytest.mark.parametrize("name", ["01", "abc", "1.0", "3f0e4cf28a0c4b1f9d5e2f6b7a1c0d9e", "%20"])
def test_what_is_neither_an_id_nor_a_uid_is_400(name: str, ada: Person) -> None:
    for method, path in {(method, path) for method, path, _ in EACH if method != "HEAD"}:
        said = problems(ada.request(method, path.format(name), json={}))
        assert said == [("list_id", "List id must be an integer or a uid")]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (LISTS, {"GET", "HEAD", "POST"}),
        (f"{LISTS}/7", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("/v1/trash/lists/7", {"DELETE"}),
        ("/v1/trash/lists/7/restore", {"POST"}),
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


WRITES: list[tuple[str, str, Any]] = [
    ("PATCH", "/v1/lists/{}", {"name": "New"}),
    ("PATCH", "/v1/lists/{}", {}),
    ("PATCH", "/v1/lists/{}", {"position": "first"}),
    ("DELETE", "/v1/lists/{}", None),
    ("POST", "/v1/trash/lists/{}/restore", None),
    ("DELETE", "/v1/trash/lists/{}", None),
]
each_write = pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=str)
with_tasks = pytest.mark.parametrize("full", [False, True], ids=["empty", "with tasks"])


def prepared(person: Person, path: str, full: bool) -> Thing:
    """A list, in the trash if the path is; its version is the first of what If-Match may name."""
    made = person.has_list("Work")
    if full:
        person.has_task("Below", parent_id=person.has_task("In it", list_id=made["id"])["id"])
    if "trash" not in path:
        return made
    delete_list(person, made["id"])
    [shown] = [
        one
        for one in person.request("GET", "/v1/trash?limit=500").json()["data"]
        if one["id"] == made["id"] and one["entity"] == "list"
    ]
    return {name: shown[name] for name in KEYS}


@with_tasks
@each_write
def test_a_write_with_an_older_tag_is_412_with_the_list_as_it_is(
    method: str, path: str, body: Any, full: bool, ada: Person
) -> None:
    found = prepared(ada, path, full)
    before = latest(ada)
    for older in (f'"{found["version"] - 1}"', '"0"', 'W/"1"'):
        reply = ada.request(
            method, path.format(found["id"]), json=body, headers={"If-Match": older}
        )
        assert (reply.status_code, reply.json()["code"]) == (412, "PRECONDITION_FAILED")
        assert reply.json()["data"] == found
        assert reply.json()["error"] == (
            f"The list has changed since (version {found['version']} now). Review it and try again"
        )
    assert latest(ada) == before


@with_tasks
@each_write
@pytest.mark.parametrize("named", ["*", "the number", "the tag"])
def test_a_write_with_the_tag_of_the_list_as_it_is_passes(
    named: str, method: str, path: str, body: Any, full: bool, ada: Person
) -> None:
    found = prepared(ada, path, full)
    updated_at = moment(found["updated_at"])
    tags = {
        "*": "*",
        "the number": f'"{found["version"]}"',
        "the tag": entity_tag(ada.id, found["version"], updated_at).decode(),
    }
    tag = tags[named]
    reply = ada.request(method, path.format(found["id"]), json=body, headers={"If-Match": tag})
    assert reply.status_code == 200, reply.text


def test_every_answer_with_one_list_has_its_version_as_a_strong_etag(ada: Person) -> None:
    created = create(ada, {"name": "Work"})
    url = created.headers["location"]
    replies = [created, ada.request("GET", url), ada.request("PATCH", url, json={})]
    ada.request("DELETE", url)
    replies.append(ada.request("POST", f"/v1/trash{url.removeprefix('/v1')}/restore"))
    for reply in replies:
        assert number(reply.headers["etag"]) == reply.json()["data"]["version"]
    assert len({reply.headers["etag"] for reply in replies}) == 3


def test_a_list_and_all_lists_that_one_has_are_304(ada: Person) -> None:
    made = ada.has_list("Work")
    for url in (LISTS, f"{LISTS}/{made['id']}"):
        etag = ada.request("GET", url).headers["etag"]
        for known in (etag, f"W/{etag}", "*", f'"1", {etag}'):
            reply = ada.request("GET", url, headers={"If-None-Match": known})
            assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", etag)
        change_list(ada, made["id"])
        reply = ada.request("GET", url, headers={"If-None-Match": etag})
        assert reply.status_code == 200
        assert reply.headers["etag"] != etag


def test_the_tag_of_all_lists_is_that_of_all_tasks(person: Meet) -> None:
    dora = person("dora")
    for make in (dora.has_list, dora.has_task):
        make("Something")
        tags = {dora.request("GET", url).headers["etag"] for url in (LISTS, dora.tasks)}
        assert len(tags) == 1


def test_a_creation_can_be_guarded_by_the_users_last_change(person: Meet) -> None:
    dora = person("dora")
    dora.has_list("First")
    etag = dora.request("GET", LISTS).headers["etag"]
    dora.has_task("Meanwhile")
    refused = create(dora, {"name": "Second"}, **{"If-Match": etag})
    assert (refused.status_code, refused.json()["data"]) == (412, None)
    assert names(dora) == ["First"]
    etag = dora.request("GET", LISTS).headers["etag"]
    assert create(dora, {"name": "Second"}, **{"If-Match": etag}).status_code == 201


def test_head_answers_as_get_without_a_body(ada: Person) -> None:
    made = ada.has_list("Work")
    for target in (LISTS, f"{LISTS}/{made['id']}", f"{LISTS}/{made['uid']}", f"{LISTS}/0"):
        got, head = (
            ask(ada, method, target, None, {"X-Request-Id": "same"}) for method in ("GET", "HEAD")
        )
        for reply in (got, head):
            reply.headers.pop("date")
        assert head == got._replace(body=b"")


@pytest.mark.parametrize(("method", "path", "body"), [("POST", LISTS, {"name": "New"}), *WRITES])
def test_a_write_with_a_key_is_done_once(method: str, path: str, body: Any, ada: Person) -> None:
    url = path.format(prepared(ada, path, full=True)["id"])
    headers = {"Idempotency-Key": new_uid()}
    first = ada.request(method, url, json=body, headers=headers)
    before = latest(ada)
    again = ada.request(method, url, json=body, headers=headers)
    assert first.status_code in (200, 201)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers.get("etag") == first.headers.get("etag")
    assert again.headers.get("location") == first.headers.get("location")
    assert latest(ada) == before


@pytest.mark.parametrize(("method", "path"), [("POST", LISTS), ("PATCH", "/v1/lists/{}")])
def test_a_key_is_of_one_request(method: str, path: str, ada: Person) -> None:
    url = path.format(ada.has_list("Work")["id"])
    headers = {"Idempotency-Key": new_uid()}
    ada.request(method, url, json={"name": "New"}, headers=headers)
    other = ada.request(method, url, json={"name": "Another"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize("path", [LISTS, f"{LISTS}/7", "/v1/trash/lists/7"])
def test_nobody_learns_anything_but_401(path: str, ada: Person) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE"):
        reply = ask(str(ada.client.base_url), method, path)
        assert reply.status in (401, 405)


# --- in the log ---


def test_what_is_done_to_a_list_is_in_the_log(person: Meet) -> None:
    dora = person("dora")
    made = dora.has_list("Work", color="#2f6fed")
    change_list(dora, made["id"], name="Job", color=None)
    change_list(dora, made["id"], position="Zz")
    change_list(dora, made["id"])
    delete_list(dora, made["id"])
    restore_list(dora, made["id"])
    changes = log(dora)
    assert [change["seq"] for change in changes] == [1, 2, 3, 4, 5, 6]
    assert {(change["entity"], change["entity_id"]) for change in changes} == {("list", made["id"])}
    at = changes[4]["at"]
    assert [(change["op"], change["fields"]) for change in changes] == [
        (
            "create",
            {
                "uid": [None, made["uid"]],
                "name": [None, "Work"],
                "color": [None, "#2f6fed"],
                "position": [None, "a1"],
            },
        ),
        ("update", {"name": ["Work", "Job"], "color": ["#2f6fed", None]}),
        ("update", {"position": ["a1", "Zz"]}),
        ("update", {}),
        ("delete", {"deleted_at": [None, at]}),
        ("restore", {"deleted_at": [at, None]}),
    ]
    delete_list(dora, made["id"])
    assert dora.request("DELETE", f"/v1/trash/lists/{made['id']}").status_code == 200
    assert [change["fields"] for change in log(dora)] == [{}] * 8
    assert log(dora)[-1]["op"] == "purge"
