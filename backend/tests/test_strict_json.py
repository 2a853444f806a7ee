"""Strict JSON is JSON: what it takes, every reader takes alike, and whatever a writer writes, it
takes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strict_json

NUMBERS = st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
# Pieces from which both JSON and things that are nearly JSON are made.
PIECES = st.sampled_from(
    [
        *(
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            '"',
            '"a"',
            '"b"',
            '""',
            "0",
            "1",
            "-",
            "-0",
            "1.5",
            "1e3",
            "1E999",
            "01",
            ".",
            "e",
        ),
        *(
            "true",
            "false",
            "null",
            "NaN",
            "Infinity",
            "-Infinity",
            " ",
            "\n",
            "\t",
            "\\",
            '"\\u0000"',
            '"\\ud800"',
            '"\\n"',
        ),
        *('{"a":1}', '{"a":1,"a":2}', "[1,2]", "\ufeff", "\u00a0", "é", '"é"', "\x00", "//", "'"),
    ]
)
BYTES = st.binary(max_size=20) | st.lists(PIECES, max_size=9).map(
    lambda pieces: "".join(pieces).encode()
)


def accepted(text: bytes) -> bool:
    try:
        strict_json.loads(text)
    except ValueError:
        return False
    return True


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types throughout: 1, 1.0 and True are three values. -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(BYTES)
def test_whatever_is_accepted_the_standard_reader_accepts_with_the_same_value(text: bytes) -> None:
    if accepted(text):
        assert same(strict_json.loads(text), json.loads(text))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(VALUES, st.booleans(), st.sampled_from([None, 0, 2, "\t"]))
def test_whatever_the_standard_writer_writes_is_accepted(
    value: Any, ascii: bool, indent: Any
) -> None:
    text = json.dumps(value, allow_nan=False, ensure_ascii=ascii, indent=indent).encode(
        "utf-8", "surrogatepass"
    )
    if not ascii and any(
        "\ud800" <= char <= "\udfff" for char in text.decode("utf-8", "surrogatepass")
    ):
        return  # not UTF-8, which is all that may be exchanged: RFC 8259 section 8.1
    assert same(strict_json.loads(text), value)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(VALUES, st.binary(min_size=1, max_size=3))
def test_nothing_but_white_space_may_follow(value: Any, tail: bytes) -> None:
    assert accepted(json.dumps([value]).encode() + tail) == (tail.strip(b" \t\r\n") == b"")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.text(max_size=2), min_size=2, max_size=6))
def test_a_name_may_appear_once_in_an_object(names: list[str]) -> None:
    text = "{" + ",".join(f"{json.dumps(name)}:{{}}" for name in names) + "}"
    assert accepted(text.encode()) == (len(set(names)) == len(names))


TABLE: list[tuple[bytes, Any]] = [
    (b"{}", {}),
    (b" [ ] ", []),
    (b'"\\u0041\\/\\b"', "A/\b"),
    (b"-0", 0),
    (b"-0.0", -0.0),
    (b"1E+2", 100.0),
    (b"1e-999", 0.0),
    (b"1.7976931348623157e308", 1.7976931348623157e308),
    (b"1" + b"0" * 308, 10**308),
    (b"-1" + b"0" * 308, -(10**308)),
    (b'{"a":{"a":1},"b":{"a":1}}', {"a": {"a": 1}, "b": {"a": 1}}),
    (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
    ('{"é":1,"e\u0301":2}'.encode(), {"é": 1, "e\u0301": 2}),
    (b"null", None),
    (b"[" * 99 + b"]" * 99, ...),
]
REFUSED = [
    *(
        b"",
        b" ",
        b"\xef\xbb\xbf{}",
        b"{}x",
        b"{}{}",
        b"{}\x00",
        b"{,}",
        b'{"a":1,}',
        b"[1,]",
        b"[1 2]",
        b'{"a" 1}',
        b"{1:2}",
        b"'a'",
    ),
    *(
        b"NaN",
        b"nan",
        b"Infinity",
        b"-Infinity",
        b"[NaN]",
        b"1e999",
        b"-1e999",
        b"1e400",
        b"1" + b"0" * 309,
        b"9" * 10_000,
    ),
    *(
        b"-" + b"9" * 10_000,
        b"0." + b"1" * 10_000,
        b"1e" + b"0" * 10_000,
        b"01",
        b"-01",
        b"+1",
        b"1.",
        b".1",
        b"1e",
        b"0x1",
        b"1_0",
        b"-",
    ),
    *(
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'[{"x":[{"a":1,"a":2}]}]',
        b'{"":1,"":2}',
        b'{"a":{},"b":{},"a":{}}',
    ),
    *(
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',
        b'"\xf5\x80\x80\x80"',
        '"a"'.encode("utf-16"),
        '"a"'.encode("utf-16-be"),
    ),
    *(
        '"a"'.encode("utf-32"),
        '"é"'.encode("latin-1"),
        b'"\x00"',
        b'"\n"',
        b'"\x1f"',
        b'"\\x41"',
        b'"\\u12"',
        b'"a',
        b"True",
        b"None",
    ),
    *(
        "\u0661".encode(),
        "\uff11".encode(),
        "\u00a0{}".encode(),
        "{}\u2028".encode(),
        b"\x0b{}",
        b"{}\x0c",
    ),
    *(
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ),
    *(
        b"[" * 101 + b"]" * 101,
        b"[" * 900 + b"]" * 900,
        b"[" * 5_000 + b"]" * 5_000,
        b'[{"a":' * 300 + b"1" + b"}]" * 300,
    ),
]


@pytest.mark.parametrize(("text", "value"), TABLE, ids=lambda part: repr(part)[:30])
def test_accepted(text: bytes, value: Any) -> None:
    loaded = strict_json.loads(text)
    assert value is ... or same(loaded, value)


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: f"{text[:24]!r} {len(text)}")
def test_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        strict_json.loads(text)


# --- written ---


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (datetime(2026, 1, 12, 10, 0, 0, 123456, UTC), "2026-01-12T10:00:00.123456Z"),
        (datetime(2026, 1, 12, 10, 0, 0, 100000, UTC), "2026-01-12T10:00:00.100000Z"),
        (datetime(2026, 1, 12, 10, 0, 0, 1, UTC), "2026-01-12T10:00:00.000001Z"),
        (datetime(2026, 1, 12, 10, 0, 0, 0, UTC), "2026-01-12T10:00:00.000000Z"),
        (datetime(2026, 1, 12, 0, 0, 0, 0, UTC), "2026-01-12T00:00:00.000000Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
        (datetime(9999, 12, 31, 23, 59, 59, 0, UTC), "9999-12-31T23:59:59.000000Z"),
    ],
)
def test_a_time_has_six_digits_of_a_second_wherever_it_stands(time: datetime, text: str) -> None:
    other = datetime(2026, 1, 1, 1, 1, 1, 1, UTC)
    for value in (
        time,
        [time],
        {"at": time, "text": "10:00:00Z"},
        [{"a": [None, {"b": time}]}],
        Row(time),
    ):
        assert (
            strict_json.dumps([value, other])
            == json.dumps(
                [
                    json.loads(
                        json.dumps(
                            value, default=lambda found: text if found is time else found.members()
                        )
                    ),
                    "2026-01-01T01:01:01.000001Z",
                ],
                separators=(",", ":"),
            ).encode()
        )


class Row:
    """What is no dict, but makes one, as a row of the database."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def members(self) -> dict[str, Any]:
        return {"at": self.at}

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self.members().items())


@given(VALUES)
@settings(database=None)
def test_what_is_written_is_read_again_the_same(value: Any) -> None:
    try:
        text = strict_json.dumps(value)
    except TypeError:  # an integer of more than 64 bits
        return
    assert strict_json.loads(text) == value


TIMES = st.datetimes(timezones=st.just(UTC)) | st.datetimes(timezones=st.just(UTC)).map(
    lambda time: time.replace(microsecond=0)
)


@given(st.lists(TIMES, min_size=2, max_size=8))
@settings(database=None)
def test_times_sort_as_their_texts_do(times: list[datetime]) -> None:
    texts = strict_json.loads(strict_json.dumps(times))
    assert sorted(texts) == [text for _, text in sorted(zip(times, texts, strict=True))]
