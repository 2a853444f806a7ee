"""docs/undo.md, section "Trash": what is deleted can be had back, until it is deleted for good and
nothing of it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import pytest

import retention
import storage
from entities import TASK
from postgres import migrate
from tests.conftest import sql
from tests.contract.wire import JSON, ORIGIN, Reply, ask, moment, number, stream, tag
from tests.expiry import remove_expired
from tests.people import Person
from web.bodies import LIMIT_BYTES

Meet = Callable[[str], Person]

TRASH = "/v1/trash"
LARGEST = 2**63 - 1
UID = "3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e"
KEYS = [
    *("id", "user_id", "title", "description", "completed", "created_at", "updated_at"),
    *("uid", "version", "completed_at"),
    *("list_id", "parent_id", "position", "priority", "labels", "start", "due"),
    "deleted_at",
    "entity",
]
CURSOR = [{"field": "cursor", "message": "Cursor is not valid"}]
LIMIT = [{"field": "limit", "message": "Limit must be an integer from 1 to 500"}]


def trash(person: Person, query: str = "") -> Reply:
    return ask(person, "GET", TRASH + query)


def restore(person: Person, id: Any, headers: dict[str, str] | None = None) -> Reply:
    return ask(person, "POST", f"{TRASH}/{id}/restore", None, headers)


def purge(person: Person, id: Any, headers: dict[str, str] | None = None) -> Reply:
    return ask(person, "DELETE", f"{TRASH}/{id}", None, headers)


def trashed(person: Person, title: str = "Buy milk") -> dict[str, Any]:
    """A task as it was before it was deleted."""
    task = person.has(title)
    assert person.delete(task["id"]).status_code == 200
    return task


def refused(reply: Reply, problems: list[dict[str, str]]) -> bool:
    return (reply.status, reply.json()["code"], reply.json().get("errors")) == (
        400,
        "VALIDATION_ERROR",
        problems,
    )


def missing(reply: Reply) -> bool:
    return (reply.status, reply.json()["code"], reply.error) == (404, "NOT_FOUND", "Task not found")


def same(replies: list[Reply]) -> bool:
    """To the byte, but for the time."""
    for reply in replies:
        reply.headers.pop("date")
    return all(reply == replies[0] for reply in replies)


# --- into it ---


@pytest.mark.parametrize(
    ("method", "end", "body"),
    [
        ("GET", "", None),
        ("HEAD", "", None),
        ("PUT", "", b'{"title":"x"}'),
        ("PATCH", "", b"{}"),
        ("PATCH", "/complete", None),
        ("PATCH", "/complete", b'{"completed":true}'),
        ("DELETE", "", None),
    ],
)
def test_for_every_other_door_a_task_in_the_trash_is_absent(
    ada: Person, method: str, end: str, body: bytes | None
) -> None:
    task = trashed(ada)
    before = trash(ada).data
    headers = {**JSON, "X-Request-Id": "same"}
    replies = [
        ask(ada, method, f"{ada.tasks}/{id}{end}", body, headers) for id in (task["id"], LARGEST)
    ]
    assert replies[0].status == 404
    assert same(replies)
    assert task["id"] not in [one["id"] for one in ada.get().json()["data"]]
    assert trash(ada).data == before


def test_the_trash_shows_the_last_deleted_first_each_as_it_was_and_when_it_was_deleted(
    person: Meet,
) -> None:
    dora = person("dora")
    assert trash(dora).json() == {"data": [], "message": "Trash retrieved", "next_cursor": None}
    tasks = [dora.has(f"Task {number}", "More") for number in range(5)]
    dora.patch(f"/{tasks[2]['id']}/complete")
    tasks = dora.get().json()["data"]
    order = [3, 0, 4, 2]
    for place in order:
        dora.delete(tasks[place]["id"])
    reply = trash(dora)
    assert (reply.status, list(reply.json())) == (200, ["data", "message", "next_cursor"])
    assert [one["id"] for one in reply.data] == [tasks[place]["id"] for place in order[::-1]]
    for shown, place in zip(reply.data, order[::-1], strict=True):
        assert list(shown) == KEYS
        assert shown["deleted_at"] == shown["updated_at"]
        assert shown["version"] > tasks[place]["version"]
        assert {**shown, **of(tasks[place], "version", "updated_at")} == {
            **tasks[place],
            "entity": "task",
            "deleted_at": shown["deleted_at"],
        }
    times = [moment(one["deleted_at"]) for one in reply.data]
    assert times == sorted(times, reverse=True)
    assert [one["id"] for one in dora.get().json()["data"]] == [tasks[1]["id"]]


def of(task: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: task[name] for name in names}


def test_a_uid_that_is_in_the_trash_cannot_be_created_again(ada: Person) -> None:
    task = trashed(ada)
    before = trash(ada).data
    for uid in (task["uid"], task["uid"].upper()):
        reply = ask(
            ada, "POST", ada.tasks, json.dumps({"title": "Again", "uid": uid}).encode(), JSON
        )
        assert (reply.status, reply.json()["code"]) == (409, "UID_IN_TRASH")
        assert (
            reply.error
            == "The task with this uid is in the trash; restore that task, or choose another uid"
        )
        assert "etag" not in reply.headers
    assert trash(ada).data == before
    assert restore(ada, task["id"]).status == 200
    again = ada.post({"title": "Again", "uid": task["uid"]})
    assert (again.status_code, again.json()["data"]["id"]) == (200, task["id"])


def test_a_uid_is_free_again_once_its_task_was_deleted_for_good(ada: Person) -> None:
    task = trashed(ada)
    purge(ada, task["id"])
    again = ada.post({"title": "Again", "uid": task["uid"]})
    assert (again.status_code, again.json()["data"]["uid"]) == (201, task["uid"])
    assert again.json()["data"]["id"] != task["id"]


# --- pages ---


@pytest.fixture(scope="module")
def carol(server: Any, database_url: str) -> Any:
    """She has 103 tasks in her trash, every three of them deleted in the same moment, and changes
    none."""
    person = Person(server.url, "carol")
    trashed(person)
    many = """INSERT INTO tasks (user_id, title, version, deleted_at)
        SELECT $1, 'Task ' || n, n + 2, now() - (n / 3) * interval '1 second' FROM generate_series(1, 102) AS n"""
    sql(database_url, many, person.id)
    person.has("Not in the trash")
    yield person
    person.client.close()


def test_a_page_has_100_where_no_limit_is_given(carol: Person) -> None:
    reply = trash(carol)
    assert len(reply.data) == 100
    rest = trash(carol, f"?cursor={reply.json()['next_cursor']}").json()
    assert (len(rest["data"]), rest["next_cursor"]) == (3, None)


@pytest.mark.parametrize("limit", [1, 7, 103, 104, 500])
def test_pages_join_to_exactly_the_trash(carol: Person, limit: int) -> None:
    got, cursor = [], ""
    while cursor is not None:
        page = trash(carol, f"?limit={limit}" + (f"&cursor={cursor}" if cursor else "")).json()
        assert 1 <= len(page["data"]) <= limit
        got += page["data"]
        cursor = page["next_cursor"]
        assert len(got) <= 103, "the pages have no end"
    places = [(moment(one["deleted_at"]), one["id"]) for one in got]
    assert places == sorted(set(places), reverse=True)
    assert len(got) == 103


@pytest.mark.parametrize(
    "limit", ["", "0", "-1", "501", "01", "1.0", "abc", "%201", "1&limit=1", "9" * 30]
)
def test_a_limit_is_an_integer_from_1_to_500(carol: Person, limit: str) -> None:
    assert refused(trash(carol, f"?limit={limit}"), LIMIT)


def test_a_cursor_that_was_not_made_for_this_users_trash_is_400(carol: Person, ada: Person) -> None:
    cursor = trash(carol, "?limit=5").json()["next_cursor"]
    carol.has("Another that is not in the trash")
    of_the_list = carol.get("?limit=1").json()["next_cursor"]
    assert trash(carol, f"?limit=5&cursor={cursor}").status == 200
    wrong = [
        cursor[:20] + ("A" if cursor[20] != "A" else "B") + cursor[21:],
        f"{cursor[:-1]}%20",
        "",
    ]
    for forged in (
        *wrong,
        cursor[:-1],
        cursor + "A",
        f"{cursor}&cursor={cursor}",
        "forged",
        of_the_list,
    ):
        assert refused(trash(carol, f"?limit=5&cursor={forged}"), CURSOR), forged
    assert refused(trash(ada, f"?limit=5&cursor={cursor}"), CURSOR)
    assert refused(ask(carol, "GET", f"{carol.tasks}?limit=5&cursor={cursor}"), CURSOR)
    assert refused(trash(carol, "?limit=0&cursor=forged"), [*LIMIT, *CURSOR])


# --- out of it ---


def test_restored_it_is_what_it_was_but_for_version_and_updated_at(ada: Person) -> None:
    task = ada.has("Buy milk", "Two litres")
    task = ada.patch(f"/{task['id']}/complete").json()["data"]
    ada.delete(task["id"])
    [shown] = [one for one in trash(ada).data if one["id"] == task["id"]]
    reply = restore(ada, task["id"])
    assert (reply.status, list(reply.json()), reply.json()["message"]) == (
        200,
        ["data", "message"],
        "Task restored",
    )
    assert reply.data == {**task, **of(reply.data, "version", "updated_at")}
    assert reply.data["version"] == shown["version"] + 1 == task["version"] + 2
    assert (
        moment(reply.data["updated_at"]) > moment(shown["updated_at"]) > moment(task["updated_at"])
    )
    assert reply.headers["etag"] == tag(reply.data)
    assert reply.headers["cache-control"] == "private, no-cache"
    assert reply.headers["location"] == f"{ada.tasks}/{task['id']}"
    assert ask(ada, "GET", reply.headers["location"]).data == reply.data
    assert task["id"] not in [one["id"] for one in trash(ada).data]


def test_deleted_for_good_it_is_nowhere(ada: Person) -> None:
    task = trashed(ada)
    reply = purge(ada, task["id"])
    assert (reply.status, reply.json()) == (200, {"data": None, "message": "Task deleted for good"})
    assert "etag" not in reply.headers
    assert reply.headers["cache-control"] == "no-store"
    assert task["id"] not in [one["id"] for one in (*trash(ada).data, *ada.get().json()["data"])]
    assert missing(purge(ada, task["id"]))
    assert missing(restore(ada, task["id"]))
    assert missing(ask(ada, "GET", f"{ada.tasks}/{task['id']}"))


@pytest.mark.parametrize("act", [restore, purge])
def test_what_is_not_in_this_users_trash_is_not_found_and_left_alone(
    act: Callable[..., Reply], ada: Person, bob: Person
) -> None:
    live, purged, bobs, bobs_live = (
        ada.has("Live"),
        trashed(ada),
        trashed(bob),
        bob.has("Bob's own"),
    )
    purge(ada, purged["id"])
    before = [trash(ada).data, trash(bob).data, ask(ada, "GET", "/v1/changes").data]
    ids = (LARGEST, 0, -1, 2**70, live["id"], purged["id"], bobs["id"], bobs_live["id"])
    replies = [act(ada, id, {"X-Request-Id": "same"}) for id in ids]
    assert missing(replies[0])
    assert same(replies)
    assert [trash(ada).data, trash(bob).data, ask(ada, "GET", "/v1/changes").data] == before
    assert ada.get(f"/{live['id']}").json()["data"] == live
    assert bob.get(f"/{bobs_live['id']}").json()["data"] == bobs_live


@pytest.mark.parametrize("act", [restore, purge])
def test_if_match_lets_only_those_at_work_who_know_how_it_is(
    act: Callable[..., Reply], ada: Person
) -> None:
    task = trashed(ada)
    version = task["version"] + 1
    for known in (f'"{task["version"]}"', '"0"', f'W/"{version}"', '"other"'):
        reply = act(ada, task["id"], {"If-Match": known})
        assert (reply.status, reply.json()["code"]) == (412, "PRECONDITION_FAILED"), known
        assert number(reply.headers["etag"]) == version
        assert reply.data == {**task, **of(reply.data, "version", "updated_at")}
        assert reply.data["version"] == version
    assert refused_field(act(ada, task["id"], {"If-Match": "7"})) == ["If-Match"]
    assert refused_field(act(ada, task["id"], {"If-None-Match": "*"})) == ["If-None-Match"]
    assert missing(act(ada, LARGEST, {"If-Match": '"1"'}))
    assert task["id"] in [one["id"] for one in trash(ada).data]
    assert act(ada, task["id"], {"If-Match": f'"0", "{version}"'}).status == 200


def refused_field(reply: Reply) -> list[str]:
    assert reply.status == 400
    return [problem["field"] for problem in reply.json()["errors"]]


def test_reading_the_trash_with_a_condition_of_a_write_is_400(ada: Person) -> None:
    assert refused_field(ask(ada, "GET", TRASH, None, {"If-Match": '"1"'})) == ["If-Match"]


def test_a_restoration_with_a_key_is_done_once(ada: Person) -> None:
    task, key = trashed(ada), {"Idempotency-Key": uuid4().hex}
    first = restore(ada, task["id"], key)
    ada.delete(task["id"])  # so that doing it again would be seen
    again = restore(ada, task["id"], key)
    assert (first.status, again.status, again.body) == (200, 200, first.body)
    assert [again.headers[name] for name in ("etag", "location", "idempotency-replayed")] == [
        first.headers["etag"],
        first.headers["location"],
        "true",
    ]
    assert task["id"] in [one["id"] for one in trash(ada).data]
    other = restore(ada, trashed(ada)["id"], key)
    assert (other.status, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_purge_with_a_key_is_answered_again_as_it_was(ada: Person) -> None:
    task, key = trashed(ada), {"Idempotency-Key": uuid4().hex}
    first = purge(ada, task["id"], key)
    again = purge(ada, task["id"], key)
    assert (first.status, again.status, again.body) == (200, 200, first.body)
    assert again.headers["idempotency-replayed"] == "true"
    assert missing(purge(ada, task["id"]))


def test_a_restoration_ignores_its_body_but_not_its_size(ada: Person) -> None:
    target = f"{TRASH}/{trashed(ada)['id']}/restore"
    full = [b"x" * 8192] * (LIMIT_BYTES // 8192)
    for end in (True, False):
        reply = stream(ada, "POST", target, *full, b"x", end=end, headers={})
        assert (reply.status, reply.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert stream(ada, "POST", target, *full, end=True, headers={}).status == 200


# --- ids, paths, methods, headers ---


@pytest.mark.parametrize(
    "id",
    [
        *("01", "abc", "1.0", "+1", "-0", "1_0", "%201", "%D9%A1", "1%00", "%FF"),
        *(UID.replace("-", ""), f"%7B{UID}%7D", UID[:-1], f"{UID}0"),
    ],
)
def test_what_is_no_canonical_decimal_integer_and_no_uid_is_400(ada: Person, id: str) -> None:
    problem = [{"field": "task_id", "message": "Task id must be an integer or a uid"}]
    assert refused(restore(ada, id), problem)
    assert refused(purge(ada, id), problem)


def test_a_trailing_slash_is_the_same_resource_answered_directly(ada: Person) -> None:
    task = trashed(ada)
    assert ask(ada, "GET", f"{TRASH}/").data == trash(ada).data
    assert ask(ada, "POST", f"{TRASH}/{task['id']}/restore/").status == 200
    ada.delete(task["id"])
    assert ask(ada, "DELETE", f"{TRASH}/{task['id']}/").status == 200


def test_head_answers_as_get_without_a_body(ada: Person) -> None:
    trashed(ada)
    for target in (TRASH, f"{TRASH}?limit=0"):
        got, head = (
            ask(ada, method, target, None, {"X-Request-Id": "same"}) for method in ("GET", "HEAD")
        )
        assert head.body == b""
        assert same([head, got._replace(body=b"")])


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(TRASH, {"GET", "HEAD"}), (f"{TRASH}/7", {"DELETE"}), (f"{TRASH}/7/restore", {"POST"})],
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
    "path", [f"{TRASH}/7/Restore", f"{TRASH}/7/restore/x", "/v1//trash", "/v1/Trash", "/v1"]
)
def test_paths_beside_these_are_unknown(ada: Person, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert (ask(ada, method, path).status, ask(ada, method, path).error) == (404, "Not found")


ROUTES = [("GET", TRASH), ("POST", f"{TRASH}/0/restore"), ("DELETE", f"{TRASH}/0")]


@pytest.mark.parametrize(
    ("method", "path"), [*ROUTES, ("GET", f"{TRASH}?limit=0"), ("DELETE", f"{TRASH}/abc")]
)
def test_nobody_learns_anything_but_401(ada: Person, method: str, path: str) -> None:
    url = str(ada.client.base_url)
    for token, reason in (
        ({}, "missing_token"),
        ({"Authorization": "Bearer x.y.z"}, "malformed_token"),
    ):
        reply = ask(url, method, path, None, {**token, "If-Match": "nonsense"})
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
        has_etag = "etag" in reply.headers
        assert has_etag == (
            who is ada and (method, path) in (("GET", "/v1/trash"), ("HEAD", "/v1/trash"))
        )
        assert reply.headers["cache-control"] == ("private, no-cache" if has_etag else "no-store")
        assert reply.headers["x-request-id"]


def test_every_failure_is_had_as_rfc_9457_too(ada: Person) -> None:
    uid = trashed(ada)["uid"]
    problem_json = {"Accept": "application/problem+json", **JSON}
    body = json.dumps({"title": "Again", "uid": uid}).encode()
    for reply, status, code in [
        (restore(ada, 0, problem_json), 404, "NOT_FOUND"),
        (purge(ada, "abc", problem_json), 400, "VALIDATION_ERROR"),
        (ask(ada, "POST", ada.tasks, body, problem_json), 409, "UID_IN_TRASH"),
    ]:
        assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
        assert (reply.json()["type"], reply.json()["status"], reply.json()["code"]) == (
            "about:blank",
            status,
            code,
        )


# --- 30 days ---

AGE = """
UPDATE tasks SET deleted_at = deleted_at - interval '31 days', updated_at = updated_at - interval '31 days'
WHERE user_id = $1
"""


def test_a_task_stays_for_30_days_from_its_last_change_such_as_a_restoration_undone(
    person: Meet, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        retention, "LOCK", retention.LOCK + 1
    )  # the server's own job may be at work
    dora = person("dora")
    back, _ = trashed(dora), trashed(dora)
    sql(database_url, AGE, dora.id)
    before = trash(dora).data
    restored = restore(dora, back["id"])
    assert ask(dora, "POST", f"/v1/changes/{restored.data['version']}/undo").status == 200
    assert [of(one, "id", "deleted_at") for one in trash(dora).data] == [
        of(one, "id", "deleted_at") for one in before
    ]
    remove_expired(database_url)
    assert [one["id"] for one in trash(dora).data] == [back["id"]]
    sql(database_url, AGE, dora.id)
    remove_expired(database_url)
    assert trash(dora).data == []


# --- nothing is left ---


class Keyed(NamedTuple):
    """A request that was sent with a key, to send it again; and its answer."""

    method: str
    target: str
    body: bytes | None
    headers: dict[str, str]
    reply: Reply

    def again(self, person: Person) -> Reply:
        return ask(person, self.method, self.target, self.body, self.headers)


def keyed(person: Person, method: str, target: str, body: Any = None) -> Keyed:
    sent = None if body is None else json.dumps(body).encode()
    headers = {**JSON, "Idempotency-Key": uuid4().hex}
    reply = ask(person, method, target, sent, headers)
    assert reply.status in (200, 201), reply.body
    return Keyed(method, target, sent, headers, reply)


def dump(url: str) -> dict[str, str]:
    """Every row of every table, as text, by table."""
    tables = """SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
        WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"""
    return {
        name: "\n".join(row for [row] in sql(url, f"SELECT t::text FROM {name} AS t"))
        for [name] in sql(url, tables)
    }


def test_after_a_purge_no_text_of_the_task_is_anywhere_in_the_database(
    person: Meet, database_url: str
) -> None:
    """Whatever was done with it, and with keys, so that every answer that shows it was kept."""
    dora, ella, canary = person("dora"), person("ella"), f"canary-{uuid4().hex}"
    other = keyed(dora, "POST", dora.tasks, {"title": "Another of hers"})
    hers = keyed(ella, "POST", ella.tasks, {"title": "Another's"})

    created = keyed(
        dora, "POST", dora.tasks, {"title": f"{canary} 1", "description": f"{canary} é 2"}
    )
    id = created.reply.data["id"]
    one, in_trash = f"{dora.tasks}/{id}", f"{TRASH}/{id}"
    edited = keyed(dora, "PUT", one, {"title": f"{canary} 3", "description": None})
    completed = keyed(dora, "PATCH", f"{one}/complete")
    deleted = keyed(dora, "DELETE", one)
    restored = keyed(dora, "POST", f"{in_trash}/restore")
    undone = keyed(dora, "POST", f"/v1/changes/{edited.reply.data['version']}/undo")
    redone = keyed(dora, "POST", "/v1/undo", {"group": undone.reply.data[0]["group"]})
    deleted_again = keyed(dora, "DELETE", one)

    before = dump(database_url)
    holds = {name for name, rows in before.items() if canary in rows}
    assert holds == {"public.tasks", "public.changes", "public.idempotency_keys"}
    assert f"{canary} 3" in undone.reply.body.decode()

    purged = keyed(dora, "DELETE", in_trash)
    assert [name for name, rows in dump(database_url).items() if canary in rows] == []

    numbers = [change["seq"] for change in ask(dora, "GET", "/v1/changes").data]
    for one_of_them in (created, edited, completed, restored, undone, redone):
        assert missing(one_of_them.again(dora))
    for one_of_them in (deleted, deleted_again, purged, other):  # they show nothing of it
        again = one_of_them.again(dora)
        assert (again.status, again.body) == (one_of_them.reply.status, one_of_them.reply.body)
        assert again.headers["idempotency-replayed"] == "true"
    assert hers.again(ella).body == hers.reply.body
    assert [task["id"] for task in dora.get().json()["data"]] == [other.reply.data["id"]]
    assert trash(dora).data == []
    assert [change["seq"] for change in ask(dora, "GET", "/v1/changes").data] == numbers
    assert [name for name, rows in dump(database_url).items() if canary in rows] == []


def test_the_number_of_a_purged_task_elsewhere_in_an_answer_does_not_make_it_forgotten(
    person: Meet, database_url: str
) -> None:
    """An answer is about a task by its id; here the purged one's id is the other's title, and its
    version."""
    dora = person("dora")
    task = trashed(dora)
    sql(
        database_url,
        "UPDATE change_counters SET seq = $1 WHERE user_id = $2",
        task["id"] - 1,
        dora.id,
    )
    other = keyed(dora, "POST", dora.tasks, {"title": str(task["id"])})
    assert other.reply.data["version"] == task["id"]
    undone = keyed(dora, "POST", f"/v1/changes/{task['id']}/undo")
    assert undone.reply.data[0]["seq"] == task["id"] + 1
    purge(dora, task["id"])
    assert other.again(dora).body == other.reply.body
    assert undone.again(dora).body == undone.reply.body


IN_STATISTICS = """
SELECT DISTINCT tablename FROM pg_stats
WHERE schemaname = 'public' AND strpos(concat(most_common_vals, histogram_bounds, most_common_elems), $1) > 0
"""


def test_the_planners_statistics_have_no_text_that_would_outlive_a_purge(
    person: Meet, database_url: str
) -> None:
    """They have what is common, if anything: so all of this is. The user's id shows that they would
    have it."""
    dora, canary = person("dora"), f"canary-{uuid4().hex}"
    for _ in range(30):
        task = keyed(dora, "POST", dora.tasks, {"title": canary, "description": canary}).reply.data
        dora.put(task["id"], {"title": "Other"})
        keyed(dora, "PATCH", f"{dora.tasks}/{task['id']}", {"title": canary})
    tables = ["tasks", "changes", "idempotency_keys"]
    sql(database_url, f"ANALYZE {', '.join(tables)}")
    assert {table for [table] in sql(database_url, IN_STATISTICS, dora.id)} == set(tables)
    assert sql(database_url, IN_STATISTICS, canary) == []


# --- by index ---

MANY_ANSWERS = """
INSERT INTO idempotency_keys (user_id, key, at, fingerprint, status, headers, body, entity_id)
SELECT $1, 'key-' || n, now(), '', 200, '{}', '{"data": {"id": 0}}', -n FROM generate_series(1, 1000) AS n
"""
MANY_CHANGES = """
INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
SELECT $1, -n, now(), 'user', $1, gen_random_uuid(), 'task', -n, 'update', '{}' FROM generate_series(1, 1000) AS n
"""
ROWS_READ = "SELECT relname, seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = ANY ($1)"


def test_a_purge_reads_only_what_is_about_its_task(person: Meet, database_url: str) -> None:
    """Of a user who has kept a thousand answers and changes of other tasks."""
    dora = person("dora")
    task = keyed(dora, "POST", dora.tasks, {"title": "Buy milk"}).reply.data
    dora.delete(task["id"])
    sql(database_url, MANY_ANSWERS, dora.id)
    sql(database_url, MANY_CHANGES, dora.id)
    sql(database_url, "ANALYZE idempotency_keys, changes")

    async def rows_read() -> dict[str, int]:
        session = await asyncpg.connect(database_url, server_settings={"role": migrate.ROLE})
        async with session.transaction():
            edits = storage.to_json([storage.purge(TASK, task["id"])])
            values = (dora.id, "user", dora.id, storage.new_group(), edits, False, True)
            [[outcome, _]] = await session.fetch(storage.CALL, *values)
            assert outcome == "done"
            counted = await session.fetch(ROWS_READ, ["changes", "idempotency_keys"])
        await session.close()
        return dict(counted)

    assert asyncio.run(rows_read()) == {"changes": 2, "idempotency_keys": 1}
