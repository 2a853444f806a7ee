"""`Idempotency-Key` (the IETF's draft): a write is done once under its key, however often it is
sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests import servers
from tests.conftest import sql
from tests.contract.conftest import at_work
from tests.contract.wire import JSON, ORIGIN, Reply, ask, number, say
from tests.people import Person, token_for

Meet = Callable[[str], Person]

KEY_TEXT = "Idempotency-Key must be given once, as 1 to 255 visible ASCII characters"
KEPT = ("content-type", "content-length", "etag", "location", "cache-control")
NEW = b'{"title":"New"}'
WRITES = [  # method, what follows the tasks' path, body
    ("POST", "", NEW),
    ("POST", "", b'{"title":"New","uid":"{uid}"}'),
    ("PUT", "/{id}", b'{"title":"B"}'),
    ("PUT", "/{id}", b"{}"),
    ("PATCH", "/{id}", b'{"description":"d"}'),
    ("PATCH", "/{id}/complete", None),
    ("PATCH", "/{id}/complete", b"{}"),
    ("PATCH", "/{id}/complete", b'{"completed":true}'),
    ("PATCH", "/{id}/complete", b'{"completed":false}'),  # which it is already
    ("DELETE", "/{id}", None),
]
WRITE_NAMES = [f"{method}{path} {(body or b'').decode()}" for method, path, body in WRITES]
each_write = pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=WRITE_NAMES)


@pytest.fixture
def key() -> str:
    return str(uuid4())


def write(
    person: Person, method: str, path: str, body: bytes | None, key: str, **more: str
) -> Reply:
    headers = {**(JSON if body else {}), "Idempotency-Key": key, **more}
    return ask(person, method, person.tasks + path, body, headers)


def create(person: Person, key: str, body: bytes = NEW, /, **more: str) -> Reply:
    return write(person, "POST", "", body, key, **more)


def replays(again: Reply, first: Reply) -> bool:
    return (
        first.headers.get("idempotency-replayed") is None
        and again.headers.get("idempotency-replayed") == "true"
        and (again.status, again.body) == (first.status, first.body)
        and all(again.headers.get(name) == first.headers.get(name) for name in KEPT)
    )


def is_done_anew(reply: Reply, status: int = 201) -> bool:
    return reply.status == status and "idempotency-replayed" not in reply.headers


def version(person: Person) -> str:
    """Of the list: it moves with every change."""
    return ask(person, "GET", person.tasks).headers["etag"]


# --- replay ---


@each_write
def test_a_write_that_is_sent_again_is_not_done_again_but_answered_as_at_first(
    ada: Person, key: str, method: str, path: str, body: bytes | None
) -> None:
    path = path.format(id=ada.has("Buy milk")["id"])
    body = body and body.replace(b"{uid}", key.encode())
    first = write(ada, method, path, body, key)
    assert first.status == (201 if method == "POST" else 200)
    after = version(ada)
    for _ in range(2):
        assert replays(write(ada, method, path, body, key), first)
    assert version(ada) == after


def test_a_replay_shows_the_task_as_it_was_then_with_its_etag_of_then(
    ada: Person, key: str
) -> None:
    first = create(ada, key)
    now = ada.put(first.data["id"], {"title": "Changed"}).json()["data"]
    again = create(ada, key)
    assert replays(again, first)
    assert (again.data["title"], number(again.headers["etag"])) == ("New", now["version"] - 1)
    assert ask(ada, "GET", again.headers["location"]).data == now


def test_a_replay_may_be_read_by_the_frontend_and_has_an_id_of_its_own(
    ada: Person, key: str
) -> None:
    first, again = (create(ada, key, Origin=ORIGIN) for _ in range(2))
    assert replays(again, first)
    assert again.headers["access-control-allow-origin"] == ORIGIN
    assert "Idempotency-Replayed" in again.headers["access-control-expose-headers"].split(", ")
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


def test_a_200_for_a_known_uid_is_kept_as_it_was(ada: Person, key: str) -> None:
    task = ada.has("Buy milk")
    first, again = (
        create(ada, key, f'{{"title":"a","uid":"{task["uid"]}"}}'.encode()) for _ in range(2)
    )
    assert (first.status, first.data) == (200, task)
    assert replays(again, first)


def test_without_a_key_a_write_is_done_as_often_as_it_is_sent(person: Meet) -> None:
    dora = person("dora")
    for _ in range(3):
        reply = ask(dora, "POST", dora.tasks, NEW, JSON)
        assert is_done_anew(reply)
    assert len(dora.get().json()["data"]) == 3


def test_text_is_replayed_byte_by_byte(ada: Person, key: str) -> None:
    sent = '{"title":"\\u00e9é\U0001f600 \\u0001\\u2028.","description":"\\"\\\\ </script> \\r\\n"}'.encode()
    first, again = (create(ada, key, sent) for _ in range(2))
    assert first.data["title"] == "éé\U0001f600 \x01\u2028."
    assert replays(again, first)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("{key}", '"{key}"'),
        ('"{key}"', "{key}"),
        ("{key}", " {key}\t"),
        ('a"{key}', '"a\\"{key}"'),
        ("a\\{key}", '"a\\\\{key}"'),
        ("{key},;=", '"{key},;="'),
    ],
    ids=["bare, quoted", "quoted, bare", "blanks around", "a quote", "a backslash", "signs"],
)
def test_a_key_is_the_same_bare_and_quoted(ada: Person, key: str, first: str, again: str) -> None:
    done = create(ada, first.format(key=key))
    assert replays(create(ada, again.format(key=key)), done)


@pytest.mark.parametrize("length", [1, 255])
def test_a_key_has_1_to_255_characters_and_every_one_counts(person: Meet, length: int) -> None:
    dora = person("dora")
    first = create(dora, "a" * length)
    assert is_done_anew(first)
    assert replays(create(dora, f'"{"a" * length}"'), first)
    for other in ("a" * (length - 1) + "b", "A" * length):
        assert is_done_anew(create(dora, other))


# --- one key, one request ---


def test_the_same_key_with_another_request_is_422(ada: Person, key: str) -> None:
    task, other = ada.has("Buy milk"), ada.has("Buy bread")
    first = write(ada, "PUT", f"/{task['id']}", b'{"completed":true}', key)
    assert first.status == 200
    after = version(ada)
    for method, path, body in [
        ("PUT", f"/{task['id']}", b'{"completed":false}'),
        ("PUT", f"/{task['id']}", b'{"completed": true}'),  # the bytes count
        ("PUT", f"/{task['id']}", b"{}"),
        ("PUT", f"/{other['id']}", b'{"completed":true}'),
        ("PUT", "/0", b'{"completed":true}'),  # before 404
        ("PATCH", f"/{task['id']}", b'{"completed":true}'),
        ("PATCH", f"/{task['id']}/complete", b'{"completed":true}'),
        ("PATCH", f"/{task['id']}/complete", None),
        ("DELETE", f"/{task['id']}", None),
        ("POST", "", NEW),
    ]:
        reply = write(ada, method, path, body, key)
        assert (reply.status, reply.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED"), (
            method,
            path,
            body,
        )
        assert "idempotency-replayed" not in reply.headers
        assert (reply.headers["cache-control"], "etag" in reply.headers) == ("no-store", False)
    assert version(ada) == after
    assert replays(write(ada, "PUT", f"/{task['id']}", b'{"completed":true}', key), first)


def test_what_is_the_same_path_is_the_same_request(ada: Person, key: str) -> None:
    first = create(ada, key)
    assert replays(write(ada, "POST", "/", NEW, key), first)
    encoded = f"/api/%{ord(ada.id[0]):02x}{ada.id[1:]}/%74asks"
    assert replays(ask(ada, "POST", encoded, NEW, {**JSON, "Idempotency-Key": key}), first)


@pytest.mark.parametrize("path", ["/v1/trash/{id}/restore", "/v1/changes/{deletion}/undo"])
@pytest.mark.parametrize(("first", "other"), [(b"a", b"b"), (None, b"{}"), (b"{}", None)])
def test_a_body_that_is_ignored_counts_too(
    ada: Person, key: str, path: str, first: bytes | None, other: bytes | None
) -> None:
    task = ada.has("Buy milk")
    ada.delete(task["id"])
    path = path.format(id=task["id"], deletion=task["version"] + 1)
    headers = {"Idempotency-Key": key}
    done = ask(ada, "POST", path, first, headers)
    assert is_done_anew(done, 200)
    reused = ask(ada, "POST", path, other, headers)
    assert (reused.status, reused.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert replays(ask(ada, "POST", path, first, headers), done)


def test_one_users_key_is_nothing_to_another(ada: Person, bob: Person, key: str) -> None:
    first = create(ada, key)
    other = create(bob, key, b'{"title":"Bob\'s own"}')
    assert is_done_anew(other)
    assert other.data["user_id"] == bob.id
    assert replays(create(ada, key), first)
    assert replays(create(bob, key, b'{"title":"Bob\'s own"}'), other)
    assert ask(bob, "POST", ada.tasks, NEW, {**JSON, "Idempotency-Key": key}).status == 403
    assert (
        ask(
            str(ada.client.base_url), "POST", ada.tasks, NEW, {**JSON, "Idempotency-Key": key}
        ).status
        == 401
    )


# --- order: 400, then the key, then 404 and 412 ---


def test_a_delete_that_is_sent_again_is_200_again_before_404(ada: Person, key: str) -> None:
    task = ada.has("Buy milk")
    first, again = (write(ada, "DELETE", f"/{task['id']}", None, key) for _ in range(2))
    assert first.status == 200
    assert replays(again, first)
    assert write(ada, "DELETE", f"/{task['id']}", None, f"{key}-2").status == 404


def test_a_write_that_is_sent_again_is_answered_before_its_task_is_missed(
    ada: Person, key: str
) -> None:
    task = ada.has("Buy milk")
    first = write(ada, "PUT", f"/{task['id']}", b'{"title":"B"}', key)
    ada.delete(task["id"])
    assert replays(write(ada, "PUT", f"/{task['id']}", b'{"title":"B"}', key), first)


@pytest.mark.parametrize(("method", "path", "body"), WRITES[2:], ids=WRITE_NAMES[2:])
def test_a_guarded_write_that_is_sent_again_is_answered_before_412(
    ada: Person, key: str, method: str, path: str, body: bytes | None
) -> None:
    task = ada.has("Buy milk")
    path, guard = path.format(id=task["id"]), {"If-Match": f'"{task["version"]}"'}
    first = write(ada, method, path, body, key, **guard)
    assert first.status == 200
    if method != "DELETE":
        ada.put(task["id"], {"title": "Meanwhile"})  # so that the condition surely fails by now
    assert replays(write(ada, method, path, body, key, **guard), first)


def test_what_is_wrong_with_a_request_is_said_before_its_key_is_looked_up(
    ada: Person, key: str
) -> None:
    first = create(ada, key)
    for reply in (
        create(ada, key, b'{"title":""}'),
        create(ada, key, b"{"),
        create(ada, key, **{"If-Match": "7"}),
        create(ada, key, **{"If-None-Match": "*"}),
        write(ada, "DELETE", "/abc", None, key),
    ):
        assert (reply.status, reply.json()["code"]) == (400, "VALIDATION_ERROR")
    assert create(ada, key, **{"Content-Type": "text/plain"}).status == 415
    assert replays(create(ada, key), first)


# --- malformed ---


@pytest.mark.parametrize(
    "sent",
    [
        *(
            "",
            " ",
            '""',
            '"',
            '"a',
            '"a"b',
            '"a b"',
            "a b",
            "a\tb",
            "a" * 256,
            f'"{"a" * 256}"',
            '"a\\b"',
            '"a\\"',
        ),
        *('"a";p=1', '"a", "b"', "é", "a\xa0"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize(
    ("method", "path", "body"), [("POST", "", NEW), ("DELETE", "/0", None)], ids=["POST", "DELETE"]
)
def test_a_malformed_key_is_400_before_404(
    ada: Person, sent: str, method: str, path: str, body: bytes | None
) -> None:
    before = version(ada)
    reply = write(ada, method, path, body, sent)
    assert (reply.status, reply.json()["errors"]) == (
        400,
        [{"field": "Idempotency-Key", "message": KEY_TEXT}],
    )
    assert version(ada) == before


@pytest.mark.parametrize("other", ["{key}", '"{key}"', "other", ""])
def test_a_key_that_is_given_twice_is_400_even_if_both_agree(
    ada: Person, key: str, other: str
) -> None:
    lines = f"Idempotency-Key: {key}\r\nIdempotency-Key: {other.format(key=key)}\r\n"
    head = f"DELETE {ada.tasks}/0 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ada.token}\r\n{lines}\r\n"
    reply = say(ada, head.encode())
    assert (reply.status, reply.json()["errors"]) == (
        400,
        [{"field": "Idempotency-Key", "message": KEY_TEXT}],
    )


@pytest.mark.parametrize("sent", ["a", "a b", ""])
def test_a_key_on_a_read_is_ignored(ada: Person, sent: str) -> None:
    task = ada.has("Buy milk")
    for method, path in (("GET", ""), ("GET", f"/{task['id']}"), ("HEAD", f"/{task['id']}")):
        for _ in range(2):
            assert is_done_anew(write(ada, method, path, None, sent), 200)
    assert ask(ada, "GET", "/health", None, {"Idempotency-Key": sent}).status == 200


# --- what is not kept ---


def test_a_404_is_not_kept(ada: Person, key: str) -> None:
    task = ada.has("Buy milk")
    assert write(ada, "PUT", "/0", b"{}", key).status == 404
    reply = write(ada, "PUT", f"/{task['id']}", b"{}", key)
    assert is_done_anew(reply, 200)
    assert replays(write(ada, "PUT", f"/{task['id']}", b"{}", key), reply)


def test_the_very_request_that_was_404_is_done_when_there_is_something_to_do(
    ada: Person, key: str, database_url: str
) -> None:
    task = ada.has("Buy milk")
    hide = "UPDATE tasks SET user_id = $1 WHERE user_id = $2 AND id = $3"
    sql(database_url, hide, f"{ada.id}-hidden", ada.id, task["id"])
    assert write(ada, "PATCH", f"/{task['id']}/complete", None, key).status == 404
    sql(database_url, hide, ada.id, f"{ada.id}-hidden", task["id"])
    assert is_done_anew(write(ada, "PATCH", f"/{task['id']}/complete", None, key), 200)


def test_a_412_is_not_kept_and_the_mended_request_is_done_under_its_key(
    ada: Person, key: str
) -> None:
    task = ada.has("Buy milk")
    refused = write(ada, "PUT", f"/{task['id']}", b'{"title":"B"}', key, **{"If-Match": '"0"'})
    assert (refused.status, refused.data) == (412, task)
    mended = {"If-Match": refused.headers["etag"]}
    done = write(ada, "PUT", f"/{task['id']}", b'{"title":"B"}', key, **mended)
    assert is_done_anew(done, 200)
    assert replays(write(ada, "PUT", f"/{task['id']}", b'{"title":"B"}', key, **mended), done)


def test_a_400_is_not_kept_and_the_mended_request_is_done_under_its_key(
    ada: Person, key: str
) -> None:
    assert create(ada, key, b'{"title":""}').status == 400
    assert is_done_anew(create(ada, key))


def test_refused_writes_leave_no_row_behind(person: Meet, key: str, database_url: str) -> None:
    dora = person("dora")
    for reply, status in (
        (write(dora, "DELETE", "/0", None, key), 404),
        (create(dora, key, **{"If-Match": '"7"'}), 412),
        (create(dora, key, b"{}"), 400),
    ):
        assert reply.status == status
    assert rows(database_url, dora.id) == {
        "tasks": 0,
        "changes": 0,
        "change_counters": 0,
        "idempotency_keys": 0,
    }


def test_a_write_that_fails_at_its_commit_leaves_neither_key_nor_change(
    troubled: servers.Running, database_url: str, key: str
) -> None:
    user = f"eve-{uuid4().hex[:12]}"
    headers = {**JSON, "Authorization": f"Bearer {token_for(user)}", "Idempotency-Key": key}
    failed = ask(
        troubled.url, "POST", f"/api/{user}/tasks", b'{"title":"Break at commit"}', headers
    )
    assert failed.status == 500
    failing = database_url.replace("/todo?", "/troubled?")
    assert rows(failing, user) == {
        "tasks": 0,
        "changes": 0,
        "change_counters": 0,
        "idempotency_keys": 0,
    }
    mended = ask(troubled.url, "POST", f"/api/{user}/tasks", NEW, headers)
    assert is_done_anew(mended)
    assert mended.data["version"] == 1
    assert rows(failing, user) == {
        "tasks": 1,
        "changes": 1,
        "change_counters": 1,
        "idempotency_keys": 1,
    }


def rows(url: str, user: str) -> dict[str, int]:
    """How many rows of each table are this user's."""
    names = ("tasks", "changes", "change_counters", "idempotency_keys")
    return {
        name: sql(url, f"SELECT count(*) AS n FROM {name} WHERE user_id = $1", user)[0]["n"]
        for name in names
    }


