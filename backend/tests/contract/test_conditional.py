"""Conditional requests (RFC 9110 section 13): versions, ETags, and writes with If-Match."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import sql
from tests.contract.wire import JSON, ORIGIN, Reply, ask, number, read, say, tag
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
