"""Header fields: entity tags by the grammar of RFC 9110 section 8.8.3, and keys that are the same
in either form."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call import Call
from storage import Versions
from web import fields

LARGEST = 2**63 - 1
NOW = datetime(2026, 1, 12, 10, 0, 0, 123456, UTC)
MICROSECONDS = 1768212000123456
TAG = b'"7-hes1dmzqdc-7xxegd"'  # of what ada has at 7 since NOW


def if_match(lines: list[bytes]) -> Versions:
    return fields.if_match(lines, "ada")


# RFC 9110 section 5.6.1: a list may have empty elements, blanks around its commas, and several
# lines.
LISTS: dict[str, tuple[list[bytes], list[bytes] | None]] = {
    "one": ([b'"7"'], [b'"7"']),
    "two": ([b'"7", "8"'], [b'"7"', b'"8"']),
    "no blank": ([b'"7","8"'], [b'"7"', b'"8"']),
    "blanks and tabs": ([b' \t"7"\t ,\t "8" \t'], [b'"7"', b'"8"']),
    "empty elements": ([b',, "7" , ,, "8",'], [b'"7"', b'"8"']),
    "two lines": ([b'"7"', b'"8", "9"'], [b'"7"', b'"8"', b'"9"']),
    "an empty line beside": ([b"", b'"7"', b" "], [b'"7"']),
    "weak": ([b'W/"7"'], [b'W/"7"']),
    "weak and strong": ([b'W/"7", "7"'], [b'W/"7"', b'"7"']),
    "the same twice": ([b'"7", "7"'], [b'"7"', b'"7"']),
    "the empty tag": ([b'""'], [b'""']),
    "a comma inside": ([b'"a,b", "c"'], [b'"a,b"', b'"c"']),
    "a star inside": ([b'"*"'], [b'"*"']),
    "a backslash escapes nothing": ([b'"a\\", "b"'], [b'"a\\"', b'"b"']),
    "its first and last visible": ([b'"!#~"'], [b'"!#~"']),
    "obs-text": ([b'"\x80\xff"', '"é"'.encode()], [b'"\x80\xff"', '"é"'.encode()]),
    "anything": ([b"*"], None),
    "anything, blanks around": ([b" \t*\t "], None),
}

MALFORMED: dict[str, list[bytes]] = {
    "nothing": [b""],
    "blanks": [b" \t"],
    "commas only": [b",", b" , ,"],
    "bare": [b"7"],
    "a word": [b"abc"],
    "half quoted": [b'"7'],
    "the other half": [b'7"'],
    "single quotes": [b"'7'"],
    "a small w": [b'w/"7"'],
    "W without a tag": [b"W/"],
    "W, bare": [b"W/7"],
    "W apart": [b'W/ "7"'],
    "W apart before the slash": [b'W /"7"'],
    "W twice": [b'W/W/"7"'],
    "no comma": [b'"7" "8"'],
    "nothing between": [b'"7""8"'],
    "a semicolon": [b'"7"; "8"'],
    "garbage after": [b'"7", 8'],
    "garbage before": [b'8, "7"'],
    "a good line, a bad line": [b'"7"', b"8"],
    "a blank inside": [b'"7 8"'],
    "a tab inside": [b'"7\t8"'],
    "NUL inside": [b'"\x00"'],
    "DEL inside": [b'"\x7f"'],
    "a line end inside": [b'"\n"'],
    "a line end after": [b'"7"\n'],
    "star with a tag": [b'*, "7"'],
    "a tag with star": [b'"7", *'],
    "star on one line, a tag on another": [b"*", b'"7"'],
    "two stars": [b"**"],
    "two stars in a list": [b"*, *"],
    "stars on two lines": [b"*", b"*"],
    "weak star": [b"W/*"],
    "star and a comma": [b"*,"],
}


@pytest.mark.parametrize(("lines", "tags"), LISTS.values(), ids=LISTS)
def test_a_list_of_entity_tags_is_taken_as_rfc_9110_writes_it(
    lines: list[bytes], tags: list[bytes] | None
) -> None:
    assert fields.entity_tags(lines, "If-Match") == tags


@pytest.mark.parametrize("lines", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_list_of_entity_tags_is_refused_by_both_conditions(lines: list[bytes]) -> None:
    for parse, name in ((if_match, "If-Match"), (fields.if_none_match, "If-None-Match")):
        with pytest.raises(ValueError) as caught:
            parse(lines)
        assert str(caught.value) == f'{name} must be * or a list of entity tags, such as "7"'


OPAQUE = st.binary(max_size=6).map(
    lambda raw: bytes(byte for byte in raw if byte > 0x20 and byte not in (0x22, 0x7F))
)
TAGS = st.builds(
    lambda weak, opaque: b'%b"%b"' % (weak, opaque), st.sampled_from([b"", b"W/"]), OPAQUE
)
COMMAS = st.text(" \t,", max_size=4).map(lambda blank: blank.encode())


@given(st.lists(st.tuples(TAGS, COMMAS, COMMAS, st.booleans()), min_size=1, max_size=6), COMMAS)
@settings(database=None, deadline=None)
def test_any_list_of_tags_is_found_whole_however_it_is_split(
    parts: list[tuple[bytes, bytes, bytes, bool]], first: bytes
) -> None:
    lines = [first]
    for tag, before, after, next_line in parts:
        lines[-1] += before + tag + after
        if next_line:
            lines.append(b"")
        else:
            lines[-1] += b","
    assert fields.entity_tags(lines, "If-Match") == [tag for tag, *_ in parts]


NEARLY = st.sampled_from(
    [b'"', b'"7"', b"W/", b"W", b",", b" ", b"\t", b"*", b"7", b"\\", b"\xff", b"\x7f", b"\x00"]
)


@given(st.lists(NEARLY, max_size=12).map(b"".join))
@settings(database=None, deadline=None, max_examples=400)
def test_what_is_nearly_a_list_is_taken_only_if_a_simple_reader_takes_it(text: bytes) -> None:
    try:
        taken = fields.entity_tags([text], "If-Match")
    except ValueError:
        assert not simply_read(text)
    else:
        assert simply_read(text)
        assert taken is None or len(taken) == text.count(b'"') // 2


def simply_read(text: bytes) -> bool:
    """The grammar again, character by character: a second opinion."""
    if text.strip(b" \t") == b"*":
        return True
    found, separated, place = 0, True, 0
    while place < len(text):
        if text[place : place + 1] in (b" ", b"\t"):
            place += 1
        elif text[place : place + 1] == b",":
            separated, place = True, place + 1
        else:
            start = place + 2 if text.startswith(b"W/", place) else place
            end = text.find(b'"', start + 1)
            if not separated or text[start : start + 1] != b'"' or end < 0:
                return False
            if any(byte <= 0x20 or byte == 0x7F for byte in text[start:end]):
                return False
            found, separated, place = found + 1, False, end + 1
    return found > 0


@pytest.mark.parametrize("end", [b"x", b'"', b"*", b"\x00"])
@pytest.mark.parametrize("many", [b'"",', b", ,\t", b'W/"7" , ', b'"7"', b" ,", b'W/"'], ids=repr)
def test_a_field_as_large_as_a_head_may_be_is_refused_at_once(many: bytes, end: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(ValueError):
        fields.entity_tags([many * (32_000 // len(many)) + end], "If-Match")
    assert time.perf_counter() - began < 0.5


ANY = None  # time: only the version was sent


@pytest.mark.parametrize(
    ("lines", "versions"),
    [
        ([], None),
        ([b"*"], None),
        ([TAG], [[7, MICROSECONDS]]),
        ([b'"7"'], [[7, ANY]]),
        ([b'"7", "12"', b'"0"', TAG], [[7, ANY], [12, ANY], [0, ANY], [7, MICROSECONDS]]),
        ([b'W/"7"', b"W/" + TAG], []),
        ([b'W/"7", "8"'], [[8, ANY]]),
        (
            [
                TAG.replace(b"7xxegd", b"aaaaaa"),
                TAG.replace(b"7x", b"7X"),
                TAG.replace(b"7x", b"x"),
            ],
            [],
        ),
        (
            [
                TAG.replace(b"hes", b"HES"),
                TAG.replace(b"-hes", b"-0hes"),
                TAG.replace(b"hes", b"zzzzzzz"),
            ],
            [],
        ),
        (
            [
                TAG.replace(b"hes1dmzqdc", b"z" * 13),
                TAG.replace(b'"7', b'"07'),
                TAG.replace(b'd"', b'd-gzip"'),
            ],
            [],
        ),
        ([b'""'], []),
        ([b'"07"'], []),
        (
            [
                b'"+7"',
                b'"-7"',
                b'"7.0"',
                b'"7_0"',
                b'"0x7"',
                b'"a"',
                b'"*"',
                b'"7-"',
                b'"7-7xxegd"',
            ],
            [],
        ),
        (['"٧"'.encode(), b'"\xb2"'], []),  # digits of other scripts
        ([b'"%d"' % LARGEST], [[LARGEST, ANY]]),
        ([b'"%d"' % (LARGEST + 1)], []),
        ([b'"%s"' % (b"9" * 19)], []),
        ([b'"%s"' % (b"9" * 9_000)], []),
    ],
    ids=repr,
)
def test_if_match_knows_its_own_strong_tags_and_no_others(
    lines: list[bytes], versions: Versions
) -> None:
    assert if_match(lines) == versions


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.integers(0, 253_000_000_000_000_000).map(
    lambda microseconds: EPOCH + timedelta(microseconds=microseconds)
)


@given(
    st.integers(0, LARGEST), TIMES, st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
)
@settings(database=None)
def test_a_tag_is_its_change_again_and_nobody_elses(version: int, at: datetime, owner: str) -> None:
    tag = fields.entity_tag(owner, version, at)
    microseconds = (at - EPOCH) // timedelta(microseconds=1)
    assert fields.if_match([tag], owner) == [[version, microseconds]]
    assert fields.if_match([tag], f"{owner}2") == []
    for known in (tag, b"W/" + tag):
        assert fields.is_known(tag, fields.if_none_match([known]))
        for other in (
            (owner, version + 1, at),
            (owner, version, at + timedelta(microseconds=1)),
            (f"{owner}2", version, at),
        ):
            assert not fields.is_known(fields.entity_tag(*other), fields.if_none_match([known]))


def test_a_tag_is_made_of_number_time_and_mark() -> None:
    assert fields.entity_tag("ada", 7, NOW) == TAG
    assert int(TAG.split(b"-")[1], 36) == MICROSECONDS
    assert fields.entity_tag("ada", 0, EPOCH) == b'"0-0-7xxegd"'


@pytest.mark.parametrize(
    ("lines", "known"),
    [
        ([], False),
        ([b"*"], True),
        ([TAG], True),
        ([b"W/" + TAG], True),  # weak comparison, section 13.1.2
        ([b'"6", ' + TAG], True),
        ([b'"6"', b"W/" + TAG], True),
        ([b'"6"'], False),
        ([b'"7"'], False),  # the version alone is for If-Match
        ([b'"*"'], False),
        ([b'"07"', b'"70"', b'"W/7"', b'""'], False),
    ],
    ids=repr,
)
def test_if_none_match_compares_weakly(lines: list[bytes], known: bool) -> None:
    assert fields.is_known(TAG, fields.if_none_match(lines)) is known


# --- Idempotency-Key ---

VISIBLE = [chr(code) for code in range(0x21, 0x7F)]


@pytest.mark.parametrize(
    ("bare", "quoted"),
    [
        ("abc", '"abc"'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", '"8e03978e-40d5-43dd-bc93-6894a57f9324"'),
        ("a", '"a"'),
        ("a" * 255, f'"{"a" * 255}"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ('\\"', '"\\\\\\""'),
        ("\\" * 255, '"' + "\\\\" * 255 + '"'),  # 255 characters, 512 as sent
        ("a,b;c=d", '"a,b;c=d"'),
        ("'a'", "\"'a'\""),
        ("*", '"*"'),
    ],
)
def test_a_key_is_the_same_bare_and_quoted(bare: str, quoted: str) -> None:
    for sent in (bare, quoted, f" \t{bare}\t ", f" {quoted} "):
        assert fields.idempotency_key([sent.encode()]) == bare


@given(st.text(VISIBLE, min_size=1, max_size=255))
@settings(database=None)
def test_any_visible_text_is_a_key_in_either_form(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    assert fields.idempotency_key([f'"{escaped}"'.encode()]) == text
    if not text.startswith('"'):
        assert fields.idempotency_key([text.encode()]) == text


@pytest.mark.parametrize(
    "lines",
    [
        [b""],
        [b" \t"],
        [b'""'],
        [b'" "'],
        [b"a" * 256],
        [b'"%s"' % (b"a" * 256)],
        [b'"%s"' % (b'\\"' * 256)],
        [b"a b"],
        [b"a\tb"],
        [b'"a b"'],
        [b'"a\tb"'],
        [b'" a"'],
        [b'"a '],
        [b'"'],
        [b'"a'],
        [b'"a"b'],
        [b'"a" "b"'],
        [b'"a", "b"'],
        [b"a, b"],  # two lines that a proxy has joined
        [b'"a";p=1'],
        [b'"a\\"'],
        [b'"a\\b"'],  # only quotes and backslashes are escaped
        [b'"a"b"'],
        [b"a\x00b"],
        [b"a\x1f"],
        [b"\x7f"],
        [b'"\x7f"'],
        [b"a\n"],
        [b'"a"\n'],
        [b"\x80"],
        [b"\xa0"],
        [b"\xa0a"],
        ["é".encode()],
        ["é".encode("latin-1")],
        ["ａ".encode()],
        [b"a", b"a"],
        [b"a", b"b"],
        [b'"a"', b"a"],
        [b"a", b""],
        [b"", b"a"],
    ],
    ids=lambda lines: repr(lines)[:40],
)
def test_what_is_no_key_or_given_twice_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(ValueError) as caught:
        fields.idempotency_key(lines)
    assert (
        str(caught.value)
        == "Idempotency-Key must be given once, as 1 to 255 visible ASCII characters"
    )


def test_without_the_field_there_is_no_key() -> None:
    assert fields.idempotency_key([]) is None


@given(st.binary(max_size=12))
@settings(database=None, max_examples=300)
def test_whatever_is_sent_a_key_is_visible_ascii_or_refused(sent: bytes) -> None:
    try:
        key = fields.idempotency_key([sent])
    except ValueError:
        return
    assert key is not None
    assert set(key) <= set(VISIBLE)
    assert 1 <= len(key) <= fields.KEY_MAX


# --- lines ---


def test_every_line_of_a_field_is_found_and_no_other_field() -> None:
    lines = [
        (b"if-match", b'"1"'),
        (b"if-match-not", b"x"),
        (b"accept", b"*/*"),
        (b"if-match", b'"2"'),
    ]
    call = Call({"type": "http", "method": "GET", "headers": lines})
    assert call.lines(b"if-match") == [b'"1"', b'"2"']
    assert call.lines(b"accept") == [b"*/*"]
    assert call.lines(b"if-none-match") == []
