"""Contract, sections "Errors" and "Order of checks": strict JSON, 413 and 415."""

from __future__ import annotations

import json

import pytest

from tests.contract.wire import JSON, ask, send, stream
from tests.people import Person

LIMIT = 64 * 1024
NOT_JSON = "Request body must be valid JSON"
NOT_AN_OBJECT = "Request body must be a JSON object"

LENIENCIES: dict[str, bytes] = {
    "nothing": b"",
    "a blank": b" ",
    "a duplicate key": b'{"title":"a","title":"b"}',
    "a duplicate key with equal values": b'{"title":"a","title":"a"}',
    "a duplicate key, once escaped": b'{"title":"a","\\u0074itle":"b"}',
    "a duplicate unknown key": b'{"title":"a","x":1,"x":1}',
    "a nested duplicate key": b'{"title":"a","x":{"y":1,"y":2}}',
    "a duplicate key deep in lists": b'{"title":"a","x":[[{"y":1,"y":2}]]}',
    "a duplicate empty key": b'{"title":"a","":1,"":2}',
    "NaN": b'{"title":"a","x":NaN}',
    "Infinity": b'{"title":"a","x":Infinity}',
    "-Infinity": b'{"title":"a","x":[-Infinity]}',
    "nan": b'{"title":"a","x":nan}',
    "beyond a double": b'{"title":"a","x":1e999}',
    "below a double": b'{"title":"a","x":-1e999}',
    "an integer beyond a double": b'{"title":"a","x":1%s}' % (b"0" * 309),
    "10,000 digits": b'{"title":"a","x":%s}' % (b"9" * 10_000),
    "10,000 negative digits": b'{"title":"a","x":-%s}' % (b"9" * 10_000),
    "10,000 decimals": b'{"title":"a","x":0.%s}' % (b"3" * 10_000),
    "an exponent of thousands": b'{"title":"a","x":1e%s}' % (b"9" * 5_000),
    "a number as the body, of 10,000 digits": b"9" * 10_000,
    "a byte order mark": b'\xef\xbb\xbf{"title":"a"}',
    "UTF-16 with its mark": '{"title":"a"}'.encode("utf-16"),
    "UTF-16 without": '{"title":"a"}'.encode("utf-16-le"),
    "UTF-32": '{"title":"a"}'.encode("utf-32"),
    "Latin-1": '{"title":"é"}'.encode("latin-1"),
    "an overlong encoding": b'{"title":"\xc0\xaf"}',
    "an encoded surrogate": b'{"title":"\xed\xa0\x80"}',
    "beyond Unicode": b'{"title":"\xf4\x90\x80\x80"}',
    "half a character": b'{"title":"\xc3"}',
    "trailing garbage": b'{"title":"a"}x',
    "a second value": b'{"title":"a"}{}',
    "a trailing NUL": b'{"title":"a"}\x00',
    "a trailing comma": b'{"title":"a",}',
    "a comment": b'{"title":"a"/**/}',
    "single quotes": b"{'title':'a'}",
    "a bare key": b'{title:"a"}',
    "a bare control character": b'{"title":"a\x01b"}',
    "a bare line end": b'{"title":"a\nb"}',
    "a leading zero": b'{"title":"a","x":01}',
    "a plus sign": b'{"title":"a","x":+1}',
    "no digit after the point": b'{"title":"a","x":1.}',
    "no digit before the point": b'{"title":"a","x":.1}',
    "hexadecimal": b'{"title":"a","x":0x1}',
    "other digits": '{"title":"a","x":١}'.encode(),
    "Python's words": b'{"title":"a","x":None}',
    "a wrong escape": b'{"title":"\\x41"}',
    "half an escape": b'{"title":"\\u00"}',
    "other white space": '{"title":\u00a0"a"}'.encode(),
    "an open object": b'{"title":"a"',
    "an open string": b'{"title":"a',
    "lists 1,000 deep": b'{"title":"a","x":%s%s}' % (b"[" * 1_000, b"]" * 1_000),
    "lists 30,000 deep": b'{"title":"a","x":%s%s}' % (b"[" * 30_000, b"]" * 30_000),
    "objects 10,000 deep": b'{"title":"a","x":%s1%s}' % (b'{"":' * 10_000, b"}" * 10_000),
    "lists 65,000 deep, never closed": b"[" * 65_000,
}


@pytest.mark.parametrize("body", LENIENCIES.values(), ids=LENIENCIES)
def test_a_body_that_is_not_strict_json_is_400(ada: Person, body: bytes) -> None:
    for method, path in (("POST", ""), ("PUT", "/7"), ("PATCH", "/7"), ("PATCH", "/7/complete")):
        if path.endswith("complete") and body == b"":
            continue  # it needs no body
        reply = send(ada, method, path, body)
        assert (reply.status, reply.error) == (400, NOT_JSON)
        assert reply.json()["errors"] == [{"field": "body", "message": NOT_JSON}]


def test_nesting_100_000_deep_is_refused_and_the_server_lives(ada: Person) -> None:
    """Such a body is longer than 64 KiB, so its size is what is said."""
    assert send(ada, "POST", "", b"[" * 100_000).status == 413
    assert send(ada, "POST", "", b'{"title":"a"}').status == 201


