"""Times mean what Temporal makes of them, and the bounds for SQL are exact around every clock
change."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import times
from tests import javascript
from tests.servers import BACKEND


class Unlike(NamedTuple):
    """What we make of a text, and why Temporal makes something else of it."""

    kept: str | None
    why: str


# Of each kind: what comes in, and the text that is kept, or None if it is refused. Temporal agrees
# unless Unlike says so.
TABLE: dict[str, dict[str, str | Unlike | None]] = {
    "date": {
        "2026-12-01": "2026-12-01",
        "1970-01-01": "1970-01-01",
        "9999-12-31": "9999-12-31",
        "2028-02-29": "2028-02-29",
        "2000-02-29": "2000-02-29",
        "2026-02-29": None,
        "2100-02-29": None,
        "2026-04-31": None,
        "2026-13-01": None,
        "2026-00-10": None,
        "2026-01-00": None,
        "1969-12-31": Unlike(None, "years"),
        "0000-01-01": Unlike(None, "years"),
        "+002026-12-01": Unlike(None, "RFC 3339 has four digits"),
        "20261201": Unlike(None, "RFC 3339 has hyphens"),
        "2026-1-1": None,
        "2026-12": None,
        "2026-W49-2": None,
        "2026-335": None,
        "2026-12-01[u-ca=iso8601]": "2026-12-01",
        "2026-12-01[u-ca=gregory][foo=bar]": "2026-12-01",
        "2026-12-01[!u-ca=iso8601]": Unlike(None, "nothing critical but a zone"),
        "2026-12-01[!foo=bar]": None,
        "2026-12-01Z": None,
        "2026-12-01+01:00": None,
        " 2026-12-01": None,
        "": None,
        "tomorrow": None,
        "２０２６-12-01": None,
        "2026−12−01": None,
        "2026/12/01": None,
    },
    "floating": {
        "2026-12-01T09:00": "2026-12-01T09:00:00",
        "2026-12-01T09:00:00": "2026-12-01T09:00:00",
        "2026-12-01t09:00:59": "2026-12-01T09:00:59",
        "2026-12-01T00:00": "2026-12-01T00:00:00",
        "2026-12-01T23:59:59.999999999": "2026-12-01T23:59:59",
        "2026-12-01T09:00:00.5": "2026-12-01T09:00:00",
        "2026-12-01T09:00:00.1234567891": Unlike(
            "2026-12-01T09:00:00", "RFC 3339 does not count the digits"
        ),
        "2026-12-01T09:00:00,5": Unlike(None, "RFC 3339 has a point"),
        "2026-12-01T09:00:00.": None,
        "2026-12-01T09:00.5": None,
        "2026-12-01 09:00": Unlike(None, "RFC 3339 has a T"),
        "2026-12-01T09": Unlike(None, "RFC 3339 has HH:MM"),
        "2026-12-01T0900": Unlike(None, "RFC 3339 has HH:MM"),
        "20261201T090000": Unlike(None, "RFC 3339 has hyphens"),
        "2026-12-01T9:00": None,
        "2026-12-01T24:00": None,
        "2026-12-01T24:00:00": None,
        "2026-12-01T25:00": None,
        "2026-12-01T09:60": None,
        "2026-12-01T09:00:60": Unlike(None, "there is no second 60"),
        "2026-12-01T23:59:60": Unlike(None, "there is no second 60"),
        "2026-12-01T09:00:61": None,
        "2028-02-29T12:00": "2028-02-29T12:00:00",
        "2027-02-29T12:00": None,
        "1970-01-01T00:00": "1970-01-01T00:00:00",
        "9999-12-31T23:59:59": "9999-12-31T23:59:59",
        "1969-12-31T23:59:59": Unlike(None, "years"),
        "-002026-12-01T09:00": Unlike(None, "RFC 3339 has four digits"),
        "2026-12-01T09:00[u-ca=hebrew]": "2026-12-01T09:00:00",
        "2026-12-01T09:00[u-ca=somebodys]": Unlike("2026-12-01T09:00:00", "whatever the calendar"),
        "2026-12-01T09:00[_x-1=a-1]": "2026-12-01T09:00:00",
        "2026-12-01T09:00[!u-ca=gregory]": Unlike(None, "nothing critical but a zone"),
        "2026-12-01T09:00[u-ca=]": None,
        "2026-12-01T09:00[U-CA=iso8601]": None,
        "2026-12-01T": None,
        "T09:00": None,
    },
    "instant": {
        "2026-12-01T09:00:00Z": "2026-12-01T09:00:00Z",
        "2026-12-01T09:00Z": "2026-12-01T09:00:00Z",
        "2026-12-01t09:00z": "2026-12-01T09:00:00Z",
        "2026-12-01T09:00:00.999Z": "2026-12-01T09:00:00Z",
        "2026-12-01T09:00:00+01:00": "2026-12-01T08:00:00Z",
        "2026-12-01T09:00+05:30": "2026-12-01T03:30:00Z",
        "2026-12-01T09:00-09:30": "2026-12-01T18:30:00Z",
        "2026-12-01T00:30+14:00": "2026-11-30T10:30:00Z",
        "2026-12-31T23:30-12:00": "2027-01-01T11:30:00Z",
        "2026-12-01T09:00-00:00": "2026-12-01T09:00:00Z",
        "2026-12-01T09:00+00:00": "2026-12-01T09:00:00Z",
        "2026-12-01T09:00+23:59": "2026-11-30T09:01:00Z",
        "2026-12-01T09:00+24:00": None,
        "2026-12-01T09:00+01:60": None,
        "2026-12-01T09:00+01": Unlike(None, "RFC 3339 has ±HH:MM"),
        "2026-12-01T09:00+0100": Unlike(None, "RFC 3339 has ±HH:MM"),
        "2026-12-01T09:00+01:00:30": Unlike(None, "RFC 3339 has no seconds in offsets"),
        "2026-12-01T09:00−01:00": None,
        "2026-12-01 09:00Z": Unlike(None, "RFC 3339 has a T"),
        "2026-12-01T09:00 Z": None,
        "2026-12-01T24:00Z": None,
        "2026-12-01T09:00:60Z": Unlike(None, "there is no second 60"),
        "2016-12-31T23:59:60Z": Unlike(None, "there is no second 60"),
        "2026-12-01T09:00Z[u-ca=iso8601]": "2026-12-01T09:00:00Z",
        "2026-12-01T09:00Z[!foo=bar]": None,
        "2028-02-29T23:30-01:00": "2028-03-01T00:30:00Z",
        "2027-03-01T00:30+01:00": "2027-02-28T23:30:00Z",
        "1970-01-01T00:00Z": "1970-01-01T00:00:00Z",
        "1970-01-01T00:30+01:00": Unlike(None, "years"),
        "1969-12-31T23:30-01:00": "1970-01-01T00:30:00Z",
        "9999-12-31T23:59:59Z": "9999-12-31T23:59:59Z",
        "9999-12-31T23:59-01:00": Unlike(None, "years"),
        "2026-12-01T09:00ZZ": None,
        "2026-12-01T09:00Z\n": None,
    },
    "zoned": {
        "2026-12-01[Europe/Berlin]": Unlike(None, "a day has no zone"),
        "2026-12-01T09:00[Europe/Berlin]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01T09:00:00+01:00[Europe/Berlin]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-07-01T09:00+02:00[Europe/Berlin]": "2026-07-01T09:00:00+02:00[Europe/Berlin]",
        "2026-12-01T09:00+02:00[Europe/Berlin]": None,
        "2026-12-01T09:00-01:00[Europe/Berlin]": None,
        "2026-12-01T08:00Z[Europe/Berlin]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01t08:00z[Europe/Berlin]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01T23:30Z[Asia/Tokyo]": "2026-12-02T08:30:00+09:00[Asia/Tokyo]",
        "2026-12-01T09:00[!Europe/Berlin]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01T09:00+01:00[!Europe/Berlin]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01T09:00[Europe/Berlin][u-ca=iso8601]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01T09:00[!Europe/Berlin][u-ca=gregory][foo=a-b]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01T09:00[Europe/Berlin][!u-ca=iso8601]": Unlike(
            None, "nothing critical but a zone"
        ),
        "2026-12-01T09:00[Europe/Berlin][!foo=bar]": None,
        "2026-12-01T09:00[u-ca=iso8601][Europe/Berlin]": None,
        "2026-12-01T09:00[Europe/Berlin][Europe/Berlin]": None,
        "2026-12-01T09:00[europe/berlin]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01T09:00[EUROPE/BERLIN]": "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01T09:00[asia/calcutta]": "2026-12-01T09:00:00+05:30[Asia/Calcutta]",
        "2026-12-01T09:00[Asia/Kolkata]": "2026-12-01T09:00:00+05:30[Asia/Kolkata]",
        "2026-12-01T09:00[US/Pacific]": "2026-12-01T09:00:00-08:00[US/Pacific]",
        "2026-12-01T09:00[UTC]": "2026-12-01T09:00:00+00:00[UTC]",
        "2026-12-01T09:00[etc/gmt+5]": "2026-12-01T09:00:00-05:00[Etc/GMT+5]",
        "2026-12-01T09:00[Etc/GMT-14]": "2026-12-01T09:00:00+14:00[Etc/GMT-14]",
        "2026-12-01T09:00+00:00[Europe/London]": "2026-12-01T09:00:00+00:00[Europe/London]",
        "2026-12-01T09:00-00:00[Europe/London]": "2026-12-01T09:00:00+00:00[Europe/London]",
        "2026-12-01T09:00-00:00[Europe/Berlin]": None,
        "2026-12-01T09:00[America/Argentina/Buenos_Aires]": "2026-12-01T09:00:00-03:00[America/Argentina/Buenos_Aires]",
        "2026-12-01T09:00[Asia/Kathmandu]": "2026-12-01T09:00:00+05:45[Asia/Kathmandu]",
        "2026-12-01T09:00:30.7[Asia/Kathmandu]": "2026-12-01T09:00:30+05:45[Asia/Kathmandu]",
        "2026-12-01T09:00[+01:00]": Unlike(None, "a zone has a name"),
        "2026-12-01T09:00+01:00[+01:00]": Unlike(None, "a zone has a name"),
        "2026-12-01T09:00[Z]": None,
        "2026-12-01T09:00[Europe/Atlantis]": None,
        "2026-12-01T09:00[Factory]": None,
        "2026-12-01T09:00[localtime]": None,
        "2026-12-01T09:00[Europe]": None,
        "2026-12-01T09:00[../Europe/Berlin]": None,
        "2026-12-01T09:00[]": None,
        "2026-12-01T09:00[Europe/Berlin": None,
        "2026-12-01T09:00 [Europe/Berlin]": None,
        "2026-12-01 09:00[Europe/Berlin]": Unlike(None, "RFC 3339 has a T"),
        "2026-12-01T09:00+01[Europe/Berlin]": Unlike(None, "RFC 3339 has ±HH:MM"),
        "2026-12-01T09:00:60[Europe/Berlin]": Unlike(None, "there is no second 60"),
        "2026-12-01T24:00[Europe/Berlin]": None,
        "2028-02-29T09:00[Europe/Berlin]": "2028-02-29T09:00:00+01:00[Europe/Berlin]",
        "2027-02-29T09:00[Europe/Berlin]": None,
        "1970-01-01T01:00[Europe/Berlin]": "1970-01-01T01:00:00+01:00[Europe/Berlin]",
        "1970-01-01T00:30[Europe/Berlin]": Unlike(None, "years"),
        "1970-01-01T00:30Z[America/New_York]": Unlike(None, "years"),
        "1969-12-31T23:30[America/New_York]": Unlike(None, "years"),
        "9999-12-31T20:00[America/New_York]": Unlike(None, "years"),
        "9999-12-31T18:59:59[America/New_York]": "9999-12-31T18:59:59-05:00[America/New_York]",
        "9999-12-31T15:00Z[Asia/Tokyo]": Unlike(None, "years"),
        "9999-07-01T12:00[Europe/Berlin]": "9999-07-01T12:00:00+02:00[Europe/Berlin]",
        "2026-03-29T01:59:59[Europe/Berlin]": "2026-03-29T01:59:59+01:00[Europe/Berlin]",
        "2026-03-29T02:00[Europe/Berlin]": "2026-03-29T03:00:00+02:00[Europe/Berlin]",
        "2026-03-29T02:30[Europe/Berlin]": "2026-03-29T03:30:00+02:00[Europe/Berlin]",
        "2026-03-29T02:59:59[Europe/Berlin]": "2026-03-29T03:59:59+02:00[Europe/Berlin]",
        "2026-03-29T03:00[Europe/Berlin]": "2026-03-29T03:00:00+02:00[Europe/Berlin]",
        "2026-03-29T02:30+01:00[Europe/Berlin]": None,
        "2026-03-29T02:30+02:00[Europe/Berlin]": None,
        "2026-03-29T01:30Z[Europe/Berlin]": "2026-03-29T03:30:00+02:00[Europe/Berlin]",
        "2026-03-29T02:30+05:00[Europe/Berlin]": None,
        "2026-10-25T01:59:59[Europe/Berlin]": "2026-10-25T01:59:59+02:00[Europe/Berlin]",
        "2026-10-25T02:00[Europe/Berlin]": "2026-10-25T02:00:00+02:00[Europe/Berlin]",
        "2026-10-25T02:30[Europe/Berlin]": "2026-10-25T02:30:00+02:00[Europe/Berlin]",
        "2026-10-25T02:30+02:00[Europe/Berlin]": "2026-10-25T02:30:00+02:00[Europe/Berlin]",
        "2026-10-25T02:30+01:00[Europe/Berlin]": "2026-10-25T02:30:00+01:00[Europe/Berlin]",
        "2026-10-25T02:59:59+01:00[Europe/Berlin]": "2026-10-25T02:59:59+01:00[Europe/Berlin]",
        "2026-10-25T03:00[Europe/Berlin]": "2026-10-25T03:00:00+01:00[Europe/Berlin]",
        "2026-10-25T03:00+02:00[Europe/Berlin]": None,
        "2026-10-25T00:30Z[Europe/Berlin]": "2026-10-25T02:30:00+02:00[Europe/Berlin]",
        "2026-10-25T01:30Z[Europe/Berlin]": "2026-10-25T02:30:00+01:00[Europe/Berlin]",
        "2026-03-08T02:30[America/New_York]": "2026-03-08T03:30:00-04:00[America/New_York]",
        "2026-03-08T02:30-05:00[America/New_York]": None,
        "2026-03-08T03:00[America/New_York]": "2026-03-08T03:00:00-04:00[America/New_York]",
        "2026-11-01T01:30[America/New_York]": "2026-11-01T01:30:00-04:00[America/New_York]",
        "2026-11-01T01:30-04:00[America/New_York]": "2026-11-01T01:30:00-04:00[America/New_York]",
        "2026-11-01T01:30-05:00[America/New_York]": "2026-11-01T01:30:00-05:00[America/New_York]",
        "2026-11-01T02:00[America/New_York]": "2026-11-01T02:00:00-05:00[America/New_York]",
        "2026-10-04T02:00[Australia/Lord_Howe]": "2026-10-04T02:30:00+11:00[Australia/Lord_Howe]",
        "2026-10-04T02:15[Australia/Lord_Howe]": "2026-10-04T02:45:00+11:00[Australia/Lord_Howe]",
        "2026-10-04T02:30[Australia/Lord_Howe]": "2026-10-04T02:30:00+11:00[Australia/Lord_Howe]",
        "2026-10-04T02:15+10:30[Australia/Lord_Howe]": None,
        "2026-04-05T01:45[Australia/Lord_Howe]": "2026-04-05T01:45:00+11:00[Australia/Lord_Howe]",
        "2026-04-05T01:45+11:00[Australia/Lord_Howe]": "2026-04-05T01:45:00+11:00[Australia/Lord_Howe]",
        "2026-04-05T01:45+10:30[Australia/Lord_Howe]": "2026-04-05T01:45:00+10:30[Australia/Lord_Howe]",
        "2026-04-05T02:00[Australia/Lord_Howe]": "2026-04-05T02:00:00+10:30[Australia/Lord_Howe]",
        "2018-11-04T00:00[America/Sao_Paulo]": "2018-11-04T01:00:00-02:00[America/Sao_Paulo]",
        "2018-11-04T00:30[America/Sao_Paulo]": "2018-11-04T01:30:00-02:00[America/Sao_Paulo]",
        "2018-11-04T00:30-02:00[America/Sao_Paulo]": None,
        "2018-11-03T23:59:59[America/Sao_Paulo]": "2018-11-03T23:59:59-03:00[America/Sao_Paulo]",
        "2018-02-17T23:30[America/Sao_Paulo]": "2018-02-17T23:30:00-02:00[America/Sao_Paulo]",
        "2018-02-17T23:30-03:00[America/Sao_Paulo]": "2018-02-17T23:30:00-03:00[America/Sao_Paulo]",
        "2018-02-18T00:00[America/Sao_Paulo]": "2018-02-18T00:00:00-03:00[America/Sao_Paulo]",
        "2026-03-29T00:00[Asia/Beirut]": "2026-03-29T01:00:00+03:00[Asia/Beirut]",
        "2026-10-24T23:00+02:00[Asia/Beirut]": "2026-10-24T23:00:00+02:00[Asia/Beirut]",
        "2026-03-29T01:30[Europe/Dublin]": "2026-03-29T02:30:00+01:00[Europe/Dublin]",
        "2026-10-25T01:30[Europe/Dublin]": "2026-10-25T01:30:00+01:00[Europe/Dublin]",
        "2026-10-25T01:30+00:00[Europe/Dublin]": "2026-10-25T01:30:00+00:00[Europe/Dublin]",
        "2026-03-29T02:30[Antarctica/Troll]": "2026-03-29T04:30:00+02:00[Antarctica/Troll]",
        "2026-10-25T01:30+00:00[Antarctica/Troll]": "2026-10-25T01:30:00+00:00[Antarctica/Troll]",
        "2011-12-30T12:00[Pacific/Apia]": "2011-12-31T12:00:00+14:00[Pacific/Apia]",
        "2011-12-30T12:00-10:00[Pacific/Apia]": None,
        "2011-12-31T00:00+14:00[Pacific/Apia]": "2011-12-31T00:00:00+14:00[Pacific/Apia]",
        "1970-06-01T12:00[Africa/Monrovia]": "1970-06-01T12:00:00-00:45[Africa/Monrovia]",
        "1970-06-01T12:00-00:45[Africa/Monrovia]": "1970-06-01T12:00:00-00:45[Africa/Monrovia]",
        "1970-06-01T12:00-00:44[Africa/Monrovia]": None,
        "1970-06-01T12:00-00:44:30[Africa/Monrovia]": Unlike(
            None, "RFC 3339 has no seconds in offsets"
        ),
        "1972-01-07T00:10[Africa/Monrovia]": "1972-01-07T00:54:30+00:00[Africa/Monrovia]",
        "2090-03-26T02:30[Europe/Berlin]": "2090-03-26T03:30:00+02:00[Europe/Berlin]",
        "2090-10-29T02:30+01:00[Europe/Berlin]": "2090-10-29T02:30:00+01:00[Europe/Berlin]",
        "1986-07-01T12:00[Asia/Kathmandu]": "1986-07-01T12:00:00+05:45[Asia/Kathmandu]",
        "1985-07-01T12:00+05:30[Asia/Kathmandu]": "1985-07-01T12:00:00+05:30[Asia/Kathmandu]",
    },
}
CASES = [(kind, text) for kind, texts in TABLE.items() for text in texts]


def kept(kind: str, text: str) -> str | None:
    expected = TABLE[kind][text]
    return expected.kept if isinstance(expected, Unlike) else expected


KEPT = sorted({text for case in CASES if (text := kept(*case)) is not None})


@pytest.fixture(scope="module")
def temporal() -> dict[tuple[str, str], list[str | None] | None]:
    """What Temporal makes of every case: the canonical text and the moment."""
    return dict(zip(CASES, javascript.run("times.mjs", CASES), strict=True))


@pytest.mark.parametrize(("kind", "text"), CASES)
def test_a_time_is_kept_in_its_canonical_text_or_refused(kind: str, text: str) -> None:
    expected = kept(kind, text)
    if expected is None:
        with pytest.raises(ValueError):
            times.read(text)
    else:
        assert (times.read(text).kind, times.read(text).text) == (kind, expected)


@pytest.mark.parametrize(("kind", "text"), CASES)
def test_temporal_makes_the_same_of_it(kind: str, text: str, temporal: Any) -> None:
    expected = TABLE[kind][text]
    if isinstance(expected, Unlike):
        assert temporal[kind, text] is None or temporal[kind, text][0] != expected.kept
        return
    assert (temporal[kind, text] and temporal[kind, text][0]) == expected
    if expected is not None and times.is_moment(expected):
        assert temporal[kind, text][1] == f"{times.key(expected)}Z"


@pytest.mark.parametrize("text", KEPT)
def test_what_is_kept_survives_every_round_trip(text: str) -> None:
    assert times.read(text).text == text
    assert times.shown(text) == text
    assert times.kind(text) == times.read(text).kind


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("2026-12-01", "2026-12-01T23:59:59.999999"),
        ("2026-12-01T09:00:00", "2026-12-01T09:00:00"),
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00"),
        ("2026-12-01T09:00:00+01:00[Europe/Berlin]", "2026-12-01T08:00:00"),
        ("2026-10-25T02:30:00+02:00[Europe/Berlin]", "2026-10-25T00:30:00"),
        ("2026-10-25T02:30:00+01:00[Europe/Berlin]", "2026-10-25T01:30:00"),
        ("1970-06-01T12:00:00-00:45[Africa/Monrovia]", "1970-06-01T12:44:30"),
    ],
)
def test_the_key_is_what_postgresql_compares(text: str, key: str) -> None:
    assert times.key(text) == key
    at = times.read(text).at
    assert times.is_moment(text) is (at is not None)
    assert at is None or at.replace(tzinfo=None) == datetime.fromisoformat(key)


@pytest.mark.parametrize(
    ("text", "shown", "key"),
    [
        (  # the zone had another offset when it was kept
            "2026-12-01T09:00:00+03:00[Europe/Berlin]",
            "2026-12-01T09:00:00+01:00[Europe/Berlin]",
            "2026-12-01T08:00:00",
        ),
        (  # by now a clock change repeats it, and its offset is neither
            "2026-10-25T02:30:00+03:00[Europe/Berlin]",
            "2026-10-25T02:30:00+02:00[Europe/Berlin]",
            "2026-10-25T00:30:00",
        ),
        (  # by now a clock change skips it
            "2026-03-29T02:30:00+01:00[Europe/Berlin]",
            "2026-03-29T03:30:00+02:00[Europe/Berlin]",
            "2026-03-29T01:30:00",
        ),
        (  # a newer release knows that zone
            "2026-12-01T09:00:00-01:30[Europe/Atlantis]",
            "2026-12-01T09:00:00-01:30[Europe/Atlantis]",
            "2026-12-01T10:30:00",
        ),
    ],
)
def test_todays_rules_hold_for_what_was_kept_under_others(text: str, shown: str, key: str) -> None:
    assert times.shown(text) == shown
    assert times.key(text) == key


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("2026-12-01", "2026-12-02", True),
        ("2026-12-01", "2026-12-01T09:00:00", False),
        ("2026-12-01T09:00:00", "2026-12-01T10:00:00", True),
        ("2026-12-01T09:00:00", "2026-12-01T10:00:00Z", False),
        ("2026-12-01T09:00:00Z", "2026-12-01T10:00:00Z", True),
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00+00:00[UTC]", False),
        ("2026-12-01T09:00:00+00:00[UTC]", "2026-12-01T09:00:00+01:00[Europe/Berlin]", True),
    ],
)
def test_which_are_of_one_kind(one: str, other: str, expected: bool) -> None:
    assert times.are_of_one_kind(one, other) is expected
    assert times.are_of_one_kind(other, one) is expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2026-12-01", "2026-12-02"),
        ("2026-12-01T09:00:00", "2026-12-01T09:00:01"),
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00:01Z"),
        ("2026-12-01T09:00:00+01:00[Europe/Berlin]", "2026-12-01T08:30:00+00:00[Europe/London]"),
        ("2026-10-25T02:45:00+02:00[Europe/Berlin]", "2026-10-25T02:15:00+01:00[Europe/Berlin]"),
    ],
)
def test_which_is_before_the_other(first: str, second: str) -> None:
    assert times.is_before(first, second)
    assert not times.is_before(second, first)
    assert not times.is_before(first, first)


NAMES = (files("tzdata") / "zones").read_text().split()
ZONES = sorted(set(NAMES) - {"Factory"})


def test_every_zone_of_the_database_is_known_in_any_case() -> None:
    assert len(ZONES) > 500
    for name in ZONES:
        assert times.zone(name).key == name
        assert times.zone(name.upper()) is times.zone(name.lower()) is times.zone(name)


UNKNOWN = [
    *["", "Factory", "localtime", "Europe", "Europe/", "Europe/Atlantis", "+01:00", "__init__.py"],
    *[" UTC", "UTC\n", "UTC\0", "posix/UTC", "right/UTC", "/usr/share/zoneinfo/UTC", "../zones"],
    *["zone.tab", "Pacific/\u212awajalein", "A\u017fia/Tokyo"],
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_another_zone_is_unknown(name: str) -> None:
    with pytest.raises(ValueError, match="Timezone must be a name of the IANA database, such as"):
        times.zone(name)


def test_zones_do_not_come_from_the_system(tmp_path: Path) -> None:
    (tmp_path / "Europe").mkdir()
    berlin = tmp_path / "Europe" / "Berlin"
    berlin.write_bytes((files("tzdata") / "zoneinfo" / "Asia" / "Tokyo").read_bytes())
    code = """
