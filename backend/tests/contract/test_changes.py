"""docs/undo.md, sections "Activity" and "Undo": what happened is told in order, and how it is taken
back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests import servers
from tests.contract.wire import JSON, ORIGIN, Reply, ask, moment
from tests.people import Person

Meet = Callable[[str], Person]

CHANGES = "/v1/changes"
LARGEST = 2**63 - 1
KEYS = ["seq", "at", "actor", "group", "entity", "entity_id", "op", "fields"]
RFC_3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
SINCE_TEXT = "Since must be an integer from 0 on"
LIMIT_TEXT = "Limit must be an integer from 1 to 500"
A_UUID = "3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e"
GROUP_TEXT = f"Group must be a UUID, such as {A_UUID}"
SEVERAL = 103


@pytest.fixture(scope="module")
def carol(server: servers.Running) -> Iterator[Person]:
    """She has made SEVERAL changes of one task, and makes no more."""
    person = Person(server.url, "carol")
    task = person.has("Task 1")
    for number in range(2, SEVERAL + 1):
        person.put(task["id"], {"title": f"Task {number}"})
    yield person
    person.client.close()


def told(person: Person, query: str = "") -> Reply:
    return ask(person, "GET", f"{CHANGES}?{query}")


def changes(person: Person, since: int = 0) -> list[Any]:
    found: list[Any] = told(person, f"since={since}&limit=500").data
    return found


def undo(person: Person, seq: Any, headers: dict[str, str] | None = None) -> Reply:
    return ask(person, "POST", f"{CHANGES}/{seq}/undo", None, headers)


def undo_group(person: Person, group: Any, headers: dict[str, str] | None = None) -> Reply:
    return ask(
        person,
        "POST",
        "/v1/undo",
        json.dumps({"group": group}).encode(),
        {**JSON, **(headers or {})},
    )


def refused(reply: Reply, field: str, text: str) -> bool:
    problems = [{"field": field, "message": text}]
    return (reply.status, reply.json()["code"], reply.json().get("errors")) == (
        400,
        "VALIDATION_ERROR",
        problems,
    )


# --- what is told ---


def test_nobody_in_particular_has_no_changes_yet(person: Meet) -> None:
    reply = ask(person("dora"), "GET", CHANGES)
    assert (reply.status, reply.json()) == (
        200,
        {"data": [], "message": "Changes retrieved", "next_since": 0},
    )
    assert list(reply.json()) == ["data", "message", "next_since"]


def test_every_change_says_who_when_what_and_what_it_was(person: Meet) -> None:
    dora = person("dora")
    task = dora.has("Buy milk", "Two litres")
    dora.put(task["id"], {"title": "Buy oat milk", "description": None, "completed": False})
    made = changes(dora)
    assert [list(change) for change in made] == [KEYS] * 2
    assert [change["seq"] for change in made] == [1, 2]
    for change in made:
        assert change["actor"] == {"kind": "user", "id": dora.id}
        assert list(change["actor"]) == ["kind", "id"]
        assert (change["entity"], change["entity_id"]) == ("task", task["id"])
        assert RFC_3339_UTC.fullmatch(change["at"])
        assert str(UUID(change["group"])) == change["group"]
    assert made[0]["group"] != made[1]["group"]
    assert made[0]["at"] == task["created_at"]
    assert moment(made[1]["at"]) > moment(made[0]["at"])
    assert [change["op"] for change in made] == ["create", "update"]
    assert made[0]["fields"] == {
        "uid": [None, task["uid"]],
        "title": [None, "Buy milk"],
        "description": [None, "Two litres"],
        "completed": [None, False],
        "position": [None, task["position"]],
    }
    assert made[1]["fields"] == {
        "title": ["Buy milk", "Buy oat milk"],
        "description": ["Two litres", None],
    }


def test_every_operation_is_told_as_what_it_is(person: Meet) -> None:
    dora = person("dora")
    task = dora.has("Buy milk")
    one, in_trash = f"/{task['id']}", f"/v1/trash/{task['id']}"
    done = dora.patch(f"{one}/complete").json()["data"]["completed_at"]
    dora.patch(f"{one}/complete", json={"completed": True})  # changes nothing, so it is none
    dora.patch(f"{one}/complete")
    dora.put(task["id"], {})
    dora.delete(task["id"])
    [deleted] = ask(dora, "GET", "/v1/trash").data
    dora.request("POST", f"{in_trash}/restore")
    dora.delete(task["id"])
    told_before = changes(dora)
    assert [(change["op"], change["fields"]) for change in told_before[1:-1]] == [
        ("update", {"completed": [False, True], "completed_at": [None, done]}),
        ("update", {"completed": [True, False], "completed_at": [done, None]}),
        ("update", {}),
        ("delete", {"deleted_at": [None, deleted["deleted_at"]]}),
        ("restore", {"deleted_at": [deleted["deleted_at"], None]}),
    ]
    assert told_before[-1]["op"] == "delete"
    dora.request("DELETE", in_trash)
    after = changes(dora)
    assert after[:-1] == [{**change, "fields": {}} for change in told_before]
    assert (after[-1]["op"], after[-1]["fields"], after[-1]["entity_id"]) == (
        "purge",
        {},
        task["id"],
    )
    assert [change["seq"] for change in after] == list(range(1, 9))
    assert len({change["group"] for change in after}) == 8


def test_who_asks_again_with_next_since_is_told_everything_once(carol: Person) -> None:
    whole = changes(carol)
    assert [change["seq"] for change in whole] == list(range(1, SEVERAL + 1))
    for limit in (1, 50, SEVERAL, 500):
        got: list[Any] = []
        while True:
            page = told(carol, f"since={len(got)}&limit={limit}").json()
            assert page["next_since"] == len(got) + len(page["data"])
            if not page["data"]:
                break
            got += page["data"]
            assert len(page["data"]) == limit or len(got) == SEVERAL
        assert got == whole


def test_without_since_and_limit_the_first_100_come(carol: Person) -> None:
    page = ask(carol, "GET", CHANGES).json()
    assert (page["data"], page["next_since"]) == (changes(carol)[:100], 100)


def test_where_nothing_is_new_next_since_is_what_was_asked(carol: Person) -> None:
    assert told(carol, f"since={SEVERAL}").json() == {
        "data": [],
        "message": "Changes retrieved",
        "next_since": SEVERAL,
    }


@pytest.mark.parametrize("since", [SEVERAL + 1, LARGEST])
def test_what_is_beyond_the_last_change_is_no_place_to_go_on_from(
    carol: Person, since: int
) -> None:
    reply = told(carol, f"since={since}")
    assert (reply.status, reply.json()["code"]) == (410, "CURSOR_EXPIRED")


@pytest.mark.parametrize(
    "since",
    [
        "",
        "-1",
        "01",
        "00",
        "1.0",
        "+1",
        "1e2",
        "abc",
        "null",
        "%201",
        "%D9%A1",
        str(2**63),
        "1&since=1",
    ],
)
def test_since_is_an_integer_from_0_on(carol: Person, since: str) -> None:
    assert refused(told(carol, f"since={since}"), "since", SINCE_TEXT)


@pytest.mark.parametrize(
    "limit", ["", "0", "-1", "501", "01", "1.0", "abc", "%201", "1&limit=1", "9" * 30]
)
def test_a_limit_is_an_integer_from_1_to_500(carol: Person, limit: str) -> None:
    assert refused(told(carol, f"limit={limit}"), "limit", LIMIT_TEXT)


def test_every_wrong_parameter_is_named_and_unknown_ones_are_ignored(carol: Person) -> None:
    errors = told(carol, "limit=0&since=x").json()["errors"]
    assert [problem["field"] for problem in errors] == ["since", "limit"]
    assert told(carol, "before=1&filter=x&since=100").data == changes(carol)[100:]


# --- taken back ---


def test_an_undone_change_is_answered_with_the_change_that_took_it_back(person: Meet) -> None:
    dora = person("dora")
    task = dora.has("Buy milk")
    dora.put(task["id"], {"title": "Buy oat milk"})
    reply = undo(dora, 2)
    assert (reply.status, list(reply.json()), reply.json()["message"]) == (
        200,
        ["data", "message"],
        "Change undone",
    )
    assert reply.data == changes(dora, 2)
    [made] = reply.data
    assert list(made) == KEYS
    assert (made["seq"], made["op"], made["fields"]) == (
        3,
        "update",
        {"title": ["Buy oat milk", "Buy milk"]},
    )
    assert (made["actor"], made["entity_id"]) == ({"kind": "user", "id": dora.id}, task["id"])
    assert "etag" not in reply.headers
    shown = dora.get(f"/{task['id']}").json()["data"]
    assert shown == {**task, "version": 3, "updated_at": made["at"]}
    again = undo(dora, 2)
    assert (again.status, again.json()) == (200, {"data": [], "message": "Change undone"})
    assert len(changes(dora)) == 3


def test_an_undone_group_is_answered_with_the_changes_that_took_it_back(person: Meet) -> None:
    dora = person("dora")
    dora.has("Buy milk")
    [created] = changes(dora)
    for spelled in (created["group"], created["group"].upper()):
        reply = undo_group(dora, spelled)
        assert (reply.status, reply.json()["message"]) == (200, "Changes undone")
        assert reply.data == (changes(dora, 1) if spelled == created["group"] else [])
    assert [change["op"] for change in changes(dora)] == ["create", "delete"]


def test_a_change_that_is_not_this_users_is_not_found(person: Meet) -> None:
    dora, ella = person("dora"), person("ella")
    ella.has("Ella's own")
    ella.has("Another of Ella's")
    dora.has("Hers")
    absent = [undo(dora, seq, {"X-Request-Id": "same"}) for seq in (LARGEST, 2, 0, -1, 2**70)]
    for reply in absent:
        assert (reply.status, reply.json()["code"], reply.error) == (
            404,
            "NOT_FOUND",
            "Change not found",
        )
        assert reply.body == absent[0].body
    for group in (str(uuid4()), changes(ella)[0]["group"]):
        reply = undo_group(dora, group)
        assert (reply.status, reply.json()["code"], reply.error) == (
            404,
            "NOT_FOUND",
            "Group not found",
        )
    assert (len(changes(dora)), len(changes(ella))) == (1, 2)


@pytest.mark.parametrize("seq", ["01", "abc", "1.0", "+1", "-0", "%201", "%D9%A1"])
def test_the_number_of_a_change_is_a_canonical_integer(ada: Person, seq: str) -> None:
    assert refused(undo(ada, seq), "seq", "Seq must be an integer")


@pytest.mark.parametrize(
    "group",
    [
        None,
        "",
        "abc",
        7,
        True,
        [],
        {},
        A_UUID.replace("-", ""),
        f"{{{A_UUID}}}",
        f" {A_UUID}",
        A_UUID[:-1],
    ],
)
def test_a_group_is_a_uuid(ada: Person, group: Any) -> None:
    assert refused(undo_group(ada, group), "group", GROUP_TEXT)


def test_a_group_must_be_said_in_a_json_object(ada: Person) -> None:
    assert refused(ask(ada, "POST", "/v1/undo", b"{}", JSON), "group", "Group is required")
    assert refused(ask(ada, "POST", "/v1/undo", b'{"seq":1}', JSON), "group", "Group is required")
    for body in (b"", b"{", b"[]"):
        reply = ask(ada, "POST", "/v1/undo", body, JSON)
        assert (reply.status, reply.json()["errors"][0]["field"]) == (400, "body"), body
    assert ask(ada, "POST", "/v1/undo", b"{}", {"Content-Type": "text/plain"}).status == 415


def test_a_conflict_names_the_fields_and_nothing_is_done(person: Meet) -> None:
    dora = person("dora")
    task = dora.has("Buy milk", "Two litres")
    dora.put(task["id"], {"title": "Buy oat milk", "description": "One litre"})
    newer = dora.put(task["id"], {"title": "Buy soy milk", "description": "Three litres"}).json()[
        "data"
    ]
    made = changes(dora)
    for reply in (undo(dora, 2), undo(dora, 1), undo_group(dora, made[1]["group"])):
        body = reply.json()
        assert (reply.status, list(body), body["code"]) == (
            409,
            ["error", "code", "detail", "message", "errors"],
            "UNDO_CONFLICT",
        )
        assert body["errors"] == [
            {"field": "description", "message": "Description has changed since"},
            {"field": "title", "message": "Title has changed since"},
        ]
        assert body["error"] == body["detail"] == body["message"]
        assert (
            body["error"]
            == "Description has changed since, Title has changed since; undoing this would overwrite it"
        )
    assert changes(dora) == made
    assert dora.get(f"/{task['id']}").json()["data"] == newer


def test_what_was_deleted_for_good_is_a_conflict_without_fields(person: Meet) -> None:
    dora = person("dora")
    task = dora.has("Buy milk")
    dora.delete(task["id"])
    dora.request("DELETE", f"/v1/trash/{task['id']}")
    made = changes(dora)
    for reply in (undo(dora, 1), undo(dora, 2), undo(dora, 3), undo_group(dora, made[2]["group"])):
        body = reply.json()
        assert (reply.status, list(body), body["code"]) == (
            409,
            ["error", "code", "detail", "message"],
            "UNDO_CONFLICT",
        )
        assert body["error"] == "What was changed was deleted for good, so this cannot be undone"
    assert changes(dora) == made


def test_if_match_undoes_only_where_nothing_has_happened_since(person: Meet) -> None:
    """The tag is the list's: the number of the user's last change."""
    dora = person("dora")
    task = dora.has("Buy milk")
    known = dora.get().headers["etag"]
    dora.has("Another")
    made = changes(dora)
    for reply in (
        undo(dora, 1, {"If-Match": known}),
        undo_group(dora, made[0]["group"], {"If-Match": known}),
        undo(dora, 1, {"If-Match": 'W/"2"'}),
    ):
        assert (reply.status, reply.json()["code"], reply.data) == (
            412,
            "PRECONDITION_FAILED",
            None,
        )
        assert "etag" not in reply.headers
    assert changes(dora) == made
    for wrong in (
        undo(dora, 1, {"If-Match": "2"}),
        undo_group(dora, made[0]["group"], {"If-Match": "2"}),
    ):
        assert (wrong.status, [problem["field"] for problem in wrong.json()["errors"]]) == (
            400,
            ["If-Match"],
        )
    wrong = undo(dora, 1, {"If-None-Match": "*"})
    assert (wrong.status, [problem["field"] for problem in wrong.json()["errors"]]) == (
        400,
        ["If-None-Match"],
    )
    assert undo(dora, 1, {"If-Match": dora.get().headers["etag"]}).status == 200
    assert undo_group(dora, changes(dora)[-1]["group"], {"If-Match": '"1", "3"'}).status == 200
    assert dora.get(f"/{task['id']}").status_code == 200


def test_absent_comes_before_the_condition(person: Meet) -> None:
    dora = person("dora")
    dora.has("Buy milk")
    assert undo(dora, 7, {"If-Match": '"0"'}).status == 404
    assert undo_group(dora, str(uuid4()), {"If-Match": '"0"'}).status == 404


def test_an_undo_with_a_key_is_done_once(person: Meet) -> None:
    dora = person("dora")
    task = dora.has("Buy milk")
    group = changes(dora)[0]["group"]
    ways: list[Callable[[dict[str, str]], Reply]] = [
        lambda headers: undo(dora, 1, headers),
        lambda headers: undo_group(dora, group, headers),
    ]
    for way in ways:
        key = {"Idempotency-Key": uuid4().hex}
        first = way(key)
        assert [change["op"] for change in first.data] == ["delete"]
        dora.request(
            "POST", f"/v1/trash/{task['id']}/restore"
        )  # so that doing it again would be seen
        made = changes(dora)
        again = way(key)
        assert (again.status, again.body, again.headers["idempotency-replayed"]) == (
            200,
            first.body,
            "true",
        )
        assert changes(dora) == made
        reused = undo(dora, 2, key)
        assert (reused.status, reused.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_conflict_leaves_its_key_free(person: Meet) -> None:
    dora = person("dora")
    task = dora.has("Buy milk")
    dora.put(task["id"], {"title": "Buy oat milk"})
    dora.put(task["id"], {"title": "Buy soy milk"})
    key = {"Idempotency-Key": uuid4().hex}
    assert undo(dora, 2, key).status == 409
    undo(dora, 3)
    assert [change["fields"] for change in undo(dora, 2, key).data] == [
        {"title": ["Buy oat milk", "Buy milk"]}
    ]


# --- paths, methods, headers ---

ROUTES = [("GET", CHANGES), ("POST", f"{CHANGES}/0/undo"), ("POST", "/v1/undo")]


def test_a_trailing_slash_is_the_same_resource_answered_directly(person: Meet) -> None:
    dora = person("dora")
    dora.has("Buy milk")
    assert ask(dora, "GET", f"{CHANGES}/").data == changes(dora)
    assert ask(dora, "POST", f"{CHANGES}/1/undo/").status == 200
    body = json.dumps({"group": changes(dora)[0]["group"]}).encode()
    assert ask(dora, "POST", "/v1/undo/", body, JSON).status == 200


def test_head_answers_as_get_without_a_body(carol: Person) -> None:
    for target in (CHANGES, f"{CHANGES}?since=x"):
        got, head = (
            ask(carol, method, target, None, {"X-Request-Id": "same"}) for method in ("GET", "HEAD")
        )
        assert (head.status, head.body) == (got.status, b"")
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(CHANGES, {"GET", "HEAD"}), (f"{CHANGES}/7/undo", {"POST"}), ("/v1/undo", {"POST"})],
)
def test_other_methods_are_405_with_the_ones_that_are_allowed(
    ada: Person, path: str, allowed: set[str]
) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
        reply = ask(str(ada.client.base_url), method, path)
        if method in allowed:
            assert reply.status == 401
        else:
            assert reply.status == 405
            assert set(reply.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path", [f"{CHANGES}/7", f"{CHANGES}/7/Undo", f"{CHANGES}/7/undo/x", "/v1/undo/7", "/v1"]
)
def test_paths_beside_these_are_unknown(ada: Person, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert (ask(ada, method, path).status, ask(ada, method, path).error) == (404, "Not found")


@pytest.mark.parametrize(
    ("method", "path"), [*ROUTES, ("GET", f"{CHANGES}?since=x"), ("POST", f"{CHANGES}/abc/undo")]
)
def test_nobody_learns_anything_but_401(ada: Person, method: str, path: str) -> None:
    url = str(ada.client.base_url)
    for token, reason in (
        ({}, "missing_token"),
        ({"Authorization": "Bearer x.y.z"}, "malformed_token"),
    ):
        for body in (None, b"\xff"):
            reply = ask(url, method, path, body, {**token, "Content-Type": "text/plain"})
            assert (reply.status, reply.json()["reason"]) == (401, reason)
            assert reply.headers["www-authenticate"].startswith('Bearer realm="todo"')


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_frontend_may_ask_and_read_every_answer(ada: Person, method: str, path: str) -> None:
    url = str(ada.client.base_url)
    preflight = ask(
        url, "OPTIONS", path, None, {"Origin": ORIGIN, "Access-Control-Request-Method": method}
    )
    assert preflight.status in (200, 204)
    assert method in preflight.headers["access-control-allow-methods"].split(", ")
    for who in (ada, url):
        reply = ask(who, method, path, None, {"Origin": ORIGIN})
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-request-id"]


def test_every_failure_is_had_as_rfc_9457_too(person: Meet) -> None:
    dora = person("dora")
    dora.put(dora.has("Buy milk")["id"], {"title": "Buy oat milk"})
    problem_json = {"Accept": "application/problem+json"}
    for reply, status, code in [
        (undo(dora, 7, problem_json), 404, "NOT_FOUND"),
        (undo_group(dora, 7, problem_json), 400, "VALIDATION_ERROR"),
        (undo(dora, 1, problem_json), 409, "UNDO_CONFLICT"),
    ]:
        assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
        body = reply.json()
        assert (body["type"], body["status"], body["code"]) == ("about:blank", status, code)
    assert body["errors"] == [{"field": "title", "message": "Title has changed since"}]