# --- 24 hours ---


@pytest.mark.parametrize(
    ("age", "known"), [("23 hours 59 minutes", True), ("24 hours 1 second", False)]
)
def test_a_key_is_kept_for_24_hours_and_then_is_new(
    person: Meet, key: str, database_url: str, age: str, known: bool
) -> None:
    dora = person("dora")
    first = create(dora, key)
    grow_old = (
        f"UPDATE idempotency_keys SET at = at - interval '{age}' WHERE user_id = $1 AND key = $2"
    )
    sql(database_url, grow_old, dora.id, key)
    if known:
        assert replays(create(dora, key), first)
        assert create(dora, key, b'{"title":"Other"}').status == 422
        return
    second = create(dora, key, b'{"title":"Other"}')
    assert is_done_anew(second)
    assert second.data["id"] != first.data["id"]
    assert replays(create(dora, key, b'{"title":"Other"}'), second)
    assert create(dora, key).status == 422


# --- still running ---


@contextmanager
def holding(url: str, user: str) -> Iterator[None]:
    """Meanwhile no write of this user's comes to its end: the row that each must lock is locked."""
    loop = asyncio.new_event_loop()

    async def lock() -> Any:
        connection = await asyncpg.connect(url)
        await connection.execute("BEGIN")
        await connection.execute("SELECT FROM change_counters WHERE user_id = $1 FOR UPDATE", user)
        return connection

    connection = loop.run_until_complete(lock())
    try:
        yield
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