import times, zoneinfo
print(zoneinfo.ZoneInfo("Europe/Berlin").utcoffset(times.read("2026-12-01").local))
print(times.read("2026-12-01T09:00[Europe/Berlin]").text)
"""
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=BACKEND,
        env={**os.environ, "PYTHONTZPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.split() == ["9:00:00", "2026-12-01T09:00:00+01:00[Europe/Berlin]"]


class Change(NamedTuple):
    """A clock is put from one offset to another."""

    at: datetime  # in UTC
    before: timedelta
    after: timedelta


@cache
def changes_and_rule(name: str) -> tuple[list[Change], str]:
    """The clock changes from 1970 on that a file of tzdata lists, and the rule for all later years.
    RFC 9636."""
    data = files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
    start = data.index(b"TZif", 44)  # of the second part, which has 64 bits
    _, _, _, count, types, _ = struct.unpack(">6l", data[start + 20 : start + 44])
    moments = struct.unpack_from(f">{count}q", data, start + 44)
    indexes = data[start + 44 + 8 * count :][:count]
    offsets = [
        timedelta(seconds=struct.unpack_from(">l", data, start + 44 + 9 * count + 6 * each)[0])
        for each in range(types)
    ]
    used = [offsets[index] for index in indexes]
    found = [
        Change(datetime.fromtimestamp(moment, UTC).replace(tzinfo=None), before, after)
        for moment, before, after in zip(moments[1:], used, used[1:], strict=False)
        if moment >= 0 and before != after
    ]
    return found, data.decode("latin-1").rsplit("\n", 2)[1]


def test_no_zone_changes_its_clock_twice_within_a_step() -> None:
    for name in ZONES:
        changes, rule = changes_and_rule(name)
        for one, other in pairwise(changes):
            assert other.at - one.at > times._STEP + timedelta(hours=3), name
        months = [int(month) for month in re.findall(r"M(\d+)\.", rule)]
        assert not months or 2 <= abs(months[0] - months[1]) <= 10, name


CHANGING = [
    *["Africa/Cairo", "Africa/Casablanca", "Africa/Monrovia", "America/Argentina/Tucuman"],
    *["America/Asuncion", "America/Boa_Vista", "America/Caracas", "America/Havana"],
    *["America/New_York", "America/Nuuk", "America/Santiago", "America/Sao_Paulo"],
    *["America/St_Johns", "Antarctica/Casey", "Antarctica/Troll", "Asia/Amman", "Asia/Beirut"],
    *["Asia/Gaza", "Asia/Kathmandu", "Asia/Pyongyang", "Asia/Tehran", "Australia/Lord_Howe"],
    *["Europe/Berlin", "Europe/Dublin", "Europe/Istanbul", "Europe/London", "Pacific/Apia"],
    *["Pacific/Chatham", "Pacific/Kwajalein", "UTC"],
]


def some_changes(name: str) -> list[Change]:
    """The last changes that are listed, one of each size, and those of 2050."""
    listed = changes_and_rule(name)[0]
    zone = times.zone(name)
    later = []
    for local in times.offsets(zone)[0]:
        if local.year == 2050:
            before, after = (times._offset(local + timedelta(days=days), zone) for days in (-1, 1))
            later.append(Change(local - max(before, after), before, after))
    return list({change.after - change.before: change for change in listed}.values()) + later


@pytest.mark.parametrize("name", CHANGING)
def test_locals_before_are_exact_around_clock_changes(name: str) -> None:
    """Every minute of the clock, compared with moments on both sides of the change."""
    zone = times.zone(name)
    for change in some_changes(name):
        size = abs(change.after - change.before) + timedelta(hours=1)
        first = change.at + min(change.before, change.after) - size
        minutes = 2 * int((size + abs(change.after - change.before)) / timedelta(minutes=1))
        clock = [first + timedelta(minutes=each) for each in range(minutes)]
        moments = [times.moment(local, zone) for local in clock]
        for minute in range(-90, 91, 15):
            for microsecond in (-1, 0, 1):
                at = change.at.replace(tzinfo=UTC)
                at += timedelta(minutes=minute, microseconds=microsecond)
                found = times.locals_before(at, zone)
                assert len(found) <= 2
                assert all(start < end for start, end in found)
                for local, moment in zip(clock, moments, strict=True):
                    assert any(start <= local < end for start, end in found) is (moment < at)


zones = st.sampled_from(ZONES).map(times.zone)
locals_ = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30))


@given(zones, locals_, st.timedeltas(timedelta(days=-3), timedelta(days=3)))
@settings(deadline=None, database=None, max_examples=500)
def test_locals_before_are_exact_for_any_time(
    zone: Any, local: datetime, distance: timedelta
) -> None:
    moment = times.moment(local, zone)
    at = moment + min(distance, datetime.max.replace(tzinfo=UTC) - moment)
    found = times.locals_before(at, zone)
    assert any(start <= local < end for start, end in found) is (moment < at)


@pytest.mark.parametrize("name", ["Asia/Tokyo", "America/New_York"])
def test_locals_before_the_ends_of_time(name: str) -> None:
    earliest = datetime(1, 1, 1, tzinfo=UTC)
    assert times.locals_before(earliest, times.zone(name))[-1][1] < datetime(1, 1, 2)
    latest = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert times.locals_before(latest, times.zone(name))[-1][1] > datetime(9999, 12, 31)


@pytest.mark.parametrize("name", CHANGING)
def test_offsets_know_every_change(name: str) -> None:
    """Those that tzdata lists; up to 2100 by its rule, as in a year that is listed nowhere."""
    changes, seconds = times.offsets(times.zone(name))
    assert len(seconds) == len(changes) + 1
    assert changes == sorted(changes)
    listed, rule = changes_and_rule(name)
    for change in listed:
        if change.at < datetime(2100, 12, 31):
            place = changes.index(change.at + max(change.before, change.after))
            assert seconds[place : place + 2] == [
                change.before.total_seconds(),
                change.after.total_seconds(),
            ]
    last_years = [change for change in changes if change.year in (2099, 2100)]
    assert len(last_years) == 2 * len(re.findall(r"M\d", rule))


@given(st.sampled_from(CHANGING), st.datetimes(datetime(1970, 1, 1), datetime(2100, 12, 31)))
@settings(deadline=None, database=None, max_examples=1000)
def test_offsets_give_the_moment_of_every_local_time(name: str, local: datetime) -> None:
    changes, seconds = times.offsets(times.zone(name))
    subtracted = timedelta(seconds=seconds[bisect_right(changes, local)])
    assert times.moment(local, times.zone(name)) == (local - subtracted).replace(tzinfo=UTC)


@pytest.mark.parametrize("name", CHANGING)
def test_offsets_give_the_moment_around_every_change(name: str) -> None:
    zone = times.zone(name)
    changes, seconds = times.offsets(zone)
    for change in changes:
        for away in (-3600, -1, -0.000001, 0, 0.000001, 1, 3600):
            local = change + timedelta(seconds=away)
            subtracted = timedelta(seconds=seconds[bisect_right(changes, local)])
            assert times.moment(local, zone) == (local - subtracted).replace(tzinfo=UTC)


@given(zones, locals_)
@settings(deadline=None, database=None, max_examples=500)
def test_a_moment_is_what_the_same_time_in_the_zone_is_read_as(zone: Any, local: datetime) -> None:
    whole = local.replace(microsecond=0)
    moment = times.moment(whole, zone)
    if moment.year >= times.FIRST_YEAR:
        assert times.read(f"{whole.isoformat()}[{zone.key}]").at == moment


@given(zones, st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))
@settings(deadline=None, database=None, max_examples=500)
def test_any_moment_survives_being_kept_with_a_zone(zone: Any, at: datetime) -> None:
    at = at.replace(microsecond=0)
    text = times.read(f"{at.replace(tzinfo=None).isoformat()}Z[{zone.key}]").text
    assert times.read(text).at == at
    assert times.shown(text) == text
    assert times.key(text) == at.replace(tzinfo=None).isoformat()


PIECES = [
    *["2026-12-01", "9999-12-31", "1970-01-01", "T09:00", "t23:59", "T24:00", ":30", ":60", ".5"],
    *["Z", "z", "+01:00", "-00:00", "+23:59", "[Europe/Berlin]", "[!asia/tokyo]", "[u-ca=iso8601]"],
    *["[!x=y]", " ", "\n", "-", "[", "]"],
]


@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
@settings(deadline=None, database=None, max_examples=1000)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        kept = times.read(text).text
    except ValueError:
        return
    assert times.read(kept).text == kept
    assert times.key(kept)
