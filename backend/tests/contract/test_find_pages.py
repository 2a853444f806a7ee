"""query.md, section "Order and pages": the order of what `GET /v1/tasks` answers, and its pages."""

from __future__ import annotations

import base64
import string
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from tests.conftest import sql
from tests.contract.finding import TASKS, found, pages, tasks_of, titles
from tests.contract.things import Meet, Thing, change_task, delete_task, problems
from tests.people import Person
from tests.servers import Running

BERLIN = "Europe/Berlin"
CURSOR = [("cursor", "Cursor is not valid")]
SORT = (
    "Sort must name up to three of: "
    "created_at, updated_at, completed_at, due, start, priority, title, position"
)

# --- order ---

# Of `due`, in the order of Berlin.
IN_ORDER = [
    "2026-11-30T22:59:59Z",
    "2026-12-01T00:00:00",
    "2026-12-01T01:00:00+01:00[Europe/Berlin]",
    "2026-12-01T09:00:00",
    "2026-12-01T08:30:00Z",
    "2026-12-01T23:59:59",
    "2026-12-01",
    "2026-12-01T23:00:00Z",
    "2026-12-02",
]
TIMES = [IN_ORDER[n] for n in (6, 0, 3, 8, 2, 7, 5, 1, 4)] + [None, "2026-12-01", None]
LEVELS = ["none", "low", "medium", "high"]
KEYS: dict[str, Callable[[Thing], Any]] = {
    "created_at": lambda task: task["created_at"],
    "updated_at": lambda task: task["updated_at"],
    "completed_at": lambda task: task["completed_at"],
    "due": lambda task: moment(task["due"]),
    "start": lambda task: moment(task["start"]),
    "priority": lambda task: LEVELS.index(task["priority"]),
    "title": lambda task: task["title"].lower(),
    "position": lambda task: task["position"],
}
ONE_KEY = [f"{sign}{name}" for name in KEYS for sign in ("", "-")]
THREE_KEYS = ["priority,-due,title", "-completed_at,-start,-priority", "due,start,-title"]
TWO_KEYS = ["-priority,due", "completed_at,position", "-priority,-title"]
SORTS = [*ONE_KEY, *TWO_KEYS, *THREE_KEYS]


def moment(time: str | None) -> datetime | None:
    """For a reader in Berlin."""
    if time is None:
        return None
    if len(time) == 10:
        time += "T23:59:59.999999"
    at = datetime.fromisoformat(time.partition("[")[0])
    return at if at.tzinfo else at.replace(tzinfo=ZoneInfo(BERLIN))


def ordered(tasks: list[Thing], sort: str) -> list[Thing]:
    """By the last key first, because Python's sorting keeps the order of what is equal."""
    keys = sort.split(",")
    found = sorted(tasks, key=lambda task: int(task["id"]), reverse=keys[-1].startswith("-"))
    for key in reversed(keys):
        value = KEYS[key.removeprefix("-")]
        given = [task for task in found if value(task) is not None]
        missing = [task for task in found if value(task) is None]
        found = sorted(given, key=value, reverse=key.startswith("-")) + missing
    return found


@pytest.fixture(scope="module")
def carol(server: Running, database_url: str) -> Iterator[Person]:
    """She has tasks with many values in common, and changes none."""
    person = Person(server.url, "carol")
    for number, time in enumerate(TIMES):
        start = TIMES[number - 5] if time is None else None
        made = person.has_task(
            "abcB"[number % 4], due=time, start=start, priority=LEVELS[number * 7 % 4]
        )
        if number % 3 == 0:
            change_task(person, made["id"], completed=True, position="a1")
    halves = "UPDATE tasks SET created_at = date_trunc('hour', created_at) WHERE user_id = $1 AND id % 2 = 0"
    sql(database_url, halves, person.id)
    yield person
    person.client.close()


def ids(tasks: list[Thing]) -> list[int]:
    return [task["id"] for task in tasks]


