"""The shipped server answers what is well framed, refuses what is not, and waits for nobody longer
than it says."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from call import Call
from errors import PayloadTooLarge
from server import protocol
from web import answers, bodies
from web.front import Front

BACKEND = Path(__file__).resolve().parents[1]
ORIGIN = b"https://app.example.com"
GET = b"GET /echo HTTP/1.1\r\nHost: ada.example\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: ada.example\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CLIENT_SECONDS = 0.4
KEEP_ALIVE_SECONDS = 1.0
seen: list[str] = []  # of /seen/…

TWO = (b"content-length", b"2")
PLAIN = {  # what an application that is none of ours might answer, and how that ends; None: with nothing said
    "/no-length": (200, [], b"ok", b"transfer-encoding: chunked\r\n"),
    "/chunked": (
        200,
        [(b"transfer-encoding", b"chunked")],
        b"ok",
        b"transfer-encoding: chunked\r\n",
    ),
    "/close": (200, [TWO, (b"connection", b"close")], b"ok", b"connection: close\r\n"),
    "/299": (299, [TWO], b"ok", b"HTTP/1.1 299 \r\n"),
    "/no-content": (204, [], b"", b"HTTP/1.1 204 No Content\r\n"),
    "/line-end": (200, [TWO, (b"x", b"a\r\nb: c")], b"ok", None),
    "/line-feed": (200, [TWO, (b"x", b"a\nb: c")], b"ok", None),
    "/nul": (200, [TWO, (b"x", b"a\0")], b"ok", None),
    "/too-long": (200, [TWO], b"too long", None),
    "/too-short": (200, [TWO], b"s", None),
}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what arrived. /refuse answers before the body, /slow after a while, /never never, /large
    with 32 MiB.

    /streamed does it in chunks of 4 MiB, without an end.
    """
    path = scope["path"]
    if path.startswith("/seen/"):
        seen.append(path)
    if path == "/block":
        time.sleep(0.4)  # noqa: ASYNC251  # nothing else runs meanwhile, as in a server under load
    if path in PLAIN:
        status, fields, said, _ = PLAIN[path]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": said})
        return
    if path == "/refuse":
        await answers.refusal(PayloadTooLarge(bodies.LIMIT_BYTES), Call(scope))(
            scope, receive, send
        )
        return
    if path in ("/slow", "/never"):
        await asyncio.sleep(2 * CLIENT_SECONDS if path == "/slow" else 60)
    body = b"" if scope["method"] == "GET" else await bodies.read(receive)
    names = [name.decode() for name, _ in scope["headers"]]
    reply = answers.answer(
        {"method": scope["method"], "path": path, "body": body.decode(), "headers": names}, "echo"
    )
    if path == "/large":
        reply = answers.Answer(200, b"x" * 2**25)
    if path == "/open":
        await answers.Stream(one_event(), b"text/event-stream", Call(scope).stopping)(
            scope, receive, send
        )
        return
    if path == "/streamed":
        await answers.Streamed(endless(), [])(scope, receive, send)
        return
    await reply(scope, receive, send)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 2**22
        await asyncio.sleep(0)


ENDED = threading.Event()  # the stream of one_event


async def one_event() -> AsyncIterator[bytes]:
    """And then nothing, for longer than any test."""
    ENDED.clear()
    try:
        yield b"data: first\n\n"
        await asyncio.sleep(60)
    finally:
        ENDED.set()


class Quick(protocol.Protocol):
    client_seconds = CLIENT_SECONDS
    keep_alive_seconds = KEEP_ALIVE_SECONDS
    unread_seconds = 0.8
    refuse = Front(protocol.raise_refusal, (), frozenset({ORIGIN.decode()}))


class Served:
    """A server in a thread, with the protocol under test and a loop of its own."""

    def __init__(self, loop: str, protocol: type[protocol.Protocol] = Quick) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = listener.getsockname()
        app: Any = Front(application, (), frozenset({ORIGIN.decode()}))
        options = uvicorn.Config(
            app,
            loop=loop,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self.server = uvicorn.Server(options)
        self.thread = threading.Thread(target=self.server.run, args=([listener],))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=5)

    def ask(self, sent: bytes) -> bytes:
        """All that the server says to `sent` until it ends the connection."""
        with self.connect() as line:
            line.sendall(sent)
            return rest(line)

    def connections(self) -> list[Any]:
        return list(self.server.server_state.connections)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(
    scope="module",
    params=[
        "asyncio",
        pytest.param("uvloop", marks=pytest.mark.skipif(os.name == "nt", reason="no uvloop")),
    ],
)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    running = Served(request.param)
    yield running
    running.stop()


