"""When a task is to begin or to be done: a day, a local time, a moment, or a local time in a zone.

A time is one string, and its shape says which of them it is. What comes in follows the grammars of
RFC 3339 and RFC 9557 and means what JavaScript's Temporal makes of it; what is kept and goes out is
one canonical text.

All rules of zones come from the package tzdata, never from the system and never from PostgreSQL:
SQL compares plain local times only, with the bounds that `locals_before` and `offsets` work out
here. So every machine knows the same, and no two databases of zones need to agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

Kind = Literal["date", "floating", "instant", "zoned"]

FIRST_YEAR = 1970  # the last one is 9999, as four digits have it
_OUT_OF_RANGE = "A time must be in the years 1970 to 9999, in UTC too"
_OFFSETS_FROM = datetime(FIRST_YEAR, 1, 1)
_OFFSETS_UNTIL = datetime(2101, 1, 1)

_TIME = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?P<clock>[Tt](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d+)?)?"
    r"(?P<offset>[Zz]|[+-]\d\d:[0-5]\d)?"
    r"(?:\[!?(?P<zone>[\w.+/-]+)\])?)?"
    r"(?:\[[a-z_][a-z0-9_-]*=[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\])*",  # ignored, as nothing in it is critical
    re.ASCII,
)
_NO_ZONES = {"Factory", "localtime"}  # stand for a zone that somebody has yet to set
_STEP = timedelta(days=6)  # no zone changes its clock twice within; a test looks
_DAY = timedelta(days=1)  # no offset is that large
_SECOND = timedelta(seconds=1)


class Time(NamedTuple):
    kind: Kind
    local: datetime  # naive; in UTC for an instant, midnight for a date
    at: datetime | None = None  # in UTC, of an instant and of a zoned time
    zone: str | None = None

    @property
    def text(self) -> str:
        """The canonical text, which is kept and sent."""
        if self.kind == "date":
            return self.local.date().isoformat()
        local = self.local.isoformat(timespec="seconds")
        if self.at is None:
            return local
        if self.zone is None:
            return local + "Z"
        return f"{local}{_offset_text(self.local - self.at.replace(tzinfo=None))}[{self.zone}]"


def read(text: str) -> Time:
    """What a client has sent. ValueError if it is no time."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time")
    try:
        time = _time(found)
    except OverflowError:
        raise ValueError(_OUT_OF_RANGE) from None
    if time.local.year < FIRST_YEAR or (time.at and time.at.year < FIRST_YEAR):
        raise ValueError(_OUT_OF_RANGE)
    return time


def shown(text: str) -> str:
    """A text that is kept, with the offset that its zone has by today's rules.

    The local time stays, unless a clock change skips it by now: then it moves forward, as in
    `read`.
    """
    if text[-1] != "]":
        return text
    local, offset = _by_todays_rules(text)
    return f"{local.isoformat()}{_offset_text(offset)}{text[25:]}"


def key(text: str) -> str:
    """What PostgreSQL compares of a text that is kept, for a column of type `timestamp`.

    The moment in UTC, or the local time if there is no zone. A date is its last microsecond, and
    known by that.
    """
    if text[-1] == "]":
        local, offset = _by_todays_rules(text)
        return (local - offset).isoformat()
    if text[-1] == "Z":
        return text[:-1]
    return text if "T" in text else f"{text}T23:59:59.999999"


def kind(text: str) -> Kind:
    """The kind of a text that is kept."""
    if text[-1] == "]":
        return "zoned"
    if text[-1] == "Z":
        return "instant"
    return "floating" if "T" in text else "date"


def is_moment(text: str) -> bool:
    """Whether a text that is kept is the same moment for every reader."""
    return text[-1] in "Z]"


def are_of_one_kind(one: str, other: str) -> bool:
    """Whether two texts that are kept are of the same kind."""
    return kind(one) == kind(other)


def is_before(one: str, other: str) -> bool:
    """Whether of two texts that are kept, and are of one kind, `one` is earlier."""
    return key(one) < key(other)


def zone(name: str) -> ZoneInfo:
    """By its name, in any case; `key` is the name as the database spells it. ValueError for one
    that it lacks."""
    spelled = _spellings().get(name.lower()) if name.isascii() else None
    if spelled is None:
        raise ValueError("Timezone must be a name of the IANA database, such as Europe/Berlin")
    return _load(spelled)


def moment(local: datetime, zone: ZoneInfo) -> datetime:
    """In UTC. A local time that a clock change skips moves forward, one that it repeats is the
    earlier."""
    return (local - _offset(local, zone)).replace(tzinfo=UTC)