@pytest.mark.parametrize("sort", SORTS)
def test_every_key_both_ways_null_last_then_by_id(carol: Person, sort: str) -> None:
    tasks = tasks_of(found(carol, sort=sort, timezone=BERLIN))
    assert len(tasks) == len(TIMES)
    assert ids(tasks) == ids(ordered(tasks, sort))


def test_the_default_is_the_newest_first(carol: Person) -> None:
    assert found(carol).json() == found(carol, sort="-created_at").json()


def test_times_are_sorted_as_moments_of_the_reader(person: Meet) -> None:
    dora = person("dora")
    for time in (*IN_ORDER[::2], *IN_ORDER[1::2]):
        dora.has_task(time, due=time, start=time)
    for key in ("due", "start"):
        assert titles(found(dora, sort=key, timezone=BERLIN)) == IN_ORDER
        assert titles(found(dora, sort=f"-{key}", timezone=BERLIN)) == IN_ORDER[::-1]
    in_tokyo = titles(found(dora, sort="due", timezone="Asia/Tokyo"))
    assert in_tokyo[:2] == ["2026-12-01T00:00:00", "2026-11-30T22:59:59Z"]


def test_titles_are_sorted_as_in_a_dictionary(person: Meet) -> None:
    dora = person("dora")
    wanted = ["9 lives", "10 lives", "Cote", "coté", "côte", "Éclair", "item 9", "Item 10", "zoo"]
    for title in wanted[::-1]:
        dora.has_task(title)
    assert titles(found(dora, sort="title")) == wanted
    assert titles(found(dora, sort="-title")) == wanted[::-1]


def test_the_case_of_titles_is_ignored_so_that_the_id_decides(person: Meet) -> None:
    dora = person("dora")
    for title in ("milk", "MILK", "Milk"):
        dora.has_task(title)
    assert titles(found(dora, sort="title")) == ["milk", "MILK", "Milk"]
    assert titles(found(dora, sort="-title")) == ["Milk", "MILK", "milk"]


@pytest.mark.parametrize(
    "sort",
    [
        *("", "-", "size", "id", "Due", " due", "due, title", "due,", "--due", "due;title"),
        *("due,due", "due,-due", "due,start,title,position", "user_id", "due_key", "due\0"),
    ],
)
def test_what_is_no_sort_is_400(carol: Person, sort: str) -> None:
    assert problems(found(carol, sort=sort)) == [("sort", SORT)]


# --- pages ---


@pytest.mark.parametrize("sort", [*SORTS, None])
@pytest.mark.parametrize("query", [None, "open", "no date | overdue"])
def test_pages_join_to_exactly_the_whole(
    carol: Person, sort: str | None, query: str | None
) -> None:
    whole = tasks_of(found(carol, query, sort=sort, timezone=BERLIN))
    got = list(pages(carol, query, sort=sort, timezone=BERLIN, limit=3))
    assert [task for page in got for task in page] == whole
    assert all(len(page) == 3 for page in got[:-1])
    assert 1 <= len(got[-1]) <= 3


@pytest.mark.parametrize("limit", [1, len(TIMES) - 1, len(TIMES), len(TIMES) + 1, 500])
def test_next_cursor_is_null_on_the_last_page_only(carol: Person, limit: int) -> None:
    whole = tasks_of(found(carol))
    reply = found(carol, limit=limit)
    assert tasks_of(reply) == whole[:limit]
    assert (reply.json()["next_cursor"] is None) == (limit >= len(whole))


def test_nothing_found_is_an_empty_last_page(carol: Person) -> None:
    reply = found(carol, "@nothing")
    assert reply.json() == {"data": [], "message": "Tasks retrieved", "next_cursor": None}


def test_a_page_has_50_tasks_or_as_many_as_asked_for_up_to_500(
    person: Meet, database_url: str
) -> None:
    dora = person("dora")
    many = "INSERT INTO tasks (user_id, title, version) SELECT $1, 'x', n FROM generate_series(1, 501) AS n"
    sql(database_url, many, dora.id)
    assert len(tasks_of(found(dora))) == 50
    assert len(tasks_of(found(dora, limit=500))) == 500
    assert [len(page) for page in pages(dora, "search: x", sort="title", limit=200)] == [
        *(200, 200, 101)
    ]


