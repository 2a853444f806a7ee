"""Conditional requests (RFC 9110 section 13): versions, ETags, If-Match, If-None-Match; `uid` and `completed_at`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.conftest import sql
from tests.contract.wire import JSON, ORIGIN, Reply, ask, moment, number, say, tag
from tests.people import Person

Meet = Callable[[str], Person]

LIST_TEXT = 'must be * or a list of entity tags, such as "7"'
WRITES = [  # of one task: method, what follows its path, body
    ("PUT", "", b'{"title":"New"}'),
    ("PUT", "", b"{}"),
    ("PATCH", "", b'{"completed":true}'),
    ("PATCH", "/complete", None),
    ("PATCH", "/complete", b'{"completed":true}'),
    ("PATCH", "/complete", b'{"completed":false}'),  # which it is already
    ("DELETE", "", None),
]
WRITE_NAMES = [f"{method}{end} {(body or b'').decode()}" for method, end, body in WRITES]
each_write = pytest.mark.parametrize(("method", "end", "body"), WRITES, ids=WRITE_NAMES)


def at(person: Person, task: dict[str, Any] | int) -> str:
    return f"{person.tasks}/{task if isinstance(task, int) else task['id']}"


def write(
    person: Person, method: str, target: str, body: bytes | None, if_match: str, **more: str
) -> Reply:
    return ask(
        person, method, target, body, {**(JSON if body else {}), "If-Match": if_match, **more}
    )


def read(
    person: Person, query: str = "", etag: str = "", method: str = "GET", **more: str
) -> Reply:
    return ask(
        person,
        method,
        person.tasks + query,
        None,
        {**({"If-None-Match": etag} if etag else {}), **more},
    )


def is_as_it_was(person: Person, task: dict[str, Any]) -> bool:
    shown = read(person, f"/{task['id']}")
    return (shown.status, shown.data, shown.headers["etag"]) == (200, task, tag(task))


# --- ETag ---


def test_every_answer_with_one_task_has_its_version_as_a_strong_etag(ada: Person) -> None:
    created = ask(ada, "POST", ada.tasks, b'{"title":"Buy milk"}', JSON)
    one = at(ada, created.data)
    replies = [
        created,
        ask(ada, "GET", one),
        ask(ada, "PUT", one, b"{}", JSON),
        ask(ada, "PATCH", one, b'{"title":"B"}', JSON),
        ask(ada, "PATCH", f"{one}/complete"),
        ask(ada, "PATCH", f"{one}/complete", b'{"completed":true}', JSON),
        ask(ada, "GET", one),
    ]
    first = created.data["version"]
    assert [reply.data["version"] - first for reply in replies] == [0, 0, 1, 2, 3, 3, 3]
    for reply in replies:
        assert reply.headers["etag"] == tag(reply.data)
        assert reply.headers["cache-control"] == "private, no-cache"
    head = ask(ada, "HEAD", one)
    assert (head.status, head.headers["etag"], head.body) == (200, tag(replies[-1].data), b"")


def test_what_carries_no_task_has_no_etag(ada: Person) -> None:
    one = at(ada, ada.has("Buy milk"))
    for reply in (ask(ada, "DELETE", one), ask(ada, "GET", one), ask(ada, "PUT", one, b"[]", JSON)):
        assert "etag" not in reply.headers
        assert reply.headers["cache-control"] == "no-store"


def test_versions_count_one_users_changes_and_nobody_elses(person: Meet) -> None:
    dora, emil = person("dora"), person("emil")
    milk, bread = dora.has("Buy milk"), dora.has("Buy bread")
    assert emil.has("Emil's own")["version"] == 1
    assert [task["version"] for task in (milk, bread)] == [1, 2]
    assert dora.put(milk["id"], {}).json()["data"]["version"] == 3
    assert is_as_it_was(dora, bread)
    assert dora.delete(bread["id"]).status_code == 200  # is a change too
    assert dora.has("Buy more")["version"] == 5


def test_what_is_refused_or_changes_nothing_takes_no_version(person: Meet) -> None:
    dora = person("dora")
    task = dora.has("Buy milk")
    for reply in (
        dora.put(task["id"], {"title": ""}),
        dora.put(0, {}),
        dora.put(task["id"], {}, headers={"If-Match": '"9"'}),
        dora.post({"title": "New"}, headers={"If-Match": '"9"'}),
        dora.patch(f"/{task['id']}/complete", json={"completed": False}),
        dora.post({"title": "Again", "uid": task["uid"]}),
    ):
        assert reply.status_code in (400, 404, 412, 200)
    assert dora.has("The next")["version"] == task["version"] + 1


# --- If-Match ---


@each_write
@pytest.mark.parametrize(
    "if_match",
    ["{tag}", "*", '"0", {tag}', '{tag},"a,b"', ' , W/"1",\t{tag} ,', 'W/{tag}, {tag}, "x"'],
    ids=str,
)
def test_a_write_whose_if_match_holds_is_done(
    ada: Person, method: str, end: str, body: bytes | None, if_match: str
) -> None:
    task = ada.has("Buy milk")
    reply = write(ada, method, at(ada, task) + end, body, if_match.format(tag=tag(task)))
    assert reply.status == 200
    if method == "DELETE":
        assert ada.get(f"/{task['id']}").status_code == 404
    elif body == b'{"completed":false}':
        assert reply.data == task
    else:
        assert reply.data["version"] == task["version"] + 1
        assert is_as_it_was(ada, reply.data)


FAILING = {
    "stale": '"{before}"',
    "to come": '"{after}"',
    "weak": "W/{tag}",
    "weak among others": 'W/{tag}, "{before}"',
    "padded": '"0{version}"',
    "a foreign tag": '"abc"',
    "a foreign tag that has it inside": '"{version}-gzip"',
    "the star as a tag": '"*"',
    "the empty tag": '""',
    "beyond 64 bits": '"99999999999999999999"',
    "obs-text": '"\xff"',
}


@each_write
@pytest.mark.parametrize("if_match", FAILING.values(), ids=FAILING)
def test_a_write_whose_if_match_fails_is_412_with_the_task_as_it_now_is(
    ada: Person, method: str, end: str, body: bytes | None, if_match: str
) -> None:
    task = ada.put(ada.has("Buy milk")["id"], {"description": "Two litres"}).json()["data"]
    version = task["version"]
    before = read(ada).headers["etag"]
    condition = if_match.format(
        tag=tag(task), version=version, before=version - 1, after=version + 1
    )
    reply = write(ada, method, at(ada, task) + end, body, condition, Origin=ORIGIN)
    assert (reply.status, reply.json()["code"], reply.data) == (412, "PRECONDITION_FAILED", task)
    assert (reply.headers["etag"], reply.headers["cache-control"]) == (
        tag(task),
        "private, no-cache",
    )
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    sentence = f"The task has changed since (version {version} now). Review it and try again"
    assert reply.error == reply.json()["detail"] == sentence
    assert is_as_it_was(ada, task)
    assert read(ada).headers["etag"] == before


def test_a_412_writes_nothing_into_the_log(ada: Person, database_url: str) -> None:
    task = ada.has("Buy milk")
    count = "SELECT count(*) AS n FROM changes WHERE user_id = $1"
    [logged] = sql(database_url, count, ada.id)
    for method, end, body in WRITES:
        assert write(ada, method, at(ada, task) + end, body, '"0"').status == 412
    assert sql(database_url, count, ada.id) == [logged]


def test_a_412_is_had_as_rfc_9457_with_the_task_and_its_etag(ada: Person) -> None:
    task = ada.has("Buy milk")
    reply = write(ada, "PUT", at(ada, task), b"{}", '"0"', Accept="application/problem+json")
    assert (reply.status, reply.headers["content-type"]) == (412, "application/problem+json")
    assert list(reply.json()) == ["type", "title", "status", "detail", "code", "data"]
    assert (reply.json()["title"], reply.json()["status"]) == ("Precondition Failed", 412)
    assert (reply.json()["code"], reply.data) == ("PRECONDITION_FAILED", task)
    assert (reply.headers["etag"], reply.headers["cache-control"]) == (
        tag(task),
        "private, no-cache",
    )


def test_the_task_of_a_412_is_enough_to_try_again(ada: Person) -> None:
    task = ada.has("Buy milk")
    ada.put(task["id"], {"description": "Meanwhile"})
    refused = write(ada, "PUT", at(ada, task), b'{"title":"New"}', tag(task))
    again = write(ada, "PUT", at(ada, task), b'{"title":"New"}', refused.headers["etag"])
    assert (refused.status, again.status) == (412, 200)
    assert (again.data["title"], again.data["description"]) == ("New", "Meanwhile")


@pytest.mark.parametrize(
    "lines",
    [('"0"', "{tag}"), ("{tag}", '"0"'), ('"0", "x"', "", 'W/"1", {tag}')],
    ids=["2nd", "1st", "3rd"],
)
def test_the_lines_of_if_match_are_one_list(ada: Person, lines: tuple[str, ...]) -> None:
    task = ada.has("Buy milk")
    conditions = "".join(f"If-Match: {line.format(tag=tag(task))}\r\n" for line in lines)
    token = f"Host: a\r\nAuthorization: Bearer {ada.token}\r\n"
    head = f"PATCH {at(ada, task)}/complete HTTP/1.1\r\n{token}{conditions}\r\n"
    assert say(ada, head.encode()).status == 200
    assert say(ada, head.encode()).status == 412  # by now


@pytest.mark.parametrize("if_match", ['"{latest}"', "*", '"x", "{latest}"', '"{number}"'], ids=str)
def test_a_post_may_ask_that_the_list_is_as_it_was(person: Meet, if_match: str) -> None:
    dora = person("dora")
    dora.delete(dora.has("Buy milk")["id"])
    latest = read(dora).headers["etag"]
    condition = if_match.format(latest=latest.strip('"'), number=number(latest))
    reply = write(dora, "POST", dora.tasks, b'{"title":"New"}', condition)
    assert (reply.status, number(reply.headers["etag"])) == (201, number(latest) + 1)


def test_a_post_of_one_who_has_nothing_yet_meets_version_0(person: Meet) -> None:
    dora = person("dora")
    assert number(read(dora).headers["etag"]) == 0
    assert write(dora, "POST", dora.tasks, b'{"title":"a"}', '"1"').status == 412
    assert number(read(dora).headers["etag"]) == 0
    assert write(dora, "POST", dora.tasks, b'{"title":"a"}', '"0"').status == 201
    assert write(dora, "POST", dora.tasks, b'{"title":"a"}', '"0"').status == 412


@pytest.mark.parametrize("if_match", ['"0"', 'W/"1"', '"2"', '"abc"'])
def test_a_post_after_something_was_written_is_412_without_a_task(
    person: Meet, if_match: str
) -> None:
    dora = person("dora")
    task = dora.has("Buy milk")
    reply = write(dora, "POST", dora.tasks, b'{"title":"New"}', if_match)
    assert (reply.status, reply.json()["code"], reply.data) == (412, "PRECONDITION_FAILED", None)
    assert "etag" not in reply.headers
    assert reply.headers["cache-control"] == "no-store"
    assert dora.get().json()["data"] == [task]


# --- order: 400, then 404, then 412 ---

CONDITIONS = ["*", '"1"', '"999999"', 'W/"1"', '"abc"']


@each_write
def test_an_absent_or_foreign_task_is_404_whatever_the_condition(
    ada: Person, bob: Person, method: str, end: str, body: bytes | None
) -> None:
    hers, gone = ada.has("Buy milk"), bob.has("Bob's own")
    bob.delete(gone["id"])
    replies = [
        write(bob, method, at(bob, target) + end, body, condition, **{"X-Request-Id": "same"})
        for target in (hers, gone, 0, 2**63 - 1, 2**70)
        for condition in [*CONDITIONS, tag(hers)]
    ]
    assert {(reply.status, reply.body, "etag" in reply.headers) for reply in replies} == {
        (
            404,
            b'{"error":"Task not found","code":"NOT_FOUND","detail":"Task not found","message":"Task not found"}',
            False,
        )
    }
    assert is_as_it_was(ada, hers)


@each_write
@pytest.mark.parametrize(
    "if_match", ["", "7", '"7', '"a" "b"', '*, "7"', 'w/"7"', '"7 8"', ",", "'7'"]
)
def test_a_malformed_if_match_is_400_before_404_and_412(
    ada: Person, method: str, end: str, body: bytes | None, if_match: str
) -> None:
    task = ada.has("Buy milk")
    for target in (at(ada, task), at(ada, 0)):
        reply = write(ada, method, target + end, body, if_match)
        assert (reply.status, reply.json()["code"]) == (400, "VALIDATION_ERROR")
        assert reply.json()["errors"] == [{"field": "If-Match", "message": f"If-Match {LIST_TEXT}"}]
    assert is_as_it_was(ada, task)


def test_what_is_wrong_with_a_body_is_said_before_what_a_condition_finds(ada: Person) -> None:
    task = ada.has("Buy milk")
    for target, body in (
        (at(ada, task), b'{"title":""}'),
        (ada.tasks, b"{}"),
        (at(ada, task) + "/complete", b"[]"),
    ):
        method = "POST" if target == ada.tasks else "PATCH"
        assert write(ada, method, target, body, '"0"').status == 400
    assert write(ada, "DELETE", f"{ada.tasks}/abc", None, '"0"').status == 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", b'{"title":"a"}'),
        *[(method, "/{id}" + end, body) for method, end, body in WRITES],
    ],
)
@pytest.mark.parametrize("value", ["*", '"1"', "7"])
def test_if_none_match_on_a_write_is_refused_not_passed_over(
    ada: Person, method: str, path: str, body: bytes | None, value: str
) -> None:
    task = ada.has("Buy milk")
    headers = {**(JSON if body else {}), "If-None-Match": value}
    reply = ask(ada, method, ada.tasks + path.format(id=task["id"]), body, headers)
    assert (reply.status, [problem["field"] for problem in reply.json()["errors"]]) == (
        400,
        ["If-None-Match"],
    )
    assert is_as_it_was(ada, task)
    assert ada.get().json()["data"][0] == task


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("value", ["*", "{tag}", "7"])
def test_if_match_on_a_read_is_refused_not_passed_over(
    ada: Person, method: str, value: str
) -> None:
    task = ada.has("Buy milk")
    for path in ("", f"/{task['id']}"):
        reply = read(ada, path, "", method, **{"If-Match": value.format(tag=tag(task))})
        assert reply.status == 400
        if method == "GET":
            assert [problem["field"] for problem in reply.json()["errors"]] == ["If-Match"]


# --- If-None-Match ---


def is_not_modified(reply: Reply, etag: str) -> bool:
    """RFC 9110 section 15.4.5: the fields of the 200, no content; and what every answer of ours carries."""
    own = {
        name: reply.headers.get(name)
        for name in ("etag", "cache-control", "vary", "x-content-type-options")
    }
    return (
        (reply.status, reply.body) == (304, b"")
        and own
        == {
            "etag": etag,
            "cache-control": "private, no-cache",
            "vary": "Origin",
            "x-content-type-options": "nosniff",
        }
        and not {"content-length", "content-type", "transfer-encoding"} & set(reply.headers)
        and bool(reply.headers["x-request-id"])
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "known", ["{tag}", "W/{tag}", "*", '"0", {tag}', 'W/"a,b",,{tag} ,'], ids=str
)
def test_a_task_that_is_known_is_304(ada: Person, method: str, known: str) -> None:
    task = ada.has("Buy milk")
    reply = read(ada, f"/{task['id']}", known.format(tag=tag(task)), method, Origin=ORIGIN)
    assert is_not_modified(reply, tag(task))
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert reply.headers["access-control-allow-credentials"] == "true"
    assert "ETag" in reply.headers["access-control-expose-headers"].split(", ")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_task_that_is_known_otherwise_is_sent(ada: Person, method: str) -> None:
    task = ada.has("Buy milk")
    changed = ada.put(task["id"], {}).json()["data"]
    for known in (tag(task), f"W/{tag(task)}", '"*"', '"abc"', f'"0{changed["version"]}"'):
        reply = read(ada, f"/{task['id']}", known, method)
        assert (reply.status, reply.headers["etag"]) == (200, tag(changed))
        assert method == "HEAD" or reply.data == changed


def test_an_absent_or_foreign_task_is_404_whatever_is_known(ada: Person, bob: Person) -> None:
    task = ada.has("Buy milk")
    for known in ("*", tag(task), f"W/{tag(task)}"):
        assert read(bob, f"/{task['id']}", known).status == 404
        assert read(bob, "/0", known).status == 404


@pytest.mark.parametrize("known", ["7", '"7', "", '*, "7"', ","])
@pytest.mark.parametrize("path", ["", "/0", "?limit=1"])
def test_a_malformed_if_none_match_is_400(ada: Person, path: str, known: str) -> None:
    reply = ask(ada, "GET", ada.tasks + path, None, {"If-None-Match": known})
    assert (reply.status, reply.json()["errors"]) == (
        400,
        [{"field": "If-None-Match", "message": f"If-None-Match {LIST_TEXT}"}],
    )


QUERIES = [
    "",
    "?filter=pending",
    "?filter=completed",
    "?status=all",
    "?limit=1",
    "?limit=500&filter=pending",
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("query", QUERIES)
def test_a_list_that_is_known_is_304_and_another_is_sent(
    ada: Person, method: str, query: str
) -> None:
    for title in ("Buy milk", "Buy bread"):
        ada.has(title)
    etag = read(ada, query).headers["etag"]
    for known in (etag, f"W/{etag}", "*", f'"x", {etag}'):
        assert is_not_modified(read(ada, query, known, method), etag)
    for known in ('"0"', '"x"', f'"0{etag[1:]}'):
        reply = read(ada, query, known, method)
        assert (reply.status, reply.headers["etag"]) == (200, etag)
        assert reply.headers["cache-control"] == "private, no-cache"
        assert (reply.body == b"") == (method == "HEAD")


def test_a_page_that_is_known_is_304_and_its_cursor_is_checked_first(ada: Person) -> None:
    for title in ("Buy milk", "Buy bread"):
        ada.has(title)
    first = read(ada, "?limit=1")
    page = f"?limit=1&cursor={first.json()['next_cursor']}"
    etag = read(ada, page).headers["etag"]
    assert etag == first.headers["etag"]
    assert is_not_modified(read(ada, page, etag), etag)
    assert read(ada, page + "x", etag).status == 400
    assert read(ada, "?filter=done", etag).status == 400


CHANGES: dict[str, Callable[[Person, dict[str, Any]], Any]] = {
    "create": lambda person, _: person.post({"title": "New"}),
    "PUT": lambda person, task: person.put(task["id"], {"title": "B"}),
    "PUT of nothing": lambda person, task: person.put(task["id"], {}),
    "PATCH": lambda person, task: person.patch(f"/{task['id']}", json={"description": "d"}),
    "toggle": lambda person, task: person.patch(f"/{task['id']}/complete"),
    "set": lambda person, task: person.patch(f"/{task['id']}/complete", json={"completed": True}),
    "delete": lambda person, task: person.delete(task["id"]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_of_any_task_gives_every_list_a_new_etag(
    ada: Person, change: Callable[[Person, dict[str, Any]], Any]
) -> None:
    task = ada.has("Buy milk")
    ada.has("The newest")
    before = {query: read(ada, query).headers["etag"] for query in QUERIES}
    assert change(ada, task).status_code in (200, 201)
    for query, etag in before.items():
        reply = read(ada, query, etag)
        assert (reply.status, number(reply.headers["etag"])) == (200, number(etag) + 1)


def test_anothers_change_and_what_changes_nothing_keep_the_lists_etag(
    ada: Person, bob: Person
) -> None:
    task = ada.has("Buy milk")
    etag = read(ada).headers["etag"]
    bobs = bob.has("Bob's own")
    for change in CHANGES.values():
        change(bob, bobs)
        assert read(ada, "", etag).status == 304
    for reply in (
        ada.patch(f"/{task['id']}/complete", json={"completed": False}),
        ada.post({"title": "Again", "uid": task["uid"]}),
        ada.put(task["id"], {"title": ""}),
        ada.put(0, {}),
        ada.put(task["id"], {}, headers={"If-Match": '"0"'}),
    ):
        assert reply.status_code in (200, 400, 404, 412)
        assert is_not_modified(read(ada, "", etag), etag)


def test_a_set_that_changes_nothing_keeps_the_tasks_etag(ada: Person) -> None:
    task = ada.has("Buy milk")
    completed = ada.patch(f"/{task['id']}/complete", json={"completed": True})
    again = ada.patch(
        f"/{task['id']}/complete", json={"completed": True}, headers={"If-Match": "*"}
    )
    assert completed.headers["etag"] == again.headers["etag"] == tag(again.json()["data"])
    assert is_not_modified(
        read(ada, f"/{task['id']}", again.headers["etag"]), again.headers["etag"]
    )


def test_a_known_list_is_answered_without_a_look_at_any_task(
    ada: Person, database_url: str
) -> None:
    """While `tasks` is locked against every reader, the plan of a query that names it included."""
    ada.has("Buy milk")
    etag = read(ada).headers["etag"]

    async def ask_meanwhile() -> list[Reply]:
        connection = await asyncpg.connect(database_url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
                known = [
                    await asyncio.to_thread(read, ada, query, etag)
                    for query in ("", "?filter=pending&limit=1")
                ]
                return [*known, await asyncio.to_thread(read, ada, "", '"0"')]
        finally:
            await connection.close()

    whole, page, unknown = asyncio.run(ask_meanwhile())
    assert is_not_modified(whole, etag)
    assert is_not_modified(page, etag)
    assert unknown.status == 503  # so the lock does hold


# --- uid ---


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


# --- completed_at ---


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