@pytest.mark.parametrize("body", [b"[]", b"null", b"true", b'"title"', b"7", b'[{"title":"a"}]'])
def test_a_body_that_is_no_object_is_400(ada: Person, body: bytes) -> None:
    for method, path in (("POST", ""), ("PUT", "/7"), ("PATCH", "/7"), ("PATCH", "/7/complete")):
        if path.endswith("complete") and body == b"null":
            continue  # it needs no body
        reply = send(ada, method, path, body)
        assert (reply.status, reply.error) == (400, NOT_AN_OBJECT)
        assert reply.json()["errors"] == [{"field": "body", "message": NOT_AN_OBJECT}]


@pytest.mark.parametrize(
    "body",
    [
        b' \t\r\n{ "title" : "a" }\r\n ',
        b'{"title":"a","x":1.7976931348623157e308,"y":-1E-5,"z":-0,"w":0.0e0}',
        b'{"title":"a","x":%d}' % 10**300,
        b'{"title":"a","x":1e-999}',
        b'{"title":"a","x":{"y":1},"z":{"y":1}}',
        b'{"title":"a","x":"\\ud800","\\udfff":"\\u0000"}',
        b'{"title":"a","Title":"b","TITLE":7}',
        b'{"title":"a","x":%s%s}' % (b"[" * 50, b"]" * 50),
    ],
)
def test_strict_json_is_all_of_json(ada: Person, body: bytes) -> None:
    reply = send(ada, "POST", "", body)
    assert (reply.status, reply.data["title"]) == (201, "a")


# --- 413 ---


def filled(size: int) -> bytes:
    return b'{"title":"a"}'.ljust(size)


def test_a_body_of_64_kib_is_taken_and_one_byte_more_is_not(ada: Person) -> None:
    assert send(ada, "POST", "", filled(LIMIT)).status == 201
    reply = send(ada, "POST", "", filled(LIMIT + 1))
    assert (reply.status, reply.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("size", [LIMIT + 1, 10**9, 10**15])
def test_a_declared_size_is_refused_without_reading(ada: Person, size: int) -> None:
    for method, path in (("POST", ""), ("PUT", "/7"), ("PATCH", "/7"), ("PATCH", "/7/complete")):
        reply = ask(ada, method, ada.tasks + path, None, {**JSON, "Content-Length": str(size)})
        assert (reply.status, reply.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_streamed_body_is_taken_up_to_64_kib_and_refused_without_reading_on(ada: Person) -> None:
    fits = stream(
        ada,
        "POST",
        ada.tasks,
        filled(LIMIT)[:40_000],
        b" " * (LIMIT - 40_000),
        end=True,
        headers=JSON,
    )
    assert fits.status == 201
    for end in (True, False):
        reply = stream(ada, "POST", ada.tasks, *[b" " * 8192] * 8, b" ", end=end, headers=JSON)
        assert (reply.status, reply.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


# --- 415 ---

TAKEN = [
    *(
        "application/json",
        "Application/JSON",
        "application/json;",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
    ),
    *(
        'application/json; charset="utf-8"',
        " application/json ; charset=utf-8 ",
        "application/json; profile=x",
    ),
]
REFUSED = [
    *(
        "",
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/vnd.api+json",
        "application/problem+json",
        "json",
        "*/*",
    ),
    *(
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/json-patch+json",
    ),
    *(
        "application/json, text/plain",
        "application/json text/plain",
        "application/json; charset=utf-16",
    ),
    *(
        "application/json; charset=iso-8859-1",
        "application/json;charset=us-ascii;charset=utf-8",
        "application/json; charset=",
    ),
    *(
        "application/json; charset=utf-8; charset=latin1",
        "application/json; CHARSET=UTF-16",
        'application/json; charset="utf-7"',
    ),
]


@pytest.mark.parametrize("content_type", TAKEN)
def test_application_json_in_utf_8_is_taken(ada: Person, content_type: str) -> None:
    assert (
        send(ada, "POST", "", '{"title":"é"}'.encode(), **{"Content-Type": content_type}).data[
            "title"
        ]
        == "é"
    )


@pytest.mark.parametrize("content_type", REFUSED)
def test_any_other_media_type_or_charset_is_415(ada: Person, content_type: str) -> None:
    task = ada.has("Buy milk")
    for method, path in (
        ("POST", ""),
        ("PUT", f"/{task['id']}"),
        ("PATCH", f"/{task['id']}"),
        ("PATCH", f"/{task['id']}/complete"),
    ):
        reply = send(ada, method, path, b'{"title":"a"}', **{"Content-Type": content_type})
        assert (reply.status, reply.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert ada.get(f"/{task['id']}").json()["data"] == task


def test_no_media_type_is_415(ada: Person) -> None:
    assert ask(ada, "POST", ada.tasks, b'{"title":"a"}').status == 415
    assert stream(ada, "POST", ada.tasks, b'{"title":"a"}', end=True, headers={}).status == 415


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity", "zstd", "x"])
def test_any_content_encoding_is_415(ada: Person, coding: str) -> None:
    assert send(ada, "POST", "", b'{"title":"a"}', **{"Content-Encoding": coding}).status == 415


def test_a_refused_body_changes_nothing(ada: Person) -> None:
    before = ada.get().content
    for body in (
        b'{"title":"a","title":"b"}',
        b'{"title":"a","description":1}',
        json.dumps({"title": "a" * 201}).encode(),
    ):
        assert send(ada, "POST", "", body).status == 400
    assert ada.get().content == before
