"""Requests as they are: what a client library would tidy up or refuse to send goes out untidied."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from datetime import datetime
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.people import Person
from web.fields import task_tag

JSON = {"Content-Type": "application/json"}
ORIGIN = "http://localhost:3000"
SECONDS = 5


class Reply(NamedTuple):
    """`headers` by their names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        return self.json()["data"]

    @property
    def error(self) -> Any:
        return self.json()["error"]


def ask(
    who: Person | str,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request with exactly these headers, `target` unchanged. `who`: a person, or a server's
    URL for nobody."""
    token = {} if isinstance(who, str) else {"Authorization": f"Bearer {who.token}"}
    length = {} if body is None else {"Content-Length": str(len(body))}
    connection = _connection(who)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in {**token, **length, **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return _reply(connection.getresponse())
    finally:
        connection.close()


def read(
    person: Person, query: str = "", etag: str = "", method: str = "GET", **more: str
) -> Reply:
    """The tasks, or one of them, unless they are what the client knows by this `etag`."""
    return ask(
        person,
        method,
        person.tasks + query,
        None,
        {**({"If-None-Match": etag} if etag else {}), **more},
    )


def send(person: Person, method: str, path: str, body: bytes, **headers: str) -> Reply:
    """`body` as JSON, to `path` under the person's tasks."""
    return ask(person, method, person.tasks + path, body, {**JSON, **headers})


def stream(
    who: Person | str,
    method: str,
    target: str,
    *chunks: bytes,
    end: bool,
    headers: Mapping[str, str],
) -> Reply:
    """A chunked body. Without `end` it is never complete: an answer then came before the body did."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if not isinstance(who, str):
        lines.append(f"Authorization: Bearer {who.token}")
    head = "\r\n".join(
        [
            f"{method} {target} HTTP/1.1",
            "Host: todo.example",
            "Transfer-Encoding: chunked",
            *lines,
            "",
            "",
        ]
    )
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return say(who, head.encode() + body + (b"0\r\n\r\n" if end else b""), method)


def say(who: Person | str, sent: bytes, method: str = "GET") -> Reply:
    """These bytes, and the answer to them. The connection stays open meanwhile."""
    connection = _connection(who)
    connection.connect()
    line: socket.socket = connection.sock
    try:
        line.sendall(sent)
        with HTTPResponse(line, method=method) as response:
            response.begin()
            return _reply(response)
    finally:
        connection.close()


def moment(text: str) -> datetime:
    """A time that was answered."""
    return datetime.fromisoformat(text)


def tag(task: dict[str, Any]) -> str:
    """The ETag of a task that was answered; test_validators.py says what is in it."""
    return task_tag({**task, "updated_at": moment(task["updated_at"])}).decode()


def number(etag: str) -> int:
    """Of an ETag, the number of the change."""
    return int(etag.strip('"').partition("-")[0])


def _connection(who: Person | str) -> HTTPConnection:
    address = urlsplit(who if isinstance(who, str) else str(who.client.base_url))
    return HTTPConnection(str(address.hostname), address.port, timeout=SECONDS)


def _reply(response: HTTPResponse) -> Reply:
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        known = headers.get(name.lower())
        headers[name.lower()] = value if known is None else f"{known}, {value}"
    with response:
        return Reply(response.status, headers, response.read())
