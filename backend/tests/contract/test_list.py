"""Contract, section "The six endpoints": the list, its filter, and its pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

import tasks
from tests.conftest import sql
from tests.contract.wire import Reply, ask
from tests.people import Person

Meet = Callable[[str], Person]

FILTER_TEXT = "Filter must be one of: all, pending, completed"
LIMIT_TEXT = "Limit must be an integer from 1 to 500"
CURSOR_TEXT = "Cursor is not valid"
SEVERAL = 23


@pytest.fixture(scope="module")
def carol(server: Any) -> Any:
    """She has SEVERAL tasks, every third of them completed, and changes none."""
    person = Person(server.url, "carol")
    for number in range(SEVERAL):
        task = person.has(f"Task {number}")
        if number % 3 == 0:
            person.patch(f"/{task['id']}/complete")
    yield person
    person.client.close()


def found(person: Person, query: str) -> Reply:
    return ask(person, "GET", f"{person.tasks}?{query}")


def pages(person: Person, limit: int, filter: str = "all") -> list[Any]:
    """All pages in order, each the list of its tasks."""
    made, cursor = [], ""
    while cursor is not None:
        reply = found(
            person, f"limit={limit}&filter={filter}" + (f"&cursor={cursor}" if cursor else "")
        ).json()
        assert set(reply) == {"data", "message", "next_cursor"}
        made.append(reply["data"])
        cursor = reply["next_cursor"]
        assert len(made) <= 2 * SEVERAL, "the pages have no end"
    return made


def joined(lists: list[Any]) -> list[Any]:
    return [task for one in lists for task in one]


def refused(reply: Reply, field: str, text: str) -> bool:
    return (reply.status, reply.json().get("errors")) == (400, [{"field": field, "message": text}])


def test_the_list_is_newest_first_by_created_at_then_id(person: Meet, database_url: str) -> None:
    dora = person("dora")
    made = [dora.has(f"Task {number}")["id"] for number in range(6)]
    assert [task["id"] for task in dora.get().json()["data"]] == made[::-1]
    once = datetime(2026, 1, 12, tzinfo=UTC)
    sql(
        database_url,
        "UPDATE tasks SET created_at = $1 WHERE user_id = $2 AND id <> $3",
        once,
        dora.id,
        made[2],
    )
    assert [task["id"] for task in dora.get().json()["data"]] == [
        made[2],
        *[id for id in made[::-1] if id != made[2]],
    ]
    dora.put(made[0], {"title": "Changed"})
    assert dora.get().json()["data"][-1]["id"] == made[0]


def test_the_list_of_nobody_in_particular_is_empty_not_absent(person: Meet) -> None:
    dora = person("dora")
    assert dora.get().json() == {"data": [], "message": "Tasks retrieved"}
    assert dora.get("?limit=5").json() == {
        "data": [],
        "message": "Tasks retrieved",
        "next_cursor": None,
    }


@pytest.mark.parametrize("name", ["filter", "status"])
@pytest.mark.parametrize("word", ["all", "pending", "completed", "ALL", "Pending", "cOmPlEtEd"])
def test_the_filter_and_its_alias_choose_in_any_case(carol: Person, name: str, word: str) -> None:
    everything = found(carol, "").data
    wanted = {"all": (True, False), "pending": (False,), "completed": (True,)}[word.lower()]
    assert found(carol, f"{name}={word}").data == [
        task for task in everything if task["completed"] in wanted
    ]
    assert len(everything) == SEVERAL


@pytest.mark.parametrize(
    ("completed", "filter"), [("true", "completed"), ("false", "pending"), ("TRUE", "completed")]
)
def test_completed_is_an_alias_of_the_filter(carol: Person, completed: str, filter: str) -> None:
    assert found(carol, f"completed={completed}").data == found(carol, f"filter={filter}").data
    cursor = found(carol, f"limit=3&completed={completed}").json()["next_cursor"]
    assert found(carol, f"limit=3&filter={filter}&cursor={cursor}").status == 200


@pytest.mark.parametrize(
    "query",
    [
        *(
            "filter=",
            "filter",
            "status=",
            "filter=done",
            "status=open",
            "filter=%20all",
            "filter=all%20",
            "filter=al",
        ),
        *(
            "filter=all&filter=all",
            "status=pending&status=pending",
            "filter=all&status=all",
            "status=all&filter=pending",
        ),
        *(
            "filter=all,pending",
            "filter=pend%C4%B0ng",
            "filter=%00",
            "filter=null",
            "filter=1",
            "filter=&status=all",
        ),
        *("filter=all&filter=all&filter=all", "filter=%FF", "filter[]=all&filter=done"),
        *(
            "completed=",
            "completed=1",
            "completed=yes",
            "completed=completed",
            "completed=null",
            "completed=%20true",
        ),
        *(
            "completed=true&completed=true",
            "completed=true&filter=completed",
            "status=all&completed=false",
        ),
    ],
)
def test_a_filter_given_twice_empty_or_unknown_is_400(carol: Person, query: str) -> None:
    assert refused(found(carol, query), "filter", FILTER_TEXT)


@pytest.mark.parametrize(
    "query",
    ["other=1", "other=1&other=2", "FILTER=done", "=", "&&", "a;filter=done", "%00=1", "page=0"],
)
def test_unknown_parameters_are_ignored(carol: Person, query: str) -> None:
    assert len(found(carol, query).data) == SEVERAL


@pytest.mark.parametrize(
    "pages",
    ["offset=1", "skip=20", "page=2", "offset=2.5", "skip=1e2", "page=%2B2", "page=1&page=2"],
)
def test_pages_by_number_are_refused_instead_of_answering_the_first_again(
    carol: Person, pages: str
) -> None:
    for query in (pages, f"limit=20&{pages}", f"filter=pending&{pages}&limit=5"):
        assert refused(found(carol, query), "cursor", "Pages are read with cursor, not offset"), (
            query
        )
    trash = ask(carol, "GET", f"/v1/trash?{pages}")
    assert refused(trash, "cursor", "Pages are read with cursor, not offset")
    changes = ask(carol, "GET", f"/v1/changes?limit=5&{pages}")
    assert refused(changes, "since", "Pages are read with since, not offset")


@pytest.mark.parametrize(
    "pages",
    [
        "offset=0",
        "skip=0",
        "page=1",
        "page=0",
        "offset=-1",
        "offset=",
        "page=next",
        "page=nan",
        "skip[]=2",
    ],
)
def test_a_page_number_that_means_the_first_is_ignored(carol: Person, pages: str) -> None:
    assert len(found(carol, f"limit=20&{pages}").data) == 20
    assert len(found(carol, pages).data) == SEVERAL
    for path in ("/v1/trash", "/v1/changes"):
        assert ask(carol, "GET", f"{path}?{pages}").status == 200


def test_without_a_limit_everything_comes_and_no_cursor(person: Meet, database_url: str) -> None:
    dora = person("dora")
    many = "INSERT INTO tasks (user_id, title, version) SELECT $1, 'Task ' || n, n FROM generate_series(1, 1203) AS n"
    sql(database_url, many, dora.id)
    assert len(found(dora, "").data) == 1203
    assert set(found(dora, "").json()) == {"data", "message"}


@pytest.mark.parametrize("limit", [1, 7, SEVERAL - 1, SEVERAL, SEVERAL + 1, 500])
@pytest.mark.parametrize("filter", ["all", "pending", "completed"])
def test_pages_join_to_exactly_the_list(carol: Person, limit: int, filter: str) -> None:
    whole = found(carol, f"filter={filter}").data
    got = pages(carol, limit, filter)
    assert joined(got) == whole
    assert all(len(page) == limit for page in got[:-1])
    assert 1 <= len(got[-1]) <= limit


def test_pages_join_to_the_list_while_tasks_are_added_and_removed(person: Meet) -> None:
    dora = person("dora")
    for number in range(9):
        dora.has(f"Task {number}")
    whole = dora.get().json()["data"]
    reply, got = found(dora, "limit=2").json(), []
    for number in range(9):
        got += reply["data"]
        if reply["next_cursor"] is None:
            break
        dora.has(f"Later {number}")
        dora.delete(reply["data"][-1]["id"])  # even the task that the cursor came from
        reply = found(dora, f"limit=2&cursor={reply['next_cursor']}").json()
    assert got == whole


def test_pages_join_to_the_list_where_tasks_were_created_at_once(
    person: Meet, database_url: str
) -> None:
    dora = person("dora")
    many = "INSERT INTO tasks (user_id, title, version) SELECT $1, 'x', n FROM generate_series(1, 11) AS n"
    sql(database_url, many, dora.id)
    whole = dora.get().json()["data"]
    assert len({task["created_at"] for task in whole}) == 1
    assert joined(pages(dora, 3)) == whole


@pytest.mark.parametrize(
    "limit",
    [
        *(
            "",
            "0",
            "-1",
            "501",
            "1000",
            "9" * 30,
            "1.0",
            "1e2",
            "+1",
            "%2B1",
            "01",
            "1_0",
            "%201",
            "1%20",
            "abc",
            "null",
            "all",
        ),
        *("%D9%A1", "%EF%BC%91", "%C2%B2", "1%0A", "1&limit=1", "0x1", "%FF"),
    ],
)
def test_a_limit_is_an_integer_from_1_to_500(carol: Person, limit: str) -> None:
    assert refused(found(carol, f"limit={limit}"), "limit", LIMIT_TEXT)


def test_a_limit_of_1_and_of_500_is_taken(carol: Person) -> None:
    assert len(found(carol, "limit=1").data) == 1
    assert len(found(carol, "limit=500").data) == SEVERAL


def test_a_cursor_is_a_string_that_needs_no_encoding(carol: Person) -> None:
    cursor = found(carol, "limit=1").json()["next_cursor"]
    assert isinstance(cursor, str)
    assert quote(cursor, safe="") == cursor


def test_a_cursor_forged_at_any_character_is_400(carol: Person) -> None:
    cursor = found(carol, "limit=5").json()["next_cursor"]
    for place, char in enumerate(cursor):
        for other in {"A", "-", chr(ord(char) ^ 1), "%20", "%C3%A9", "%00"} - {char}:
            if not (other.isalnum() or other in "-_" or other.startswith("%")):
                continue
            forged = cursor[:place] + other + cursor[place + 1 :]
            assert refused(found(carol, f"limit=5&cursor={forged}"), "cursor", CURSOR_TEXT), forged


def test_a_cursor_truncated_anywhere_or_lengthened_is_400(carol: Person) -> None:
    cursor = found(carol, "limit=5").json()["next_cursor"]
    longer = [cursor + more for more in ("A", "AAAA", "=", "==", "%20", "%0A", f"&cursor={cursor}")]
    for forged in (
        [cursor[:length] for length in range(len(cursor))]
        + longer
        + [f"%20{cursor}", cursor * 2, "9" * 4000]
    ):
        assert refused(found(carol, f"limit=5&cursor={forged}"), "cursor", CURSOR_TEXT), forged


def test_a_cursor_is_bound_to_its_user(carol: Person, ada: Person) -> None:
    ada.has("Buy milk")
    cursor = found(carol, "limit=5").json()["next_cursor"]
    assert found(carol, f"limit=5&cursor={cursor}").status == 200
    assert refused(found(ada, f"limit=5&cursor={cursor}"), "cursor", CURSOR_TEXT)


def test_a_cursor_is_bound_to_its_filter_however_that_is_named(carol: Person) -> None:
    cursor = found(carol, "limit=5&filter=pending").json()["next_cursor"]
    assert found(carol, f"limit=2&status=PENDING&cursor={cursor}").status == 200
    for other in ("", "filter=all", "filter=completed", "status=completed"):
        assert refused(found(carol, f"limit=5&{other}&cursor={cursor}"), "cursor", CURSOR_TEXT)


def test_every_wrong_parameter_is_named(carol: Person) -> None:
    errors = found(carol, "filter=done&limit=0&cursor=").json()["errors"]
    assert [problem["field"] for problem in errors] == ["filter", "limit", "cursor"]


def test_a_forged_cursor_is_named_beside_another_problem(carol: Person) -> None:
    errors = found(carol, "limit=0&cursor=forged").json()["errors"]
    assert [problem["field"] for problem in errors] == ["limit", "cursor"]


def test_the_last_page_costs_the_database_what_the_first_costs(
    person: Meet, database_url: str
) -> None:
    dora = person("dora")
    many = """INSERT INTO tasks (user_id, title, version, created_at)
        SELECT $1, 'x', n, now() - n * interval '1 second' FROM generate_series(1, 5000) AS n"""
    sql(database_url, many, dora.id)
    sql(database_url, "ANALYZE tasks")
    [oldest] = sql(
        database_url, "SELECT min(created_at) AS at FROM tasks WHERE user_id = $1", dora.id
    )

    def blocks(after: tasks.Position) -> int:
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {tasks.LIST['all']}"
        [[plan]] = sql(database_url, explain, dora.id, 51, *after)
        [whole] = json.loads(plan)
        return int(whole["Plan"]["Shared Hit Blocks"] + whole["Plan"]["Shared Read Blocks"])

    near_the_end = tasks.Position(oldest["at"].replace(microsecond=0), 0)
    assert blocks(near_the_end) <= blocks(tasks.NEWEST) + 10
