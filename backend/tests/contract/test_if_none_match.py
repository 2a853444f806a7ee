"""A task or a list that the client knows already is 304 (RFC 9110 section 13.1.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.contract.test_conditional import LIST_TEXT
from tests.contract.wire import ORIGIN, Reply, ask, number, read, tag
from tests.people import Person


def is_not_modified(reply: Reply, etag: str) -> bool:
    """RFC 9110 section 15.4.5: the fields of the 200, no content; and what every answer of ours
    carries."""
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
