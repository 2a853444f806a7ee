"""What each term selects, said once by hand. test_query_sql.py holds the SQL against the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

import times
from query import memory
from query.reader import Reader
from query.tree import (
    And,
    At,
    Comparison,
    Dated,
    Day,
    FromToday,
    InList,
    Label,
    Name,
    NextDays,
    NoDate,
    Node,
    NoLabels,
    NoParent,
    Not,
    NoTime,
    Or,
    Overdue,
    Parent,
    Priority,
    Search,
    Status,
    Subtask,
    When,
)
from rules import Level

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)  # a Tuesday
UID = UUID(int=9)
LISTS = ((1, "Work"), (2, "Wohnung"), (3, "inbox"), (4, "WORK"))
TASK = {
    "id": 5,
    "title": "Crème brûlée for 10",
    "description": "Buy eggs",
    "completed": False,
    "completed_at": None,
    "created_at": datetime(2026, 11, 30, 23, 30, tzinfo=UTC),
    "updated_at": datetime(2026, 12, 1, 9, tzinfo=UTC),
    "list_id": None,
    "parent_id": None,
    "priority": "none",
    "labels": [],
    "start": None,
    "due": None,
}


def selects(node: Node, zone: str = "UTC", **values: Any) -> bool:
    asked = Reader(times.zone(zone), NOW, LISTS, {UID: 7})
    return memory.selects(node, TASK | values, asked)


TODAY, TOMORROW = FromToday(0), FromToday(1)


@pytest.mark.parametrize(
    ("due", "zone", "is_overdue"),
    [
        (None, "UTC", False),
        ("2026-11-30", "UTC", True),
        ("2026-12-01", "UTC", False),
        ("2026-12-01", "Pacific/Kiritimati", True),  # where it is the 2nd
        ("2026-12-01T11:59:59", "UTC", True),
        ("2026-12-01T12:00:00", "UTC", False),
        ("2026-12-01T12:30:00", "Europe/Berlin", True),
        ("2026-12-01T12:30:00", "America/New_York", False),
        ("2026-12-01T11:59:59Z", "Europe/Berlin", True),
        ("2026-12-01T12:00:00Z", "Europe/Berlin", False),
        ("2026-12-01T13:30:00+01:00[Europe/Berlin]", "UTC", False),
        ("2026-12-01T12:30:00+01:00[Europe/Berlin]", "UTC", True),
    ],
)
def test_overdue(due: str | None, zone: str, is_overdue: bool) -> None:
    assert selects(Overdue(), zone, due=due) is is_overdue
    assert selects(Not(Overdue()), zone, due=due) is not is_overdue


@pytest.mark.parametrize(
    ("due", "zone", "when", "day", "selected"),
    [
        ("2026-12-01", "UTC", "on", TODAY, True),
        ("2026-12-01", "Pacific/Kiritimati", "on", TODAY, False),
        ("2026-12-02", "UTC", "on", TOMORROW, True),
        ("2026-12-01T00:00:00", "UTC", "on", TODAY, True),
        ("2026-12-01T23:30:00Z", "UTC", "on", TODAY, True),
        ("2026-12-01T23:30:00Z", "Europe/Berlin", "on", TOMORROW, True),
        ("2026-12-02T00:30:00+01:00[Europe/Berlin]", "UTC", "on", TODAY, True),
        ("2026-12-01", "UTC", "before", TODAY, False),
        ("2026-12-01", "UTC", "after", TODAY, False),
        ("2026-12-01", "UTC", "before", TOMORROW, True),
        ("2026-12-02T00:00:00", "UTC", "after", TODAY, True),
        (None, "UTC", "before", TOMORROW, False),
        ("2026-12-01T09:00:00", "UTC", "on", At("2026-12-01T09:00:00Z"), True),
        ("2026-12-01T09:00:00", "UTC", "before", At("2026-12-01T09:00:00Z"), False),
        ("2026-12-01T09:00:00", "UTC", "after", At("2026-12-01T09:00:00Z"), False),
        ("2026-12-01T09:00:00", "Europe/Berlin", "before", At("2026-12-01T09:00:00Z"), True),
        ("2026-12-01", "UTC", "after", At("2026-12-01T23:59:59"), True),
        ("2026-12-01", "UTC", "before", At("2026-12-02T00:00:00"), True),
        (
            "2011-12-30",
            "Pacific/Apia",
            "on",
            At("2011-12-30"),
            True,
        ),  # a day that was skipped there
        ("2026-03-29T02:30:00", "Europe/Berlin", "on", At("2026-03-29T03:30:00"), True),
        ("9999-12-31", "UTC", "on", At("9999-12-31"), True),
        ("9999-12-31", "UTC", "before", FromToday(10**9), True),
        ("9999-12-31", "UTC", "on", FromToday(10**9), False),
        ("1970-01-01", "UTC", "after", FromToday(-(10**9), "month"), True),
    ],
)
def test_due(due: str | None, zone: str, when: When, day: Day, selected: bool) -> None:
    assert selects(Dated("due", when, day), zone, due=due) is selected
    assert selects(Dated("start", when, day), zone, start=due) is selected


@pytest.mark.parametrize(
    ("node", "zone", "selected"),
    [
        (Dated("created", "on", FromToday(-1)), "UTC", True),
        (Dated("created", "on", TODAY), "Europe/Berlin", True),
        (Dated("updated", "before", At("2026-12-01T09:00:00Z")), "UTC", False),
        (Dated("updated", "on", At("2026-12-01T10:00:00")), "Europe/Berlin", True),
        (Dated("completed", "before", TOMORROW), "UTC", False),
    ],
)
def test_created_updated_completed(node: Node, zone: str, selected: bool) -> None:
    assert selects(node, zone) is selected


@pytest.mark.parametrize(
    ("due", "days", "selected"),
    [
        ("2026-11-30", 7, False),
        ("2026-12-01", 1, True),
        ("2026-12-02", 1, False),
        ("2026-12-07T23:59:59", 7, True),
        ("2026-12-08", 7, False),
        ("2026-12-01", 0, False),
        (None, 7, False),
        ("9999-12-31", 10**9, True),
    ],
)
def test_next_days(due: str | None, days: int, selected: bool) -> None:
    assert selects(NextDays(days), due=due) is selected


@pytest.mark.parametrize(
    ("comparison", "level", "selected"),
    [
        ("=", "high", ["high"]),
        (">", "low", ["medium", "high"]),
        (">=", "low", ["low", "medium", "high"]),
        ("<", "low", ["none"]),
        ("<=", "none", ["none"]),
        (">", "high", []),
    ],
)
def test_priority(comparison: Comparison, level: Level, selected: list[str]) -> None:
    term = Priority(comparison, level)
    levels = ("none", "low", "medium", "high")
    assert [each for each in levels if selects(term, priority=each)] == selected


@pytest.mark.parametrize(
    ("name", "label", "selected"),
    [
        (("waiting",), "Waiting", True),
        (("wai",), "waiting", False),
        (("wai", ""), "waiting", True),
        (("", "ting"), "waiting", True),
        (("w", "t", "g"), "WAITING", True),
        (("", ""), "x", True),
        (("ab", "ba"), "aba", False),
        (("a", "b", "b", ""), "ab", False),
        (("café",), "cafe", False),
        (("STRASSE",), "straße", True),
        (("a.c",), "abc", False),
        (("a%", ""), "abc", False),
    ],
)
def test_labels(name: tuple[str, ...], label: str, selected: bool) -> None:
    assert selects(Label(Name(name)), labels=["other", label]) is selected
    assert not selects(Label(Name(name)))


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        (("work",), [1, 4]),
        (("Wo", ""), [1, 2, 4]),
        (("INBOX",), [None, 3]),
        (("In", ""), [None, 3]),
        (("", ""), [None, 1, 2, 3, 4]),
        (("gone",), []),
    ],
)
def test_lists(name: tuple[str, ...], lists: list[int | None]) -> None:
    every = (None, 1, 2, 3, 4)
    assert [id for id in every if selects(InList(Name(name)), list_id=id)] == lists
    assert not selects(InList(Name(("", ""))), list_id=8)  # in the trash


@pytest.mark.parametrize(
    ("node", "values", "selected"),
    [
        (Status("open"), {}, True),
        (Status("completed"), {}, False),
        (Status("all"), {"completed": True}, True),
        (NoDate(), {}, True),
        (NoTime(), {}, False),
        (NoTime(), {"due": "2026-12-01"}, True),
        (NoTime(), {"due": "2026-12-01T00:00:00"}, False),
        (NoLabels(), {}, True),
        (NoLabels(), {"labels": ["x"]}, False),
        (Subtask(), {"parent_id": 7}, True),
        (NoParent(), {"parent_id": 7}, False),
        (Parent(7), {"parent_id": 7}, True),
        (Parent(UID), {"parent_id": 7}, True),
        (Parent(UUID(int=8)), {}, False),
        (Search(("creme", "10")), {}, True),
        (Search(("brul", "egg")), {}, True),
        (Search(("reme",)), {}, False),
        (Search(("creme", "milk")), {}, False),
        (Search(("eggs",)), {"description": None}, False),
        (And((NoDate(), Subtask())), {}, False),
        (Or((NoDate(), Subtask())), {}, True),
    ],
)
def test_other_terms(node: Node, values: dict[str, Any], selected: bool) -> None:
    assert selects(node, **values) is selected
    assert selects(Not(node), **values) is not selected
