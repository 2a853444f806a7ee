"""JSON without any of the leniencies that make two readers of the same bytes disagree (RFC 8259, RFC 7493)."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 100
MAX_DIGITS = 400  # the largest double has 309


def loads(text: bytes) -> Any:
    """The value in `text`, which must be UTF-8 without a BOM. ValueError for anything else.

    Refused beside plain syntax errors: names that appear twice, NaN and infinities, numbers beyond a double,
    nesting beyond MAX_DEPTH.
    """
    try:
        value = _decoder.decode(text.decode("utf-8"))
        if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise ValueError("nested too deeply")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name appears twice")
    return members


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number) or len(digits) > MAX_DIGITS:
        raise ValueError("a number beyond a double")
    return number


def _integer(digits: str) -> int:
    if len(digits) > 300:
        _finite(digits)
    return int(digits)


def _depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, children), default=0)


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite, parse_int=_integer)
