"""Who asks: where, when, and what the names in a query stand for."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TypeGuard
from uuid import UUID
from zoneinfo import ZoneInfo

import times
from query.tree import (
    At,
    Dated,
    Day,
    FromToday,
    InList,
    NextDays,
    Node,
    Overdue,
    Parent,
    Term,
    Weekday,
    terms,
)

FIRST_DAY = date.min.toordinal()
LAST_DAY = date.max.toordinal()
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Reader:
    """Days are numbers, as date.toordinal() has them, so that there is one before and after all
    that a date can be.

    Moments are in UTC. Those that it cannot hold, such as the last hours of 9999 west of Greenwich,
    are LAST_MOMENT.
    """

    zone: ZoneInfo
    now: datetime
    lists: tuple[tuple[int, str], ...] = ()  # id and name; needed where `names_lists`
    parents: Mapping[UUID, int] = field(default_factory=dict)  # ids of those `parents_named`

    @cached_property
    def today(self) -> int:
        return self.day_of(self.now)

    def day(self, named: Day) -> int:
        """The day that a query names."""
        match named:
            case At(text):
                return date.fromisoformat(text).toordinal()
            case FromToday(count, "month"):
                return _months_later(date.fromordinal(self.today), count)
            case FromToday(count, unit):
                return self.today + count * (7 if unit == "week" else 1)
            case Weekday(number):
                return self.today + (number - date.fromordinal(self.today).weekday()) % 7

    def moment(self, time: str) -> datetime:
        """Of a text that times.py has made. A day is its last microsecond."""
        local = datetime.fromisoformat(times.key(time)).replace(tzinfo=None)
        if times.is_moment(time):
            return local.replace(tzinfo=UTC)
        try:
            return times.moment(local, self.zone)
        except OverflowError:
            return LAST_MOMENT

    def day_of(self, moment: datetime) -> int:
        """Which day it is here at a `moment`."""
        try:
            return moment.astimezone(self.zone).toordinal()
        except OverflowError:
            return LAST_DAY


def is_time(day: Day) -> TypeGuard[At]:
    """Whether it is a time within a day, not a whole one."""
    return isinstance(day, At) and "T" in day.text


def depends_on_the_clock(node: Node) -> bool:
    """Whether it selects other tasks tomorrow, though none of them has changed."""
    return any(map(_depends_on_the_clock, terms(node)))


def _depends_on_the_clock(term: Term) -> bool:
    if isinstance(term, Dated):
        return not isinstance(term.day, At)
    return isinstance(term, Overdue | NextDays)


def names_lists(node: Node) -> bool:
    """Whether it must be known which lists there are."""
    return any(isinstance(term, InList) for term in terms(node))


def parents_named(node: Node) -> list[UUID]:
    """The tasks of which the id must be known."""
    parents = (term.id for term in terms(node) if isinstance(term, Parent))
    return [id for id in parents if isinstance(id, UUID)]


def _months_later(day: date, count: int) -> int:
    """The same day of another month, or its last one if it is too short."""
    year, month = divmod(day.year * 12 + day.month - 1 + count, 12)
    if not date.min.year <= year <= date.max.year:
        return count * LAST_DAY  # far beyond all dates, in the direction of `count`
    longest = monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, longest)).toordinal()
