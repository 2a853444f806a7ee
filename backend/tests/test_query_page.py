"""docs/query.md: what it tells people to type is understood, and the sentences are those that they
get."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from query.errors import QueryError
from query.parser import DEPTH_MAX, LENGTH_MAX, TERMS_MAX, parse
from query.tree import Term
from tests.test_docs import CODE, PAGES, rows

PAGE = PAGES["docs/query.md"]
DAYS = [day for row in rows(PAGE, "| day | is |") for day in CODE.findall(row[0])]
WRITTEN = [term for row in rows(PAGE, "| term | selects |") for term in CODE.findall(row[0])]
TERMS = [term.replace("DAY", day) for term in WRITTEN for day in (DAYS if "DAY" in term else [""])]
SENT = re.findall(r"--data-urlencode 'query=([^']+)'", PAGE)
MISTAKES = [
    tuple(re.findall(r"`([^`]+)`", cell.replace("\\|", "|"))[0] for cell in row)
    for row in rows(PAGE, "| query | sentence |")
]


@pytest.mark.parametrize("text", [*TERMS, *SENT])
def test_what_is_to_be_typed_is_understood(text: str) -> None:
    parse(text)


def test_every_kind_of_term_is_in_the_table() -> None:
    assert {type(parse(term)) for term in TERMS} == set(get_args(Term))


@pytest.mark.parametrize(("text", "sentence"), MISTAKES)
def test_a_mistake_gets_the_sentence_of_the_page(text: str, sentence: str) -> None:
    with pytest.raises(QueryError) as raised:
        parse(text)
    assert raised.value.sentence == sentence


def test_the_limits_are_those_of_the_parser() -> None:
    limits = PAGE[PAGE.index("## Limits") :]
    assert re.findall(r"[\d,]+\d", limits) == [f"{LENGTH_MAX:,}", str(TERMS_MAX), str(DEPTH_MAX)]
