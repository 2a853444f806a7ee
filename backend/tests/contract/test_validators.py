"""Contract, section "Validators": no two users, and no two lives of a database, ever share an ETag."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import sql
from tests.contract.wire import JSON, Reply, ask
from tests.people import Person

Meet = Callable[[str], Person]
Alike = tuple[Person, Person, dict[str, Any], dict[str, Any]]

TABLES = ("tasks", "changes", "change_counters")
TRASH, CHANGES, UNDO = "/v1/trash", "/v1/changes", "/v1/undo"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXPIRED = "CURSOR_EXPIRED"


def read(person: Person, url: str, known: str | None = None, method: str = "GET") -> Reply:
    return ask(person, method, url, None, {} if known is None else {"If-None-Match": known})


def one(person: Person, task: dict[str, Any]) -> str:
    return f"{person.tasks}/{task['id']}"


def parts(etag: str) -> tuple[int, int, str]:
    """Number, microseconds and mark, as they stand in an ETag."""
    found = re.fullmatch(r'"(0|[1-9][0-9]*)-(0|[1-9a-z][0-9a-z]*)-([0-9a-z]{6})"', etag)
    assert found, etag
    return int(found[1]), int(found[2], 36), found[3]


def microseconds(time: str) -> int:
    return (datetime.fromisoformat(time) - EPOCH) // timedelta(microseconds=1)


def saved(url: str, user_id: str) -> dict[str, str]:
    """A backup of what one user has."""
    rows = {
        table: f"SELECT coalesce(jsonb_agg(t), '[]') AS rows FROM {table} AS t WHERE user_id = $1"
        for table in TABLES
    }
    return {table: sql(url, statement, user_id)[0]["rows"] for table, statement in rows.items()}


def put_back(url: str, user_id: str, backup: dict[str, str]) -> None:
    """As a restored backup puts it back: what was written since is gone, and its numbers come
    again."""
    for table in TABLES:
        sql(url, f"DELETE FROM {table} WHERE user_id = $1", user_id)
        rows = f"SELECT * FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb)"
        sql(url, f"INSERT INTO {table} OVERRIDING SYSTEM VALUE {rows}", backup.get(table, "[]"))


class Restored:
    """Somebody whose task was edited twice, with the database restored in between: one number, two
    texts."""

    def __init__(self, person: Person, url: str) -> None:
        self.person = person
        self.task = person.has("Buy milk")
        thrown = person.has("Old")
        person.delete(thrown["id"])
        self.trashed = f"{TRASH}/{thrown['id']}"
        backup = saved(url, person.id)
        self.edit("Lost")
        self.lost = self.etags()
        put_back(url, person.id, backup)
        self.now = self.edit("Kept")

    def edit(self, title: str) -> dict[str, Any]:
        edited: dict[str, Any] = self.person.put(self.task["id"], {"title": title}).json()["data"]
        return edited

    def etags(self) -> dict[str, str]:
        urls = (one(self.person, self.task), self.person.tasks, TRASH)
        return {url: read(self.person, url).headers["etag"] for url in urls}


@pytest.fixture
def dora(person: Meet) -> Person:
    return person("dora")


@pytest.fixture
def restored(dora: Person, database_url: str) -> Restored:
    return Restored(dora, database_url)


# --- what a validator is made of ---


def test_the_etag_of_a_task_is_its_version_the_time_of_that_change_and_a_mark_of_its_user(
    dora: Person,
) -> None:
    created = dora.post({"title": "Buy milk"})
    task = created.json()["data"]
    for reply in (
        created,
        dora.put(task["id"], {}),
        dora.patch(f"/{task['id']}/complete"),
        dora.get(f"/{task['id']}"),
    ):
        shown = reply.json()["data"]
        number, at, mark = parts(reply.headers["etag"])
        assert (number, at) == (shown["version"], microseconds(shown["updated_at"]))
        assert mark == parts(created.headers["etag"])[2]


def test_the_etag_of_a_list_and_of_the_trash_is_that_of_the_users_last_change(dora: Person) -> None:
    task = dora.has("Buy milk")
    dora.delete(dora.has("Old")["id"])
    last = ask(dora, "GET", CHANGES).data[-1]
    for url in (dora.tasks, f"{dora.tasks}?limit=1", f"{dora.tasks}?filter=completed", TRASH):
        assert parts(read(dora, url).headers["etag"])[:2] == (last["seq"], microseconds(last["at"]))
    assert parts(read(dora, one(dora, task)).headers["etag"])[0] == task["version"]


def test_who_has_written_nothing_yet_has_a_mark_too(dora: Person, ada: Person) -> None:
    etag = read(dora, dora.tasks).headers["etag"]
    assert parts(etag) == (0, 0, parts(read(dora, TRASH).headers["etag"])[2])
    assert etag != read(ada, ada.tasks).headers["etag"]


# --- another user ---


@pytest.fixture
def alike(person: Meet) -> Alike:
    """Two who did the same: their changes have the same numbers."""
    dora, emil = person("dora"), person("emil")
    hers, his = (whose.has(f"{whose.id}'s") for whose in (dora, emil))
    for whose in (dora, emil):
        whose.delete(whose.has(f"{whose.id}'s rubbish")["id"])
    return dora, emil, hers, his


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "url", [TRASH, f"{TRASH}?limit=1", "{tasks}", "{tasks}?filter=pending", "{tasks}?limit=1"]
)
def test_what_another_user_was_given_is_never_304(alike: Alike, url: str, method: str) -> None:
    dora, emil, *_ = alike
    hers = read(dora, url.format(tasks=dora.tasks))
    for known in (hers.headers["etag"], f"W/{hers.headers['etag']}"):
        his = read(emil, url.format(tasks=emil.tasks), known, method)
        assert his.status == 200
        assert method == "HEAD" or his.data != hers.data


def test_anothers_etag_is_no_version_of_mine(alike: Alike) -> None:
    dora, emil, hers, his = alike
    assert hers["version"] == his["version"]
    foreign = read(dora, one(dora, hers)).headers["etag"]
    assert read(emil, one(emil, his), foreign).status == 200
    refused = ask(emil, "PUT", one(emil, his), b"{}", {**JSON, "If-Match": foreign})
    assert (refused.status, refused.data) == (412, his)
    created = ask(
        emil,
        "POST",
        emil.tasks,
        b'{"title":"a"}',
        {**JSON, "If-Match": read(dora, TRASH).headers["etag"]},
    )
    assert created.status == 412


# --- another life of the database ---

WRITES = [
    ("PUT", b'{"title":"New"}', ""),
    ("PATCH", b'{"title":"New"}', ""),
    ("PATCH", None, "/complete"),
    ("PATCH", b'{"completed":true}', "/complete"),
    ("DELETE", None, ""),
]


@pytest.mark.parametrize(("method", "body", "end"), WRITES)
def test_a_write_that_means_the_text_of_before_a_restore_is_412(
    restored: Restored, method: str, body: bytes | None, end: str
) -> None:
    dora, url = restored.person, one(restored.person, restored.task)
    lost = restored.lost[url]
    now = read(dora, url).headers["etag"]
    assert parts(lost)[0] == parts(now)[0] == restored.now["version"]
    headers = JSON if body else {}
    refused = ask(dora, method, url + end, body, {**headers, "If-Match": lost})
    assert (refused.status, refused.data, refused.headers["etag"]) == (412, restored.now, now)
    assert read(dora, url).data == restored.now
    assert (
        ask(dora, method, url + end, body, {**headers, "If-Match": f"{lost}, {now}"}).status == 200
    )


def test_a_task_in_the_trash_of_before_a_restore_is_neither_restored_nor_purged(
    dora: Person, database_url: str
) -> None:
    task = dora.has("Buy milk")
    backup = saved(database_url, dora.id)
    dora.delete(task["id"])
    dora.request("POST", f"{TRASH}/{task['id']}/restore")
    lost = read(dora, one(dora, task)).headers["etag"]
    put_back(database_url, dora.id, backup)
    dora.put(task["id"], {"title": "Another"})
    dora.delete(task["id"])
    [shown] = read(dora, TRASH).data
    assert parts(lost)[0] == shown["version"]
    for method, url in (
        ("POST", f"{TRASH}/{task['id']}/restore"),
        ("DELETE", f"{TRASH}/{task['id']}"),
    ):
        assert ask(dora, method, url, None, {"If-Match": lost}).status == 412
    assert read(dora, TRASH).data == [shown]


@pytest.mark.parametrize("write", ["create", "undo one", "undo a group"])
def test_what_is_compared_with_the_last_change_is_412_after_a_restore(
    restored: Restored, write: str
) -> None:
    dora = restored.person
    lost, last = restored.lost[dora.tasks], ask(dora, "GET", CHANGES).data[-1]
    assert parts(lost)[0] == last["seq"]
    url, body = {
        "create": (dora.tasks, b'{"title":"a"}'),
        "undo one": (f"{CHANGES}/{last['seq']}/undo", None),
        "undo a group": (UNDO, b'{"group":"%s"}' % last["group"].encode()),
    }[write]
    headers = JSON if body else {}
    refused = ask(dora, "POST", url, body, {**headers, "If-Match": lost})
    assert (refused.status, refused.json()["code"]) == (412, "PRECONDITION_FAILED")
    now = read(dora, dora.tasks).headers["etag"]
    assert ask(dora, "POST", url, body, {**headers, "If-Match": now}).status in (200, 201)


def test_what_was_read_before_a_restore_is_never_304(restored: Restored) -> None:
    for url, lost in restored.lost.items():
        reply = read(restored.person, url, lost)
        assert (reply.status, parts(reply.headers["etag"])[0]) == (200, parts(lost)[0])
        assert read(restored.person, url, reply.headers["etag"]).status == 304


def test_what_was_read_before_a_fresh_start_is_never_304(dora: Person, database_url: str) -> None:
    first = dora.has("Buy milk")
    lost = {url: read(dora, url).headers["etag"] for url in (dora.tasks, TRASH)}
    put_back(database_url, dora.id, {})
    for url in (dora.tasks, TRASH):
        assert read(dora, url, lost[url]).status == 200
    again = dora.has("Buy bread")
    assert again["version"] == first["version"]
    for url in (dora.tasks, TRASH):
        assert read(dora, url, lost[url]).status == 200


def test_a_restore_that_lost_nothing_keeps_what_was_read(dora: Person, database_url: str) -> None:
    task = dora.has("Buy milk")
    known = {url: read(dora, url).headers["etag"] for url in (one(dora, task), dora.tasks, TRASH)}
    put_back(database_url, dora.id, saved(database_url, dora.id))
    assert {read(dora, url, etag).status for url, etag in known.items()} == {304}
    assert (
        ask(
            dora, "PUT", one(dora, task), b"{}", {**JSON, "If-Match": known[one(dora, task)]}
        ).status
        == 200
    )


# --- the bare version ---


def test_if_match_takes_the_bare_version_and_if_none_match_does_not(dora: Person) -> None:
    task = dora.has("Buy milk")
    url, bare = one(dora, task), f'"{task["version"]}"'
    for target in (url, dora.tasks, TRASH):
        assert read(dora, target, bare).status == 200
    assert ask(dora, "POST", dora.tasks, b'{"title":"a"}', {**JSON, "If-Match": bare}).status == 201
    assert ask(dora, "PUT", url, b"{}", {**JSON, "If-Match": bare}).status == 200
    assert ask(dora, "PUT", url, b"{}", {**JSON, "If-Match": bare}).status == 412


def test_all_three_parts_of_an_etag_must_hold(dora: Person) -> None:
    task = dora.has("Buy milk")
    url = one(dora, task)
    etag = read(dora, url).headers["etag"]
    number, at, mark = etag.strip('"').split("-")
    other = "aaaaaa" if mark != "aaaaaa" else "bbbbbb"
    nearly = [
        f"{int(number) + 1}-{at}-{mark}",
        f"{number}-{at[:-1]}{'0' if at[-1] != '0' else '1'}-{mark}",
        f"{number}-{at}-{other}",
        f"{number}-0{at}-{mark}",
        f"{number}-{at.upper()}-{mark}",
        f"{number}-{at}-{mark.upper()}",
        f"{number}-{at}",
        f"{number}-{mark}",
        f"{number}-{at}-{mark}-gzip",
        f"{number}-zzzzzzzzzzzzzzzzzzzz-{mark}",
        f"0{number}-{at}-{mark}",
    ]
    for tag in nearly:
        if tag == etag.strip('"'):  # a mark without letters is the same in capitals
            continue
        assert ask(dora, "PUT", url, b"{}", {**JSON, "If-Match": f'"{tag}"'}).status == 412, tag
        assert read(dora, url, f'"{tag}"').status == 200, tag
    assert ask(dora, "PUT", url, b"{}", {**JSON, "If-Match": f'"x", {etag}'}).status == 200


@pytest.mark.parametrize("condition", ["*", '"1"', '"1-0-aaaaaa"', "7"])
def test_if_none_match_on_any_write_is_400(dora: Person, condition: str) -> None:
    task = dora.has("Buy milk")
    writes = [
        ("POST", dora.tasks, b'{"title":"a"}'),
        ("PUT", one(dora, task), b"{}"),
        ("PATCH", one(dora, task), b"{}"),
        ("PATCH", f"{one(dora, task)}/complete", None),
        ("DELETE", one(dora, task), None),
        ("POST", f"{TRASH}/{task['id']}/restore", None),
        ("DELETE", f"{TRASH}/{task['id']}", None),
        ("POST", f"{CHANGES}/1/undo", None),
        ("POST", UNDO, b'{"group":"0b8c7a52-52a4-4f3c-8d4f-6a0d3a4f1c11"}'),
    ]
    for method, url, body in writes:
        reply = ask(dora, method, url, body, {**(JSON if body else {}), "If-None-Match": condition})
        assert (reply.status, [problem["field"] for problem in reply.json()["errors"]]) == (
            400,
            ["If-None-Match"],
        )
    assert len(ask(dora, "GET", CHANGES).data) == 1


# --- a place in the log that is not there ---


def expired(reply: Reply) -> bool:
    return (reply.status, reply.json()["code"], reply.headers["cache-control"]) == (
        410,
        EXPIRED,
        "no-store",
    )


@pytest.mark.parametrize("beyond", [1, 2, 1_000, 2**62])
def test_since_beyond_the_last_change_is_410(dora: Person, beyond: int) -> None:
    dora.has("Buy milk")
    last = ask(dora, "GET", CHANGES).json()["next_since"]
    assert ask(dora, "GET", f"{CHANGES}?since={last}").json()["data"] == []
    assert expired(ask(dora, "GET", f"{CHANGES}?since={last + beyond}"))
    assert expired(ask(dora, "GET", f"{CHANGES}?since={last + beyond}&limit=1"))


def test_since_of_one_who_has_no_change_yet_is_0_or_410(dora: Person, ada: Person) -> None:
    ada.has("Ada's own")
    assert ask(dora, "GET", f"{CHANGES}?since=0").data == []
    assert expired(ask(dora, "GET", f"{CHANGES}?since=1"))


def test_since_of_a_lost_time_line_is_410_and_says_what_to_do(
    restored: Restored, database_url: str
) -> None:
    dora = restored.person
    seen = ask(dora, "GET", CHANGES).json()["next_since"]
    put_back(database_url, dora.id, {})
    gone = ask(dora, "GET", f"{CHANGES}?since={seen}")
    assert expired(gone)
    assert gone.error == (
        f"since={seen} is beyond your last change, which is 0. The database was restored, or is a new one. "
        "Read everything again, and the changes from since=0"
    )
    problem = ask(
        dora, "GET", f"{CHANGES}?since={seen}", None, {"Accept": "application/problem+json"}
    )
    assert (problem.status, problem.json()["title"], problem.json()["code"]) == (
        410,
        "Gone",
        EXPIRED,
    )
    dora.has("Buy bread")
    assert expired(ask(dora, "GET", f"{CHANGES}?since={seen}"))
    assert [change["seq"] for change in ask(dora, "GET", f"{CHANGES}?since=0").data] == [1]


# --- servers of two versions on one database ---