@pytest.fixture
def served_as_shipped() -> Iterator[Served]:
    """With the loop that uvicorn chooses: for what takes long."""
    running = Served("auto")
    yield running
    running.stop()


def rest(line: socket.socket) -> bytes:
    """What comes until the end of the connection. A reset is an error."""
    received = b""
    while data := line.recv(2**20):
        received += data
    return received


def one(line: socket.socket) -> tuple[int, dict[str, str], Any]:
    """The next complete answer of a connection that stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        byte = line.recv(1)
        assert byte, "the connection ended instead"
        received += byte
    head = parse(received)
    body = b""
    while len(body) < int(head[1]["content-length"]):
        body += line.recv(int(head[1]["content-length"]) - len(body))
    return head[0], head[1], json.loads(body)


def parse(received: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), dict(field.split(": ", 1) for field in fields), body


def echoes(received: bytes) -> list[dict[str, Any]]:
    """The answers of /echo among what was received."""
    found = [json.loads(part.split(b"\r\n\r\n")[1]) for part in received.split(b"HTTP/1.1 ")[1:]]
    return [answer["data"] for answer in found if "data" in answer]


# --- what is refused ---

NOT_HTTP = {
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": GET + b"Host: ada.example\r\n\r\n",
    "empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "Host with a wordy port": b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
    "HTTP/1.0 with a bad Host": b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "endless length": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "unknown coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "no chunked coding": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk size": CHUNKED + b"zz\r\n",
    "bad chunk end": CHUNKED + b"3\r\nabcX0\r\n\r\n",
    "folded field": GET + b"X: a\r\n b\r\n\r\n",
    "bare CR": GET + b"X: a\rb\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "NUL": GET + b"X: a\0b\r\n\r\n",
    "space before the colon": GET + b"X : a\r\n\r\n",
    "no colon": GET + b"X\r\n\r\n",
    "path that is not ASCII": "GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


HEAD_END = b" HTTP/1.1\r\nHost: ada.example\r\n\r\n"
NO_TARGET = {  # RFC 9112 section 3.2: "recipients of an invalid request-line SHOULD respond with a 400"
    "asterisk for GET": b"GET *" + HEAD_END,
    "asterisk and a name": b"GET *echo" + HEAD_END,
    "asterisk and a path": b"GET */echo" + HEAD_END,
    "asterisk and a query": b"OPTIONS *?x=1" + HEAD_END,
    "asterisk and a name for OPTIONS": b"OPTIONS *echo" + HEAD_END,
    "asterisk for a method that nobody knows": b"BREW *" + HEAD_END,
    "asterisk with an upgrade": b"GET *echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a fragment": b"GET /echo#part" + HEAD_END,
    "a fragment of a query": b"GET /echo?x=1#part" + HEAD_END,
    "a URL with a fragment": b"GET http://ada.example/echo#part" + HEAD_END,
    "a URL of another scheme": b"GET ws://ada.example/echo" + HEAD_END,
    "a URL with a user": b"GET http://ada:secret@ada.example/echo" + HEAD_END,
    "a URL without a host": b"GET http:///echo" + HEAD_END,
    "a URL with a bad port": b"GET http://ada.example:x/echo" + HEAD_END,
    "a URL with a large port": b"GET http://ada.example:123456/echo" + HEAD_END,
    "a host and a port": b"GET ada.example:443" + HEAD_END,
    "a name": b"GET echo" + HEAD_END,
    "a query": b"GET ?x=1" + HEAD_END,
    "nothing": b"GET " + HEAD_END,
    "a query that is not ASCII": "GET /echo?é".encode() + HEAD_END,
}
NOT_HTTP |= NO_TARGET


@pytest.mark.parametrize("case", NOT_HTTP)
def test_a_request_that_is_not_plain_http_gets_the_contracts_400_and_a_close(
    served: Served, case: str
) -> None:
    status, headers, body = parse(served.ask(NOT_HTTP[case]))
    failure = json.loads(body)
    assert (status, failure["code"]) == (400, "VALIDATION_ERROR")
    assert failure["error"] == failure["detail"] == failure["message"]
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["connection"] == "close"
    assert headers["x-request-id"]


def fields(count: int) -> bytes:
    return b"".join(b"X%d: a\r\n" % number for number in range(count))


def path(length: int) -> bytes:
    return b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * (length - 1))


TOO_LARGE = {
    "URI": (path(protocol.URI_MAX_BYTES + 1), 414),
    "URI without an end": (path(protocol.URI_MAX_BYTES + 1)[: protocol.URI_MAX_BYTES + 5], 414),
    "one field": (GET + b"X: " + b"a" * protocol.FIELDS_MAX_BYTES + b"\r\n\r\n", 431),
    "one field without an end": (GET + b"X: " + b"a" * (protocol.FIELDS_MAX_BYTES + 2048), 431),
    "fields": (GET + fields(protocol.FIELDS_MAX) + b"\r\n", 431),
    "trailers": (CHUNKED + b"0\r\nX: " + b"a" * (protocol.FIELDS_MAX_BYTES + 1) + b"\r\n\r\n", 431),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_head_over_the_limits_is_refused_before_it_is_complete(served: Served, case: str) -> None:
    sent, expected = TOO_LARGE[case]
    began = time.monotonic()
    status, _, body = parse(served.ask(sent))
    assert status == expected
    assert json.loads(body)["code"] == {414: "URI_TOO_LONG", 431: "HEADERS_TOO_LARGE"}[expected]
    assert time.monotonic() - began < CLIENT_SECONDS


MEBIBYTE = 2**20
ENDLESS = {  # bytes that say nothing, of which there may be any number
    "one extension": CHUNKED + b"14;x=" + b"y" * MEBIBYTE,
    "an extension in each chunk": CHUNKED + (b"1;x=" + b"y" * 1000 + b"\r\nz\r\n") * 1000,
    "a quoted extension": CHUNKED + b'1;x="' + b" " * MEBIBYTE,
    "zeros before a size": CHUNKED + b"0" * MEBIBYTE,
    "spaces before a trailer": CHUNKED + b"0\r\nX:" + b" " * MEBIBYTE,
    "a trailer without an end": CHUNKED + b"0\r\nX: " + b"y" * MEBIBYTE,
    "trailers": CHUNKED + b"0\r\n" + b"x:\r\n" * (MEBIBYTE // 4),
    "an extension of a body that nobody reads": CHUNKED.replace(b"/echo", b"/slow")
    + b"1;x="
    + b"y" * MEBIBYTE,
    "empty lines": b"\r\n" * (MEBIBYTE // 2),
    "empty lines after an answer": GET + b"\r\n" + b"\r\n" * (MEBIBYTE // 2),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_bytes_that_say_nothing_are_not_read_without_end(served: Served, case: str) -> None:
    began = time.monotonic()
    answer = served.ask(ENDLESS[case])
    status, headers, body = parse(answer[answer.rindex(b"HTTP/1.1 ") :])
    assert (status, json.loads(body)["code"]) in [
        (400, "VALIDATION_ERROR"),
        (431, "HEADERS_TOO_LARGE"),
    ]
    assert headers["connection"] == "close"
    assert time.monotonic() - began < CLIENT_SECONDS


@pytest.mark.parametrize(
    "chunks",
    [
        [b"14;" + b"y" * 60_000 + b"\r\n" + b"z" * 20 + b"\r\n"],
        [b"1\r\nz\r\n"] * 16_000,
        [b"00000001;a=b\r\nz\r\n"] * 16_000,
    ],
    ids=["one long extension", "many small chunks", "many small chunks with extensions"],
)
def test_a_body_in_many_chunks_is_read(served: Served, chunks: list[bytes]) -> None:
    with served.connect() as line:
        line.sendall(CHUNKED)
        line.sendall(b"".join(chunks) + b"0\r\n\r\n" + GET + b"\r\n")
        assert set(one(line)[2]["data"]["body"]) == {"z"}
        assert one(line)[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        path(protocol.URI_MAX_BYTES),
        GET + fields(protocol.FIELDS_MAX - 1) + b"\r\n",
        GET + b"X: " + b"a" * 32_700 + b"\r\n\r\n",
    ],
)
def test_a_head_at_the_limits_is_answered(served: Served, sent: bytes) -> None:
    with served.connect() as line:
        line.sendall(sent)
        assert one(line)[0] == 200


def test_a_long_body_and_the_next_head_in_one_piece_are_not_mistaken_for_a_long_head(
    served: Served,
) -> None:
    with served.connect() as line:
        line.sendall(POST + b"Content-Length: 60000\r\n\r\n" + b"a" * 60_000 + GET + b"X: ")
        assert one(line)[0] == 200
        line.sendall(b"a\r\n\r\n")
        assert one(line)[2]["data"]["headers"] == ["host", "x"]


def test_every_sentence_of_the_server_is_said_by_some_refusal(served_as_shipped: Served) -> None:
    """The others are dead text."""
    sources = [ast.parse(file.read_text()) for file in Path(protocol.__file__).parent.glob("*.py")]
    calls = [node for source in sources for node in ast.walk(source) if isinstance(node, ast.Call)]
    sentences = [
        call.args[0]
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "BadRequest"
    ]
    ends = {
        ast.literal_eval(text.values[-1] if isinstance(text, ast.JoinedStr) else text)
        for text in sentences
    }
    assert len(ends) > 5
    said = b"".join(served_as_shipped.ask(sent) for sent in (*NOT_HTTP.values(), *ENDLESS.values()))
    assert {end for end in ends if end.encode() not in said} == set()


def test_a_refusal_of_a_readable_head_carries_cors_and_may_be_problem_json(served: Served) -> None:
    sent = (
        b"GET / HTTP/1.1\r\nOrigin: "
        + ORIGIN
        + b"\r\nAccept: application/problem+json\r\nHost: a b\r\n\r\n"
    )
    _, headers, body = parse(served.ask(sent))
    assert headers["access-control-allow-origin"] == ORIGIN.decode()
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["status"] == 400


def test_a_preflight_with_a_bad_host_is_refused_too(served: Served) -> None:
    sent = (
        b"OPTIONS / HTTP/1.1\r\nOrigin: "
        + ORIGIN
        + b"\r\nAccess-Control-Request-Method: PUT\r\nHost: a b\r\n\r\n"
    )
    assert parse(served.ask(sent))[0] == 400


def test_a_refusal_comes_after_the_answers_before_it(served: Served) -> None:
    received = served.ask(
        GET + b"\r\n" + POST + b"Content-Length: 2\r\n\r\nhi" + b"nonsense\r\n\r\n"
    )
    assert [found["body"] for found in echoes(received)] == ["", "hi"]
    assert parse(received[received.rindex(b"HTTP/1.1 ") :])[0] == 400


# --- what is answered ---


@pytest.mark.parametrize("path", PLAIN)
def test_any_answer_is_framed_once_or_not_at_all(served: Served, path: str) -> None:
    """The answer to the next request shows whether it was."""
    _, _, said, line = PLAIN[path]
    received = served.ask(
        GET.replace(b"/echo", path.encode()) + b"\r\n" + GET + b"Connection: close\r\n\r\n"
    )
    if line is None:
        assert received == b""
    else:
        assert received.count(line) == 1
        assert said in received
        assert received.count(b"HTTP/1.1 ") == (1 if path == "/close" else 2)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://ada.example/echo", "/echo"),
        (b"HTTP://ADA.example:80/echo?x=1", "/echo"),
        (b"https://[::1]:8000/echo", "/echo"),
        (b"http://eve.example/echo", "/echo"),
        (b"http://ada.example", "/"),
        (b"http://ada.example?x=/y", "/"),
        (b"/http://ada.example/echo", "/http://ada.example/echo"),
        (b"//echo", "//echo"),
        (b"/*", "/*"),
        (b"/echo?x=?&y=*", "/echo"),
    ],
)
def test_a_path_or_the_whole_url_is_answered(served: Served, target: bytes, path: str) -> None:
    with served.connect() as line:
        line.sendall(b"GET " + target + HEAD_END)
        assert one(line)[2]["data"]["path"] == path


def test_options_of_the_whole_server_is_405_as_everywhere(served: Served) -> None:
    with served.connect() as line:
        for more in (b"", b"Origin: " + ORIGIN + b"\r\nAccess-Control-Request-Method: PUT\r\n"):
            line.sendall(b"OPTIONS * HTTP/1.1\r\nHost: ada.example\r\n" + more + b"\r\n")
            status, headers, body = one(line)
            assert (status, body["code"]) == (405, "METHOD_NOT_ALLOWED")
            assert headers["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE"


@pytest.mark.parametrize(
    "host", [b"a", b"a.example:8000", b"[::1]:80", b"127.0.0.1", b"xn--bcher-kva.example"]
)
def test_a_good_host_is_answered(served: Served, host: bytes) -> None:
    with served.connect() as line:
        line.sendall(b"GET /echo HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
        assert one(line)[0] == 200


def test_http_1_0_needs_no_host(served: Served) -> None:
    assert parse(served.ask(b"GET /echo HTTP/1.0\r\n\r\n"))[0] == 200


def test_a_method_that_nobody_knows_is_the_applications_to_refuse(served: Served) -> None:
    with served.connect() as line:
        line.sendall(
            b"BREW /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\npot" + GET + b"\r\n"
        )
        assert one(line)[2]["data"]["method"] == "BREW"
        assert one(line)[2]["data"]["method"] == "GET"


def test_a_trailer_is_never_taken_for_a_header(served: Served) -> None:
    with served.connect() as line:
        line.sendall(CHUNKED + b"2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert one(line)[2]["data"] == {
            "method": "POST",
            "path": "/echo",
            "body": "hi",
            "headers": ["host", "transfer-encoding"],
        }


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c"])
@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"],
)
def test_an_upgrade_is_ignored_and_its_body_is_no_second_request(
    served: Served, upgrade: bytes, framing: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with served.connect() as line:
        line.sendall(
            POST + b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n" + framing + GET + b"\r\n"
        )
        assert one(line)[2]["data"]["body"] == "hi"
        assert one(line)[2]["data"]["method"] == "GET"
    assert not caplog.records


def test_pipelined_requests_are_answered_in_order_up_to_a_limit(served: Served) -> None:
    sent = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(1000))
    received = served.ask(sent)
    assert [int(answer["path"][1:]) for answer in echoes(received)] == list(
        range(protocol.PIPELINED_MAX + 1)
    )
    assert parse(received[received.rindex(b"HTTP/1.1 ") :])[1]["connection"] == "close"


def test_100_continue_is_said_when_the_body_is_wanted(served: Served) -> None:
    expecting = b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    with served.connect() as line:
        line.sendall(POST + expecting)
        assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(b"hi" + GET + b"\r\n")
        assert one(line)[2]["data"]["body"] == "hi"
        assert one(line)[0] == 200
    status, headers, _ = parse(served.ask(b"POST /refuse HTTP/1.1\r\nHost: a\r\n" + expecting))
    assert (status, headers["connection"]) == (413, "close")


def test_an_answer_is_one_packet_and_one_to_head_has_no_body(served: Served) -> None:
    with served.connect() as line:
        for _ in range(50):
            line.sendall(GET + b"\r\n")
            _, headers, body = parse(line.recv(4096))
            assert len(body) == int(headers["content-length"])
        line.sendall(b"HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        assert parse(line.recv(4096))[2] == b""


# --- slow clients ---

SLOW = {
    "says nothing": (b"", b""),
    "dribbles its head": (b"GET / HTTP/1.1\r\nX: ", b"a"),
    "dribbles empty lines": (b"", b"\r\n"),
    "stalls in its body": (POST + b"Content-Length: 9999\r\n\r\nab", b""),
    "dribbles its body": (POST + b"Content-Length: 9999\r\n\r\n", b"a"),
    "dribbles chunks": (CHUNKED, b"1\r\na\r\n"),
    "dribbles after an early answer": (
        b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n",
        b"a",
    ),
    "dribbles a large body after an early answer": (
        b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
        b"a",
    ),
    "dribbles after a refusal": (b"nonsense\r\n\r\n", b"a"),
    "keeps an idle connection": (GET + b"\r\n", b""),
    "dribbles a second head": (GET + b"\r\n" + GET, b"a"),
    "dribbles empty lines after an answer": (GET + b"\r\n", b"\r\n"),
}


def test_slow_clients_are_cut_off_and_disturb_nobody(served_as_shipped: Served) -> None:
    """All kinds at once, 20 of each. Cut off means closed for sending too: what we send is reset."""
    served = served_as_shipped
    began = time.monotonic()
    lines = [(case, served.connect(), drop) for case, (_, drop) in SLOW.items() for _ in range(20)]
    for case, line, _ in lines:
        line.sendall(SLOW[case][0])
        line.setblocking(False)
    alive = {line: case for case, line, _ in lines}
    served_meanwhile = []
    while alive and time.monotonic() - began < KEEP_ALIVE_SECONDS + 6 * CLIENT_SECONDS:
        asked = time.monotonic()
        with served.connect() as good:
            good.sendall(GET + b"\r\n")
            one(good)
        served_meanwhile.append(time.monotonic() - asked)
        for _, line, drop in lines:
            if line in alive and not open_still(line, drop):
                del alive[line]
        time.sleep(0.02)
    for _, line, _ in lines:
        line.close()
    assert sorted(set(alive.values())) == []
    assert sorted(served_meanwhile)[len(served_meanwhile) * 9 // 10] < CLIENT_SECONDS


def open_still(line: socket.socket, drop: bytes) -> bool:
    """Whether the server still keeps the connection. Where nothing is sent, the end of what it says
    counts."""
    try:
        line.send(drop)
        while data := line.recv(65536):
            del data
        return bool(drop)
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_a_connection_in_use_outlives_the_limit(served_as_shipped: Served) -> None:
    with served_as_shipped.connect() as line:
        for _ in range(3):
            line.sendall(GET + b"\r\n")
            assert one(line)[0] == 200
            time.sleep(0.6 * CLIENT_SECONDS)


def test_a_connection_may_rest_between_requests(served_as_shipped: Served) -> None:
    """Longer than for a head or a body, and beyond its end if the next head has begun by then."""
    refused = b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    lines = [served_as_shipped.connect() for _ in range(3)]
    for line, before in zip(lines, (b"", b"\r\n", refused), strict=True):
        line.sendall(before + GET + b"\r\n")
        assert one(line)[0] == (413 if before == refused else 200)
    assert one(lines[2])[0] == 200
    time.sleep(2 * CLIENT_SECONDS)
    for line in lines:
        line.sendall(GET)
    time.sleep(KEEP_ALIVE_SECONDS - 2 * CLIENT_SECONDS + 0.05)
    for line in lines:
        line.sendall(b"\r\n")
        assert one(line)[0] == 200
        line.close()


def test_a_resting_connection_ends_when_its_time_is_up_and_others_before(
    served_as_shipped: Served,
) -> None:
    with (
        served_as_shipped.connect() as resting,
        served_as_shipped.connect() as new,
        served_as_shipped.connect() as head,
    ):
        began = time.monotonic()
        resting.sendall(GET + b"\r\n")
        assert one(resting)[0] == 200
        head.sendall(GET)
        assert rest(head) == rest(new) == b""
        assert time.monotonic() - began < KEEP_ALIVE_SECONDS - 0.1
        assert rest(resting) == b""
        assert (
            KEEP_ALIVE_SECONDS - 0.1
            < time.monotonic() - began
            < KEEP_ALIVE_SECONDS + CLIENT_SECONDS
        )
        for _ in range(
            2
        ):  # what crosses the end on its way is not answered with a reset, which would be an error here
            resting.sendall(GET.replace(b"/echo", b"/seen/late") + b"\r\n")
            time.sleep(0.05)
    assert seen == []


def test_a_resting_connection_keeps_nothing_of_its_last_request(served_as_shipped: Served) -> None:
    """Neither a body that was refused unread, nor a head."""
    refused = b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000
    with served_as_shipped.connect() as one_line, served_as_shipped.connect() as other:
        one_line.sendall(refused)
        assert one(one_line)[0] == 413
        other.sendall(GET + b"X: " + b"x" * 30_000 + b"\r\n\r\n")
        assert one(other)[0] == 200
        connections = [vars(connection) for connection in served_as_shipped.connections()]
    parts = [
        vars(part)
        for connection in connections
        for part in connection.values()
        if hasattr(part, "more_body")
    ]
    assert len(connections) == 2
    assert "x" * 100 not in repr([connections, parts])


def test_a_request_at_the_moment_of_the_end_is_answered_or_never_read(served: Served) -> None:
    """Nobody is told that a request was lost which was done; and none is reset, which would look
    the same."""
    lines, ends = [], []
    for _ in range(60):
        lines.append(served.connect())
        lines[-1].sendall(GET + b"\r\n")
        one(lines[-1])
        ends.append(time.monotonic() + KEEP_ALIVE_SECONDS)
    answered = []
    for number, line in enumerate(lines):
        time.sleep(max(0, ends[number] + (number - 40) * 0.003 - time.monotonic()))
        line.sendall(b"POST /seen/%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" % number)
    for number, line in enumerate(lines):
        first = line.recv(1, socket.MSG_PEEK)
        if first:
            assert one(line)[2]["data"]["body"] == "hi"
            answered.append(f"/seen/{number}")
        line.close()
    assert sorted(seen) == sorted(answered)
    assert len(answered) < len(lines)
    seen.clear()


def test_a_request_that_waits_unread_when_the_time_is_up_is_answered(served: Served) -> None:
    """The server was busy with another one."""
    for _ in range(5):
        with served.connect() as line, served.connect() as other:
            asked = time.monotonic()
            line.sendall(GET + b"\r\n")
            one(line)
            time.sleep(KEEP_ALIVE_SECONDS - 0.2)
            other.sendall(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.1)
            line.sendall(GET + b"\r\n")
            in_time = time.monotonic() < asked + KEEP_ALIVE_SECONDS
            if in_time:
                assert one(line)[0] == 200
                return
    pytest.skip("this machine is too slow for it")


def test_a_client_that_waits_for_a_slow_answer_is_not_cut_off(served_as_shipped: Served) -> None:
    with served_as_shipped.connect() as line:
        line.sendall(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        assert one(line)[2]["data"]["body"] == "hi"


def test_a_client_that_does_not_read_is_cut_off_and_a_slow_reader_is_not(
    served_as_shipped: Served,
) -> None:
    with served_as_shipped.connect() as idle, served_as_shipped.connect() as slow:
        for line in (idle, slow):
            line.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        received = 0
        began = time.monotonic()
        while time.monotonic() - began < 4 * CLIENT_SECONDS:
            received += len(slow.recv(2**18))
            time.sleep(0.03)
        assert received < 2**24  # far from done, and slower than the limit
        assert received + len(rest(slow)) > 2**25
        assert len(rest(idle)) < 2**25


def test_the_same_goes_for_an_answer_without_an_end(served_as_shipped: Served) -> None:
    """The slow reader takes a little less than a chunk at a time, so that after each more waits for
    it than before."""
    with served_as_shipped.connect() as idle, served_as_shipped.connect() as slow:
        for line in (idle, slow):
            line.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16
            )  # else the network takes ever more
            line.sendall(b"GET /streamed HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(6):
            time.sleep(CLIENT_SECONDS)
            wanted = 3_600_000
            while wanted:
                received = len(slow.recv(wanted))
                assert received, "cut off"
                wanted -= received
        taken = 0
        while data := idle.recv(2**20):
            taken += len(data)
            assert taken < 2**25, "not cut off"


def test_a_large_body_after_an_early_answer_is_not_kept_and_does_not_destroy_the_answer(
    served: Served,
) -> None:
    size = 2**24
    with served.connect() as line:
        line.sendall(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 2**20):
            line.sendall(bytes(2**20))
        kept = [
            len(connection.cycle.body) for connection in served.connections() if connection.cycle
        ]
        assert kept
        assert max(kept) <= 2**18  # one read, from before the answer
        status, headers, _ = parse(rest(line))
    assert (status, headers["connection"]) == (413, "close")


def test_a_small_body_after_an_early_answer_leaves_the_connection_usable(served: Served) -> None:
    with served.connect() as line:
        line.sendall(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        assert one(line)[0] == 413
        line.sendall(b"late" + GET + b"\r\n")
        assert one(line)[0] == 200


# --- the stop ---

PROGRAM = """
    import asyncio, sys, types
    import server

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                print(event, flush=True)
                await send({"type": f"lifespan.{event}.complete"})
            return
        print("asked", flush=True)
        await asyncio.sleep(float(scope["path"][1:]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    sys.modules["main"] = types.SimpleNamespace(app=app)
    if __name__ == "__main__":
        server.run(server.bind("127.0.0.1", int(sys.argv[1])))
        print("returned", flush=True)
"""


class Process:
    """`server.run` in a process of its own, with an application that answers after as many seconds
    as the path says."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = probe.getsockname()
        program = folder / "program.py"
        program.write_text(textwrap.dedent(PROGRAM))
        self.process = subprocess.Popen(
            [sys.executable, program, str(self.address[1])],
            env={"PYTHONPATH": str(BACKEND), "ENVIRONMENT": "development"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "startup\n"
        for _ in range(100):
            try:
                socket.create_connection(self.address).close()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                break

    def ask(self, seconds: float) -> socket.socket:
        line = socket.create_connection(self.address, timeout=10)
        line.sendall(b"GET /%.1f HTTP/1.1\r\nHost: a\r\n\r\n" % seconds)
        assert self.process.stdout
        assert self.process.stdout.readline() == "asked\n"
        return line


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    running = Process(tmp_path)
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_stream_that_always_has_something_to_send_ends_too() -> None:
    async def sent_before_it_ends(ends: str) -> int:
        stopping, gone, sent = asyncio.Event(), asyncio.Event(), 0

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_: Message) -> None:
            nonlocal sent
            sent += 1
            if sent == 5:
                (gone if ends == "left" else stopping).set()

        stream = answers.Stream(endless(), b"text/event-stream", stopping)
        await asyncio.wait_for(stream({"type": "http", "method": "GET"}, receive, send), 5)
        return sent

    for ends in ("left", "stopped"):
        assert asyncio.run(sent_before_it_ends(ends)) < 20


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_stream_ends_at_once_when_its_client_leaves_or_the_server_stops(loop: str) -> None:
    served = Served(loop)
    try:
        for end in ("leave", "stop"):
            with served.connect() as line:
                line.sendall(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
                while b"first" not in line.recv(65_536):
                    pass
                assert not ENDED.is_set()
                if end == "stop":
                    served.server.should_exit = True
                    assert rest(line).endswith(b"0\r\n\r\n")  # a whole answer, no cut
            assert ENDED.wait(3)  # DRAIN_SECONDS is 7
    finally:
        served.stop()


def test_a_stop_finishes_what_was_asked_and_takes_nothing_new(process: Process) -> None:
    with (
        process.ask(0.6) as line,
        socket.create_connection(process.address, timeout=2) as new,
        process.ask(0) as idle,
    ):
        assert idle.recv(4096).endswith(b"ok")
        began = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        assert rest(new) == rest(idle) == b""
        assert time.monotonic() - began < 0.5
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(process.address)
        status, _, body = parse(rest(line))
        printed, _ = process.process.communicate(
            timeout=6
        )  # although the client keeps its end open
    assert (status, body) == (200, b"ok")
    assert printed == "shutdown\n"
    assert process.process.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(process: Process, number: signal.Signals) -> None:
    with process.ask(9):
        process.process.send_signal(number)
        time.sleep(0.3)
        assert process.process.poll() is None
        process.process.send_signal(number)
        assert process.process.wait(timeout=1) == -number


def test_a_request_that_does_not_end_is_given_up() -> None:
    class Hasty(Quick):
        drain_seconds = 0.2

    served = Served("asyncio", Hasty)
    with served.connect() as line:
        line.sendall(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.1)
        served.server.config.timeout_graceful_shutdown = 0.4  # type: ignore[assignment]  # whole seconds take too long here
        began = time.monotonic()
        served.stop()
        assert time.monotonic() - began < 2
        assert rest(line) == b""
