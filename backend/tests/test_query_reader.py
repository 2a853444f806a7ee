"""The days that a query names, as the reader's calendar has them; and which names it needs to know."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import pytest

import times
from query import limits
from query.limits import EVER, NEVER
from query.reader import FIRST_DAY, LAST_DAY, LAST_MOMENT, Reader, names_lists, parents_named
from query.tree import (
    And,
    At,
    Day,
    FromToday,
    InList,
    Name,
    Not,
    Or,
    Overdue,
    Parent,
    Status,
    Weekday,
)

NOW = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)  # a Saturday; in Berlin it is Sunday already
UID = UUID(int=7)


def reader(zone: str = "UTC") -> Reader:
    return Reader(times.zone(zone), NOW)


@pytest.mark.parametrize(
    ("zone", "day", "text"),
    [
        ("UTC", FromToday(0), "2026-01-31"),
        ("Europe/Berlin", FromToday(0), "2026-02-01"),
        ("America/New_York", FromToday(0), "2026-01-31"),
        ("UTC", FromToday(1), "2026-02-01"),
        ("UTC", FromToday(-31), "2025-12-31"),
        ("UTC", FromToday(2, "week"), "2026-02-14"),
        ("UTC", FromToday(1, "month"), "2026-02-28"),
        ("UTC", FromToday(25, "month"), "2028-02-29"),
        ("UTC", FromToday(-1, "month"), "2025-12-31"),
        ("UTC", FromToday(-14, "month"), "2024-11-30"),
        ("UTC", Weekday(5), "2026-01-31"),
        ("UTC", Weekday(6), "2026-02-01"),
        ("UTC", Weekday(4), "2026-02-06"),
        ("Europe/Berlin", Weekday(5), "2026-02-07"),
        ("UTC", At("2026-12-01"), "2026-12-01"),
    ],
)
def test_days(zone: str, day: Day, text: str) -> None:
    assert reader(zone).day(day) == date.fromisoformat(text).toordinal()


@pytest.mark.parametrize("unit", ["day", "week", "month"])
@pytest.mark.parametrize("count", [10**7, 10**12])
def test_days_beyond_all_dates(unit: str, count: int) -> None:
    later, earlier = FromToday(count, unit), FromToday(-count, unit)  # type: ignore[arg-type]
    assert reader().day(later) > LAST_DAY
    assert reader().day(earlier) < FIRST_DAY
    assert [limit.at for limit in limits.span(later, reader())] == [NEVER, NEVER]
    assert [limit.at for limit in limits.span(earlier, reader())] == [EVER, EVER]


@pytest.mark.parametrize(
    ("zone", "day", "start", "end"),
    [
        ("UTC", "2026-12-01", "2026-12-01T00:00:00", "2026-12-02T00:00:00"),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),
        ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00", "2018-11-05T02:00:00"),
        ("America/Havana", "2025-11-02", "2025-11-02T04:00:00", "2025-11-03T05:00:00"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00", "2011-12-30T10:00:00"),
        ("UTC", "9999-12-31", "9999-12-31T00:00:00", NEVER),
    ],
)
def test_where_a_day_begins_and_ends(zone: str, day: str, start: str, end: str) -> None:
    found = limits.span(At(day), reader(zone))
    assert [limit.at for limit in found] == [start, end]
    assert found[0].locals == ((EVER, f"{day}T00:00:00"),)


@pytest.mark.parametrize(
    ("zone", "text", "moment"),
    [
        ("UTC", "2026-12-01", "2026-12-01T23:59:59.999999"),
        ("Europe/Berlin", "2026-12-01", "2026-12-01T22:59:59.999999"),
        ("Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:30:00"),
        ("Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00"),
        ("Europe/Berlin", "2026-12-01T09:00:00Z", "2026-12-01T09:00:00"),
        ("UTC", "2026-12-01T09:00:00+01:00[Europe/Berlin]", "2026-12-01T08:00:00"),
    ],
)
def test_moments(zone: str, text: str, moment: str) -> None:
    assert reader(zone).moment(text) == datetime.fromisoformat(moment).replace(tzinfo=UTC)


def test_moments_beyond_all_dates_are_the_last() -> None:
    assert reader("America/New_York").moment("9999-12-31") == LAST_MOMENT
    assert reader("Asia/Tokyo").day_of(LAST_MOMENT) == LAST_DAY


def test_what_a_query_needs_to_know() -> None:
    tree = Or((Not(Parent(UID)), And((Status("open"), InList(Name(("Work",)))))))
    assert names_lists(tree)
    assert parents_named(tree) == [UID]
    assert not names_lists(Not(Overdue()))
    assert parents_named(And((Parent(7), Overdue()))) == []
