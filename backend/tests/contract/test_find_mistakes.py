"""query.md, sections "Grammar" and "Order and pages": what `GET /v1/tasks` refuses, and how it says
so."""

from __future__ import annotations

import pytest

from query.parser import DEPTH_MAX, LENGTH_MAX, TERMS_MAX
from tests.contract.finding import TASKS, found
from tests.contract.things import Thing, problems
from tests.contract.wire import ask
from tests.people import Person
from tests.test_query_page import MISTAKES


def mistake(person: Person, query: str) -> Thing:
    """The only problem of a 400."""
    reply = found(person, query)
    [(field, sentence)] = problems(reply)
    assert field == "query"
    problem: Thing = reply.json()["errors"][0]
    assert sentence == f"query, column {problem['column']}: {sentence.partition(': ')[2]}"
    return problem


@pytest.mark.parametrize(("query", "sentence"), MISTAKES)
def test_a_mistake_gets_the_sentence_of_the_page(ada: Person, query: str, sentence: str) -> None:
    assert mistake(ada, query)["message"] == sentence


@pytest.mark.parametrize(
    ("query", "column", "sentence"),
    [
        ("today &", 8, 'query, column 8: after "&" a term is missing'),
        ("today & ", 9, 'query, column 9: after "&" a term is missing'),
        ("overdu", 1, 'query, column 1: "overdu" is not a term; did you mean "overdue"?'),
        ("@😀 &", 5, 'query, column 5: after "&" a term is missing'),
        ("", 1, "query, column 1: the query is empty; write a term, such as today"),
        ("  ", 3, "query, column 3: the query is empty; write a term, such as today"),
        ("search: ...", 9, 'query, column 9: "..." has no letter or digit to search for'),
        ("to\0day", 3, "query, column 3: the character U+0000 cannot be in a query"),
    ],
)
def test_a_mistake_says_where_it_is(ada: Person, query: str, column: int, sentence: str) -> None:
    wanted = {"field": "query", "message": sentence, "column": column}
    assert mistake(ada, query) == wanted


def test_problem_details_have_the_column_too(ada: Person) -> None:
    accept = {"Accept": "application/problem+json"}
    reply = ask(ada, "GET", f"{TASKS}?query=today%20%26", headers=accept)
    assert reply.json()["errors"][0]["column"] == 8


WORD = "today | "


@pytest.mark.parametrize(
    ("fits", "too_much", "column"),
    [
        (f"{'@a':<{LENGTH_MAX}}", f"{'@a':<{LENGTH_MAX + 1}}", LENGTH_MAX + 1),
        (
            (WORD * TERMS_MAX)[:-3],
            (WORD * (TERMS_MAX + 1))[:-3],
            len(WORD) * TERMS_MAX + 1,
        ),
        (
            f"{'(' * DEPTH_MAX}today{')' * DEPTH_MAX}",
            f"{'(' * (DEPTH_MAX + 1)}today{')' * (DEPTH_MAX + 1)}",
            DEPTH_MAX + 1,
        ),
    ],
    ids=["characters", "terms", "brackets"],
)
def test_the_limits_of_a_query(ada: Person, fits: str, too_much: str, column: int) -> None:
    assert found(ada, fits).status_code == 200
    assert mistake(ada, too_much)["column"] == column


def test_a_query_that_makes_the_url_too_long_is_414(ada: Person) -> None:
    assert found(ada, f"@{'é' * 999}").status_code == 200
    assert found(ada, f"@{'😀' * 999}").status_code == 414


@pytest.mark.parametrize("name", ["query", "sort", "timezone"])
def test_what_is_given_twice_is_400(ada: Person, name: str) -> None:
    value = {"query": "today", "sort": "due", "timezone": "UTC"}[name]
    reply = ada.request("GET", f"{TASKS}?{name}={value}&{name}={value}")
    assert problems(reply) == [(name, f"{name.capitalize()} must be given once")]


def test_every_wrong_parameter_is_named(ada: Person) -> None:
    reply = found(ada, "overdu", sort="size", timezone="Mars", limit=0, cursor="forged")
    assert [field for field, _ in problems(reply)] == [
        *("query", "sort", "timezone", "limit", "cursor")
    ]


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "Factory", "localtime", "+01:00", "../UTC", "CET\0", "Z" * 300]
)
def test_an_unknown_timezone_is_400(ada: Person, zone: str) -> None:
    sentence = "Timezone must be a name of the IANA database, such as Europe/Berlin"
    assert problems(found(ada, "today", timezone=zone)) == [("timezone", sentence)]