@pytest.mark.parametrize("limit", ["", "0", "-1", "501", "1.0", "1e2", "+1", "01", "all", "\u0661"])
def test_a_limit_is_an_integer_from_1_to_500(carol: Person, limit: str) -> None:
    sentence = "Limit must be an integer from 1 to 500"
    assert problems(found(carol, limit=limit)) == [("limit", sentence)]


@pytest.mark.parametrize("place", [{"offset": 1}, {"skip": 20}, {"page": 2}])
def test_pages_have_no_numbers(carol: Person, place: dict[str, Any]) -> None:
    sentence = "Pages are read with cursor, not offset"
    assert problems(found(carol, "open", **place)) == [("cursor", sentence)]


@pytest.mark.parametrize("place", [{"offset": 0}, {"page": 1}])
def test_the_number_of_the_first_page_is_ignored(carol: Person, place: dict[str, Any]) -> None:
    assert len(tasks_of(found(carol, **place))) == len(TIMES)


# --- meanwhile ---

CHURNED = [
    "title",
    "-due,priority",
    "-created_at",
    "created_at",
    "position,title",
    "-completed_at",
    "-priority,-title",
]


@pytest.mark.parametrize("sort", CHURNED)
def test_what_is_there_throughout_is_shown_once_while_others_come_move_and_go(
    person: Meet, sort: str
) -> None:
    dora = person("dora")
    for n, time in enumerate(TIMES):
        dora.has_task(f"stays {n}", due=time, priority=LEVELS[n % 4], position=f"a{n % 5}")
        dora.has_task(f"goes {n}", due=time, priority=LEVELS[n % 4], position=f"a{n % 5}")
        moving = dora.has_task(f"moves {n}", due=TIMES[-n], priority=LEVELS[n % 3])
        change_task(dora, moving["id"], completed=n % 2 == 0)
    whole = tasks_of(found(dora, sort=sort, limit=500, timezone=BERLIN))
    shown = []
    for number, page in enumerate(pages(dora, sort=sort, limit=4, timezone=BERLIN)):
        shown += page
        disturb(dora, number, page[-1])
        assert number < len(whole)
    assert staying(shown) == staying(whole)
    assert len(staying(whole)) == len(TIMES)


def staying(tasks: list[Thing]) -> list[int]:
    return [task["id"] for task in tasks if task["title"].startswith("stays")]


def disturb(person: Person, number: int, last: Thing) -> None:
    """Between two pages: one comes, one moves, and one goes, of which `last` is where the page
    ended."""
    time, level = TIMES[number % len(TIMES)], LEVELS[number % 4]
    person.has_task(f"goes later {number}", due=time, priority=level, position="first")
    if last["title"].startswith("goes"):
        delete_task(person, last["id"])
    if last["title"].startswith("moves"):
        fields = {"title": f"moves {chr(97 + number)}", "due": time, "priority": level}
        change_task(person, last["id"], **fields, position="last", completed=number % 2 == 1)


# --- cursors ---

MADE_FOR = {"query": "no date | !no date", "sort": "-priority,due", "timezone": BERLIN}
OTHERS = {
    "query": [None, "!no date | no date", "no date |  !no date", "all"],
    "sort": [None, "priority,due", "-priority", "-priority,due,title"],
    "timezone": [None, "Europe/Paris", "UTC"],
}


@pytest.fixture(scope="module")
def cursor(carol: Person) -> str:
    made = found(carol, **MADE_FOR, limit=2).json()["next_cursor"]
    assert isinstance(made, str)
    return made


def test_a_cursor_needs_no_encoding(cursor: str) -> None:
    assert quote(cursor, safe="") == cursor


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OTHERS.items() for value in values]
)
def test_a_cursor_is_bound_to_query_sort_and_timezone(
    carol: Person, cursor: str, name: str, value: str | None
) -> None:
    assert found(carol, **MADE_FOR, cursor=cursor, limit=4).status_code == 200
    assert problems(found(carol, **{**MADE_FOR, name: value}, cursor=cursor)) == CURSOR