def locals_before(at: datetime, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """The local times whose moment is before `at`, as intervals: from the first of a pair until
    before the second.

    There are two of them if `at` is just after a clock was put forward: a skipped time moves
    forward, past times that come after it on the clock.
    """
    utc = _in_utc(at)
    whole = utc.replace(microsecond=0)
    first, last = _moved(whole, -_DAY), _moved(whole, _DAY)
    bounds = [first, *_changes(first, last, zone), last]
    found = [(datetime.min, first)]
    for start, end in pairwise(bounds):
        until = min(end, _moved(utc, _offset(start, zone)))
        if until <= start:
            continue
        if found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, until))
    return found


@cache
def offsets(zone: ZoneInfo) -> tuple[list[datetime], list[int]]:
    """Local times at which the offset from UTC changes, and the seconds to subtract before, between
    and after them.

    `moment(local)` is `local` minus `seconds[bisect_right(changes, local)]`, which in SQL is
    `width_bucket`. From 1970 to 2100; after that the last offset goes on.
    """
    changes = list(_changes(_OFFSETS_FROM, _OFFSETS_UNTIL, zone))
    seconds = [_offset(start, zone).total_seconds() for start in (_OFFSETS_FROM, *changes)]
    return changes, [int(each) for each in seconds]


def _time(found: re.Match[str]) -> Time:
    # By numbers, because what datetime.fromisoformat takes grows with Python.
    parts = found.group("year", "month", "day", "hour", "minute", "second")
    year, month, day, hour, minute, second = (int(part or 0) for part in parts)
    local = datetime(year, month, day, hour, minute, second)
    if found["clock"] is None:
        return Time("date", local)
    offset = (found["offset"] or "").upper().replace("-00:00", "+00:00")
    if found["zone"]:
        return _zoned(local, offset, zone(found["zone"]))
    if not offset:
        return Time("floating", local)
    utc = _in_utc(datetime.fromisoformat(f"{local.isoformat()}{offset}"))
    return Time("instant", utc, utc.replace(tzinfo=UTC))


def _zoned(local: datetime, offset: str, zone: ZoneInfo) -> Time:
    if offset == "Z":
        at = local.replace(tzinfo=UTC)
        return Time("zoned", at.astimezone(zone).replace(tzinfo=None), at, zone.key)
    found, real = _placed(local, offset, zone)
    if offset and (found, _offset_text(real)) != (local, offset):
        raise ValueError(f"{zone.key} does not have the offset {offset} then")
    return Time("zoned", found, (found - real).replace(tzinfo=UTC), zone.key)


def _by_todays_rules(text: str) -> tuple[datetime, timedelta]:
    """The local time of a zoned text that is kept, and its offset from UTC by today's rules."""
    local, offset = datetime.fromisoformat(text[:19]), text[19:25]
    try:
        return _placed(local, offset, zone(text[26:-1]))
    except ValueError:  # a newer release, which knows newer zones, has kept it
        return local, local - _in_utc(datetime.fromisoformat(text[:25]))


def _placed(local: datetime, offset: str, zone: ZoneInfo) -> tuple[datetime, timedelta]:
    """A local time that exists, and its offset. Of a repeated one `offset` says which, if it can."""
    earlier, later = _offset(local, zone), _offset(local.replace(fold=1), zone)
    if earlier > later:
        return local, later if _offset_text(later) == offset else earlier
    skipped = later - earlier
    return local + skipped, later


@lru_cache(maxsize=256)
def _offset_text(offset: timedelta) -> str:
    """`+01:00`. Seconds, which clocks had in Monrovia until 1972, are rounded to minutes, halves
    away from zero."""
    seconds = offset // _SECOND
    hours, minutes = divmod((abs(seconds) + 30) // 60, 60)
    return f"{'-' if seconds < 0 else '+'}{hours:02}:{minutes:02}"


def _offset(local: datetime, zone: ZoneInfo) -> timedelta:
    offset = zone.utcoffset(local)
    assert offset is not None
    return offset


def _in_utc(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


def _moved(local: datetime, by: timedelta) -> datetime:
    try:
        return local + by
    except OverflowError:
        return datetime.max if by > timedelta(0) else datetime.min


def _changes(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """The local times between `start` and `end` at which the offset becomes another."""
    while start < end:
        stop = min(_moved(start, _STEP), end)
        if _offset(start, zone) != _offset(stop, zone):
            yield _change(start, stop, zone)
        start = stop


def _change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime:
    """The only change between two local times, to the second."""
    before = _offset(start, zone)
    while end - start > _SECOND:
        middle = start + (end - start) // (2 * _SECOND) * _SECOND
        if _offset(middle, zone) == before:
            start = middle
        else:
            end = middle
    return end


@cache
def _spellings() -> dict[str, str]:
    """Every name by its lower case."""
    names = set((files("tzdata") / "zones").read_text().split()) - _NO_ZONES
    return {name.lower(): name for name in names}


@cache
def _load(name: str) -> ZoneInfo:
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
