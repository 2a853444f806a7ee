"""Where a day or a moment begins, for every kind of time that a task may have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import times
from query.reader import FIRST_DAY, LAST_DAY, LAST_MOMENT, Reader, is_time
from query.tree import Day

EVER = "-infinity"
NEVER = "infinity"

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Limit:
    """Texts, as PostgreSQL reads a `timestamp`.

    A moment is before the limit if it is before `at`, in UTC. A local time is if it is in one of
    `locals`: from the first of a pair until before the second.
    """

    at: str
    locals: tuple[tuple[str, str], ...]


def of_moment(at: datetime, reader: Reader) -> Limit:
    (_, first), *others = times.locals_before(at, reader.zone)
    later = ((start.isoformat(), end.isoformat()) for start, end in others)
    return Limit(_in_utc(at), ((EVER, first.isoformat()), *later))


def of_day(number: int, reader: Reader) -> Limit:
    """A local time is of the day that it names, even where the reader's clock skips it."""
    if number < FIRST_DAY:
        return Limit(EVER, ((EVER, EVER),))
    if number > LAST_DAY:
        return Limit(NEVER, ((EVER, NEVER),))
    midnight = datetime.fromordinal(number)
    return Limit(_moment_of(midnight, reader), ((EVER, midnight.isoformat()),))


def span(day: Day, reader: Reader) -> tuple[Limit, Limit]:
    """Where it begins, and where what comes after it begins."""
    if is_time(day):
        at = reader.moment(day.text)
        return of_moment(at, reader), of_moment(after(at), reader)
    number = reader.day(day)
    return of_day(number, reader), of_day(number + 1, reader)


def after(at: datetime) -> datetime:
    """The next moment there is."""
    return min(at, LAST_MOMENT - _MICROSECOND) + _MICROSECOND


def _moment_of(midnight: datetime, reader: Reader) -> str:
    try:
        return _in_utc(times.moment(midnight, reader.zone))
    except OverflowError:  # east of Greenwich the first day of all has begun before
        return EVER


def _in_utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()
