"""The days and times that a query can name: `today`, `monday`, `+3 days`, `2026-12-01`, …"""

from __future__ import annotations

import times
from query.cursor import Cursor
from query.errors import QueryError, did_you_mean, quoted
from query.tokens import Token, is_number
from query.tree import At, Day, FromToday, Unit
from query.vocabulary import DAYS, UNITS

# Fifty years, so that what is counted from today is always in the years 1970 to 9999.
FARTHEST: dict[Unit, int] = {"day": 18_250, "week": 2_600, "month": 600}

_FORMS = (
    "today, tomorrow, yesterday, monday, +3 days, 2026-12-01 or 2026-12-01T09:00[Europe/Berlin]"
)
_PLUS = '(in a URL, "+" is written %2B)'


def day(cursor: Cursor) -> Day:
    token = cursor.take_value("a day, such as today or 2026-12-01")
    if token.key in DAYS:
        return DAYS[token.key]
    if token.text[0] in "+-":
        return _from_today(token, cursor)
    if is_number(token.text[0]):
        return _written(token, cursor)
    raise _no_day(token)


def count(token: Token, unit: Unit) -> int:
    """The number that `7` or `+7` is."""
    number = int(token.text)
    if abs(number) > FARTHEST[unit]:
        raise QueryError(
            token.column,
            f"{quoted(f'{token.text} {unit}s')} is too far; at most {FARTHEST[unit]:,} {unit}s",
        )
    return number


def _from_today(token: Token, cursor: Cursor) -> FromToday:
    if not is_number(token.text[1:]):
        raise _no_day(token)
    unit = cursor.choose(UNITS, "days, weeks or months")
    return FromToday(count(token, unit), unit)


def _written(token: Token, cursor: Cursor) -> At:
    _check_next(token, cursor.here)
    try:
        return At(times.read(token.text).text)
    except ValueError:
        raise QueryError(
            token.column,
            f"{quoted(token.text)} is not a day or time of the years 1970 to 9999; write it as "
            "2026-12-01, 2026-12-01T09:00, 2026-12-01T09:00Z or 2026-12-01T09:00[Europe/Berlin]",
        ) from None


def _check_next(token: Token, following: Token) -> None:
    """A sign or `T` may be missing, often because `+` means a blank in URLs."""
    if following.key in UNITS:
        text = f"{token.text} {following.text}"
        raise QueryError(token.column, f'"{text}" has no sign; write "+{text}" {_PLUS}')
    if following.kind == "word" and ":" in following.text:
        raise QueryError(
            following.column,
            f"a day, its time and its offset are one word, as in 2026-12-01T09:00+01:00 {_PLUS}",
        )


def _no_day(token: Token) -> QueryError:
    if token.kind == "quoted":
        return QueryError(
            token.column, f"a day is written without quotes, not {quoted(token.text)}"
        )
    advice = did_you_mean(token.key, DAYS) or f"; write {_FORMS}"
    return QueryError(token.column, f"{quoted(token.text)} is not a day{advice}")
