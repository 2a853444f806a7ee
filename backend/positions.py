"""Where a task or a list stands among its siblings: a key that sorts by code point, with room for
another beside it.

The keys are those of npm's `fractional-indexing`, so that a client can make them, too. A key is a
whole number and what follows a point that nobody writes, both in 62 digits. The first letter says
how many digits the number has: `a` one, `b` two, up to `z`; below zero `Z` one, `Y` two, down to
`A`. So `Zz` < `a0` < `a0V` < `a1` < `az` < `b00`.
"""

from __future__ import annotations

import re
from itertools import count

LONGEST = 128

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HEADS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SMALLEST = "A" + 26 * "0"  # stands for no key: nothing could come before it
_KEY = re.compile("[A-Za-z][0-9A-Za-z]*")


class Exhausted(Exception):
    """A key between those two would be longer than any may be."""


def check(key: str) -> str:
    """The key. ValueError if the scheme makes none such."""
    if len(key) > LONGEST or not _KEY.fullmatch(key):
        raise ValueError(f"A key is 1 to {LONGEST} letters and digits, of which a letter is first")
    whole, fraction = _split(key)
    if len(whole) < _length(key[0]):
        raise ValueError(
            f"A key that begins with {key[0]!r} has at least {_length(key[0])} characters"
        )
    if fraction.endswith("0") or key == _SMALLEST:
        raise ValueError(f"{key!r} would leave no room before it")
    return key


def between(before: str | None, after: str | None) -> str:
    """A key after `before` and ahead of `after`, which are keys in this order. None: there is
    nothing on that side."""
    if before is not None and after is not None and before >= after:
        raise ValueError(f"{before!r} does not come before {after!r}")
    made = _between(before, after)
    if len(made) > LONGEST:
        raise Exhausted
    return made


def _between(before: str | None, after: str | None) -> str:
    if before is None:
        return "a0" if after is None else _ahead_of(after)
    whole, fraction = _split(before)
    if after is not None and after.startswith(whole):
        return whole + _fraction(fraction, after[len(whole) :])
    following = _stepped(whole, 1)
    if following is None or (after is not None and following >= after):
        return whole + _fraction(fraction, None)
    return following


def _ahead_of(after: str) -> str:
    whole, fraction = _split(after)
    if whole == _SMALLEST:
        return whole + _fraction("", fraction)
    if fraction:
        return whole
    previous = _stepped(whole, -1)
    if previous is None or previous == _SMALLEST:
        return _SMALLEST + _fraction("", None)
    return previous


def _length(head: str) -> int:
    """How many characters a whole number with this first letter has, the letter included."""
    place = _HEADS.index(head)
    return 27 - place if place < 26 else place - 24


def _split(key: str) -> tuple[str, str]:
    """The whole number and what follows its point."""
    length = _length(key[0])
    return key[:length], key[length:]


def _stepped(whole: str, by: int) -> str | None:
    """The next whole number (`by` 1), or the one before (-1). None if there is none."""
    head, digits = whole[0], whole[1:]
    value = _value(digits) + by
    if 0 <= value < 62 ** len(digits):
        return head + _written(value, len(digits))
    place = _HEADS.index(head) + by
    if not 0 <= place < len(_HEADS):
        return None
    head = _HEADS[place]
    return head + (_length(head) - 1) * ("0" if by > 0 else "z")


def _value(digits: str) -> int:
    value = 0
    for digit in digits:
        value = 62 * value + _DIGITS.index(digit)
    return value


def _written(value: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        value, digit = divmod(value, 62)
        digits = _DIGITS[digit] + digits
    return digits


def _fraction(low: str, high: str | None) -> str:
    """Digits after the point that are between `low` and `high`; None is the next whole number."""
    made = ""
    for place in count():
        lower = _DIGITS.index(low[place]) if place < len(low) else 0
        upper = 62 if high is None else _DIGITS.index(high[place])
        if upper - lower > 1:
            return made + _DIGITS[(lower + upper + 1) // 2]
        if upper > lower and high is not None and len(high) > place + 1:
            return made + _DIGITS[upper]
        if upper > lower:
            high = None  # whatever follows this digit is below it
        made += _DIGITS[lower]
    raise AssertionError
