"""Contract, section "Task": what a task is made of, and how its text and times are kept."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.conftest import sql
from tests.contract.wire import moment, send
from tests.people import Person, token_for

Meet = Callable[[str], Person]

KEYS = [
    *("id", "user_id", "title", "description", "completed", "created_at", "updated_at"),
    *("uid", "version", "completed_at"),
    *("list_id", "parent_id", "position", "priority", "labels", "start", "due"),
]
RFC_3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

# Unicode's property White_Space (PropList.txt), written out here so that the test has it from
# nowhere else.
WHITE_SPACE = [
    *map(
        chr,
        [
            *range(0x09, 0x0E),
            0x20,
            0x85,
            0xA0,
            0x1680,
            *range(0x2000, 0x200B),
            0x2028,
            0x2029,
            0x202F,
            0x205F,
        ],
    ),
    "\u3000",
]
INVISIBLE = [
    char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) == "Cf"
]

EXACT_TEXTS = {
    "markup": "<b>&amp;</b> \"quoted\" 'single' `back` \\ / %41 %s {} $1",
    "composed": "\u00e9",
    "decomposed": "e\u0301",
    "compatibility characters": "\ufb01 \u2460 \uff21",
    "family emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u202eabc\u202c",
    "control characters": "a\x01\x1b[31m\x7fb",
    "noncharacters": "a\uffff\U0010ffffb",
    "line ends inside": "a\r\nb\nc\rd",
    "sql": "'; DROP TABLE tasks; --",
}


def test_white_space_is_the_whole_property() -> None:
    assert len(set(WHITE_SPACE)) == 25
    assert all(char.isspace() for char in WHITE_SPACE)


def test_every_key_is_always_there_in_order(ada: Person) -> None:
    task = ada.has("Buy milk")
    changed = ada.put(task["id"], {"completed": True}).json()["data"]
    [listed] = [one for one in ada.get().json()["data"] if one["id"] == task["id"]]
    toggled = ada.patch(f"/{task['id']}/complete").json()["data"]
    for shown in (task, changed, listed, toggled, ada.get(f"/{task['id']}").json()["data"]):
        assert list(shown) == KEYS
        assert all(type(shown[key]) is int for key in ("id", "version"))
        assert type(shown["completed"]) is bool
        assert all(
            type(shown[key]) is str
            for key in (
                "user_id",
                "title",
                "created_at",
                "updated_at",
                "uid",
                "position",
                "priority",
            )
        )
        assert [shown[key] for key in ("list_id", "parent_id", "start", "due")] == [None] * 4
        assert (shown["priority"], shown["labels"]) == ("none", [])
        assert type(shown["completed_at"]) is (str if shown["completed"] else type(None))


def test_a_description_that_is_absent_is_null(ada: Person) -> None:
    assert ada.post({"title": "Buy milk"}).json()["data"]["description"] is None
    assert (
        ada.post({"title": "Buy milk", "description": None}).json()["data"]["description"] is None
    )


@pytest.mark.parametrize(
    "user_id",
    [
        "Vq3xZ8mN2kL7pR4tY9wB6cD1fG5hJ0sA",
        "3f2b8c1e-9d4a-4c6b-8e7f-0a1b2c3d4e5f",
        "0042",
        "42",
        "Ünï cödé/%?#",
        "a" * 255,
    ],
)
def test_a_user_id_is_opaque_and_never_cast(ada: Person, user_id: str) -> None:
    token = {"Authorization": f"Bearer {token_for(user_id)}"}
    path = f"/api/{''.join(f'%{byte:02X}' for byte in user_id.encode())}/tasks"
    created = ada.request("POST", path, json={"title": "Mine"}, headers=token)
    assert created.status_code == 201
    assert created.json()["data"]["user_id"] == user_id
    assert (
        ada.request("GET", created.headers["Location"], headers=token).json()["data"]
        == created.json()["data"]
    )


@pytest.mark.parametrize(
    ("own", "other"), [("42", "042"), ("42", "42.0"), ("ada", "Ada"), ("é", "e\u0301"), ("a", "a ")]
)
def test_user_ids_that_look_alike_are_two_users(ada: Person, own: str, other: str) -> None:
    token = {"Authorization": f"Bearer {token_for(own)}"}
    assert ada.request("GET", f"/api/{other}/tasks", headers=token).status_code == 403


def test_times_are_utc_in_rfc_3339_with_z(ada: Person) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    task = ada.has("Buy milk")
    completed = ada.patch(f"/{task['id']}/complete").json()["data"]
    for time in (task["created_at"], task["updated_at"], completed["completed_at"]):
        assert RFC_3339_UTC.fullmatch(time)
        assert before <= moment(time) <= datetime.now(UTC) + timedelta(seconds=1)


def test_a_time_is_shown_to_the_microsecond_the_database_keeps(
    ada: Person, database_url: str
) -> None:
    task = ada.has("Buy milk")
    for kept in (
        "2026-01-12T10:00:00.123456+00:00",
        "2026-01-12T10:00:00.100000+00:00",
        "2026-01-12T10:00:00+00:00",
    ):
        at = moment(kept)
        sql(database_url, "UPDATE tasks SET created_at = $1 WHERE id = $2", at, task["id"])
        shown = ada.get(f"/{task['id']}").json()["data"]["created_at"]
        assert RFC_3339_UTC.fullmatch(shown)
        assert moment(shown) == at


WHOLE = datetime(2026, 1, 12, 10, 0, 0, tzinfo=UTC)
WHOLE_TEXT = "2026-01-12T10:00:00.000000Z"


def test_a_whole_second_has_six_digits_too_wherever_it_is_shown(
    person: Meet, database_url: str
) -> None:
    dora = person("dora")
    task, thrown = dora.has("Buy milk"), dora.has("Old")
    dora.patch(f"/{task['id']}/complete")
    dora.delete(thrown["id"])
    times = "created_at = $1, updated_at = $1, completed_at = CASE WHEN completed THEN $1::timestamptz END"
    sql(database_url, f"UPDATE tasks SET {times} WHERE id = $2", WHOLE, task["id"])
    sql(
        database_url,
        f"UPDATE tasks SET {times}, deleted_at = $1 WHERE id = $2",
        WHOLE,
        thrown["id"],
    )
    sql(database_url, "UPDATE changes SET at = $1 WHERE user_id = $2", WHOLE, dora.id)
    refused = dora.put(task["id"], {}, headers={"If-Match": '"0"'})
    shown = [
        dora.get(f"/{task['id']}").json()["data"],
        *(dora.get(query).json()["data"][0] for query in ("", "?limit=1", "?filter=completed")),
        refused.json()["data"],
    ]
    for one in shown:
        assert [one[name] for name in ("created_at", "updated_at", "completed_at")] == [
            WHOLE_TEXT
        ] * 3
    [in_trash] = dora.request("GET", "/v1/trash").json()["data"]
    assert [in_trash[name] for name in ("created_at", "updated_at", "deleted_at")] == [
        WHOLE_TEXT
    ] * 3
    logged = dora.request("GET", "/v1/changes").json()["data"]
    assert {change["at"] for change in logged} == {WHOLE_TEXT}


def test_a_whole_second_that_the_log_and_a_retry_keep_has_six_digits_too(
    person: Meet, database_url: str
) -> None:
    """A day in the future, at a whole second: the next change comes a microsecond after the last
    one."""
    dora = person("dora")
    task = dora.has("Buy milk")
    before = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0) - timedelta(
        microseconds=1
    )
    sql(database_url, "UPDATE change_counters SET at = $1 WHERE user_id = $2", before, dora.id)
    whole = f"{before + timedelta(microseconds=1):%Y-%m-%dT%H:%M:%S}.000000Z"
    replies = [
        send(
            dora,
            "PATCH",
            f"/{task['id']}/complete",
            b'{"completed":true}',
            **{"Idempotency-Key": "key"},
        )
        for _ in range(2)
    ]
    assert "idempotency-replayed" in replies[1].headers
    for reply in replies:
        assert (reply.data["updated_at"], reply.data["completed_at"]) == (whole, whole)
    change = dora.request("GET", "/v1/changes").json()["data"][-1]
    assert (change["at"], change["fields"]["completed_at"]) == (whole, [None, whole])


@pytest.mark.parametrize(
    "text", ["2026-01-12T10:00:00Z", 'a "at":"2026-01-12T10:00:00Z"', "10:00:00Z"]
)
def test_a_text_that_looks_like_a_time_stays_as_it_is(ada: Person, text: str) -> None:
    task = ada.has(text, text)
    assert (task["title"], task["description"]) == (text, text)
    assert RFC_3339_UTC.fullmatch(task["created_at"])
    assert ada.get().json()["data"][0] == task


def test_columns_of_times_know_their_zone(ada: Person, database_url: str) -> None:
    query = "SELECT data_type FROM information_schema.columns WHERE table_name = 'tasks' AND column_name LIKE '%_at'"
    assert [row["data_type"] for row in sql(database_url, query)] == [
        "timestamp with time zone"
    ] * 4


def test_both_times_are_equal_at_creation(ada: Person) -> None:
    for _ in range(10):
        task = ada.has("Buy milk")
        assert task["created_at"] == task["updated_at"]


def test_updated_at_never_repeats_however_fast_the_changes_come(ada: Person) -> None:
    task = ada.has("Buy milk")
    times = [moment(task["updated_at"])]
    for number in range(50):
        changed = ada.put(task["id"], {}) if number % 2 else ada.patch(f"/{task['id']}/complete")
        times.append(moment(changed.json()["data"]["updated_at"]))
        assert changed.json()["data"]["created_at"] == task["created_at"]
    assert all(earlier < later for earlier, later in pairwise(times))


@pytest.mark.parametrize("change", ["put", "toggle"])
def test_updated_at_never_goes_back_even_if_the_clock_does(
    ada: Person, database_url: str, change: str
) -> None:
    task = ada.has("Buy milk")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    sql(database_url, "UPDATE tasks SET updated_at = $1 WHERE id = $2", tomorrow, task["id"])
    sql(database_url, "UPDATE change_counters SET at = $1 WHERE user_id = $2", tomorrow, ada.id)
    reply = ada.put(task["id"], {}) if change == "put" else ada.patch(f"/{task['id']}/complete")
    assert moment(reply.json()["data"]["updated_at"]) > tomorrow


def test_a_title_is_stripped_of_every_white_space_and_of_nothing_else(ada: Person) -> None:
    task = ada.has("Buy milk")
    for space in WHITE_SPACE:
        assert (
            ada.put(task["id"], {"title": f"{space} a{space}b {space}"}).json()["data"]["title"]
            == f"a{space}b"
        )
    for kept in ("\x1ca\x1f", "\u200ba\u200b", "\ufeffa\ufeff", "\u2800a\u2800"):
        assert ada.put(task["id"], {"title": kept}).json()["data"]["title"] == kept


def test_a_title_of_nothing_to_see_is_required(ada: Person) -> None:
    everything = "".join(WHITE_SPACE + INVISIBLE)[:200]
    for title in ["", " " * 300, *WHITE_SPACE, *INVISIBLE, "\u200b \u2060\t\ufeff", everything]:
        reply = ada.post({"title": title})
        assert (reply.status_code, reply.json()["error"]) == (400, "Title is required"), ascii(
            title
        )


@pytest.mark.parametrize(
    ("title", "fits"),
    [
        ("a", True),
        ("a" * 200, True),
        ("a" * 201, False),
        ("\U0001f600" * 200, True),
        ("\U0001f600" * 201, False),
        ("e\u0301" * 100, True),
        ("e\u0301" * 100 + "e", False),
        (" " * 300 + "a" * 200 + "\u3000" * 300, True),
        ("a" * 199 + "\u200b\u200b", False),
    ],
    ids=ascii,
)
def test_a_title_has_1_to_200_code_points(ada: Person, title: str, fits: bool) -> None:
    created = ada.post({"title": title})
    changed = ada.put(ada.has("Buy milk")["id"], {"title": title})
    if fits:
        assert (created.status_code, changed.status_code) == (201, 200)
        assert created.json()["data"]["title"] == changed.json()["data"]["title"] == title.strip()
    else:
        assert (created.status_code, changed.status_code) == (400, 400)
        assert (
            created.json()["error"]
            == changed.json()["error"]
            == "Title must be between 1 and 200 characters"
        )


@pytest.mark.parametrize(
    ("description", "fits"),
    [
        ("", True),
        (" ", True),
        ("a" * 1000, True),
        ("a" * 1001, False),
        ("a" * 1000 + " ", False),
        ("\U0001f600" * 1000, True),
        ("\U0001f600" * 1001, False),
        ("e\u0301" * 500, True),
        ("e\u0301" * 500 + "e", False),
    ],
    ids=lambda value: f"{ascii(value)[:14]} {len(value)}" if isinstance(value, str) else str(value),
)
def test_a_description_has_at_most_1000_code_points_and_is_stored_exactly(
    ada: Person, description: str, fits: bool
) -> None:
    created = ada.post({"title": "Buy milk", "description": description})
    changed = ada.put(ada.has("Buy milk")["id"], {"description": description})
    if fits:
        assert (
            created.json()["data"]["description"]
            == changed.json()["data"]["description"]
            == description
        )
    else:
        assert (created.status_code, changed.status_code) == (400, 400)
        assert (
            created.json()["error"]
            == changed.json()["error"]
            == "Description must not exceed 1000 characters"
        )


@pytest.mark.parametrize("text", EXACT_TEXTS.values(), ids=EXACT_TEXTS)
def test_text_is_stored_and_returned_exactly_as_sent(
    ada: Person, database_url: str, text: str
) -> None:
    sent = json.dumps({"title": text, "description": f" {text}\n"}).encode()
    task = send(ada, "POST", "", sent).data
    assert (task["title"], task["description"]) == (text, f" {text}\n")
    assert ada.get(f"/{task['id']}").json()["data"] == task
    [row] = sql(database_url, "SELECT title, description FROM tasks WHERE id = $1", task["id"])
    assert tuple(row) == (text, f" {text}\n")


@pytest.mark.parametrize(
    "unstorable", ["\\u0000", "a\\u0000b", "\\ud800", "\\udc00", "\\udc00\\ud800", "\\ud83d a"]
)
@pytest.mark.parametrize("field", ["title", "description"])
def test_nul_and_lone_surrogates_are_refused(ada: Person, field: str, unstorable: str) -> None:
    task = ada.has("Buy milk")
    member = f'"{field}":"x{unstorable}"'
    for method, path, body in [
        ("POST", "", f'{{"title":"x",{member}}}'),
        ("PUT", f"/{task['id']}", f"{{{member}}}"),
    ]:
        if method == "POST" and field == "title":
            body = f"{{{member}}}"
        reply = send(ada, method, path, body.encode())
        assert (reply.status, reply.json()["code"]) == (400, "VALIDATION_ERROR")
        assert reply.json()["errors"][0]["field"] == field


def test_a_pair_of_surrogates_is_one_character(ada: Person) -> None:
    assert send(ada, "POST", "", b'{"title":"\\ud83d\\ude00"}').data["title"] == "\U0001f600"


NOT_BOOLEANS: list[Any] = ["true", "false", "", "yes", 1, 0, 1.0, None, [], [True], {}]


@pytest.mark.parametrize("value", NOT_BOOLEANS, ids=repr)
def test_completed_is_a_json_boolean_and_nothing_like_one(ada: Person, value: Any) -> None:
    task = ada.has("Buy milk")
    replies = [
        ada.put(task["id"], {"completed": value}),
        ada.patch(f"/{task['id']}", json={"completed": value}),
        ada.patch(f"/{task['id']}/complete", json={"completed": value}),
    ]
    for reply in replies:
        assert reply.status_code == 400
        assert reply.json()["errors"] == [
            {"field": "completed", "message": "Completed must be true or false"}
        ]
    assert ada.get(f"/{task['id']}").json()["data"] == task