def test_a_cursor_is_bound_to_its_user(carol: Person, bob: Person, cursor: str) -> None:
    bob.has_task("Bob's", due="2026-12-01")
    assert problems(found(bob, **MADE_FOR, cursor=cursor)) == CURSOR


def test_a_cursor_is_bound_to_its_door(carol: Person, cursor: str) -> None:
    newest = carol.get("?limit=2").json()["next_cursor"]
    assert problems(found(carol, cursor=newest)) == CURSOR
    reply = carol.request("GET", f"{carol.tasks}?limit=2&cursor={cursor}")
    assert problems(reply) == CURSOR


def test_a_cursor_forged_at_any_character_is_400(carol: Person, cursor: str) -> None:
    for place, char in enumerate(cursor):
        forged = cursor[:place] + ("A" if char != "A" else "B") + cursor[place + 1 :]
        assert problems(found(carol, **MADE_FOR, cursor=forged)) == CURSOR, forged


def test_a_cursor_truncated_anywhere_or_lengthened_is_400(carol: Person, cursor: str) -> None:
    longer = [cursor + more for more in ("A", "AAAA", "=", " ", "\n", "é")]
    whole = [cursor[:length] for length in range(len(cursor))]
    for forged in [*whole, *longer, cursor * 2, f" {cursor}", "A" * 8001]:
        assert problems(found(carol, **MADE_FOR, cursor=forged)) == CURSOR, forged


@pytest.mark.parametrize("sort", ["-created_at", "title", "position", "-priority", "due,title"])
def test_a_cursor_has_one_spelling(carol: Person, sort: str) -> None:
    """Whatever its length: the last character of base64 may hold bits that count for nothing."""
    cursor = found(carol, sort=sort, limit=4).json()["next_cursor"]
    taken = [
        last
        for last in string.ascii_letters + string.digits + "-_"
        if found(carol, sort=sort, cursor=cursor[:-1] + last).status_code == 200
    ]
    assert taken == [cursor[-1]]


def test_a_cursor_given_twice_is_400(carol: Person, cursor: str) -> None:
    assert problems(carol.request("GET", f"{TASKS}?cursor={cursor}&cursor={cursor}")) == CURSOR


def test_a_place_that_nobody_sealed_is_400(carol: Person) -> None:
    place = b'["2026-01-01T00:00:00", 1]' + bytes(16)
    forged = base64.urlsafe_b64encode(place).rstrip(b"=").decode()
    assert problems(found(carol, cursor=forged)) == CURSOR


def test_a_forged_cursor_is_400_even_if_nothing_has_changed(carol: Person, cursor: str) -> None:
    reply = carol.request(
        "GET",
        TASKS,
        params={**MADE_FOR, "cursor": "A" * len(cursor)},
        headers={"If-None-Match": "*"},
    )
    assert problems(reply) == CURSOR


@pytest.mark.parametrize("sort", ["title", "-title,due"])
def test_the_longest_titles_have_a_place(person: Meet, sort: str) -> None:
    dora = person("dora")
    for last in "abc":
        for longest in ("ß", "\U0001f600", "-", "ﷺ", "Ǻ", "\u0300"):
            dora.has_task(f"{longest * 199}{last}")
    whole = tasks_of(found(dora, sort=sort))
    got = [task for page in pages(dora, sort=sort, limit=1) for task in page]
    assert ids(got) == ids(whole)
    assert len(got) == 18


def test_a_page_of_what_the_clock_decides_goes_on_after_the_place(person: Meet) -> None:
    dora = person("dora")
    for hours in range(1, 8):
        passed = datetime.now(UTC) - timedelta(hours=hours)
        dora.has_task(f"{hours}", due=passed.strftime("%Y-%m-%dT%H:%M:%SZ"))
    got = [task["title"] for page in pages(dora, "overdue", sort="-due", limit=3) for task in page]
    assert got == list("1234567")