def test_a_retry_waits_for_the_first_to_end_and_gets_its_answer(
    person: Meet, key: str, database_url: str
) -> None:
    dora = person("dora")
    dora.has("Buy milk")
    with ThreadPoolExecutor(3) as threads:
        with holding(database_url, dora.id):
            sent = [threads.submit(create, dora, key) for _ in range(3)]
            time.sleep(0.5)
            assert not any(one.done() for one in sent)
        replies = [one.result() for one in sent]
    [first] = [reply for reply in replies if "idempotency-replayed" not in reply.headers]
    assert first.status == 201
    assert [replays(reply, first) for reply in replies if reply is not first] == [True, True]
    assert len(dora.get().json()["data"]) == 2


def test_another_request_under_a_key_at_work_waits_too_and_is_422(
    person: Meet, key: str, database_url: str
) -> None:
    dora = person("dora")
    dora.has("Buy milk")
    with ThreadPoolExecutor(2) as threads:
        with holding(database_url, dora.id):
            first = threads.submit(create, dora, key)
            time.sleep(0.3)
            other = threads.submit(create, dora, key, b'{"title":"Other"}')
            time.sleep(0.2)
            assert not other.done()
        assert (first.result().status, other.result().status) == (201, 422)


def test_who_waits_2_seconds_is_told_that_it_still_runs_and_when_to_come_back(
    person: Meet, key: str, database_url: str
) -> None:
    """The same request is at work on another server."""
    dora = person("dora")
    dora.has("Buy milk")
    with at_work(database_url, dora.id, key):
        began = time.monotonic()
        refused = create(dora, key, Origin=ORIGIN)
        seconds = time.monotonic() - began
    assert refused.status == 409
    assert 1.9 <= seconds <= 2.6
    assert (refused.json()["code"], refused.headers["retry-after"]) == (
        "IDEMPOTENCY_IN_PROGRESS",
        "1",
    )
    assert refused.headers["access-control-allow-origin"] == ORIGIN
    assert refused.headers["cache-control"] == "no-store"
    assert is_done_anew(create(dora, key))
    assert len(dora.get().json()["data"]) == 2


def test_other_keys_do_not_wait(person: Meet, key: str, ada: Person, database_url: str) -> None:
    dora = person("dora")
    dora.has("Buy milk")
    done = create(dora, key)
    with ThreadPoolExecutor(1) as threads, holding(database_url, dora.id):
        stuck = threads.submit(create, dora, f"{key}-2")
        time.sleep(0.2)
        assert replays(create(dora, key), done)  # the answer of a key that is done
        assert is_done_anew(create(ada, f"{key}-2"))  # another user's same key
        assert not stuck.done()
