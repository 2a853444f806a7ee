"""One event is one line, and nothing that was sent or is secret is in it."""

from __future__ import annotations

import errno
import io
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest

import logs
from call import Call
from web.access_log import access_log

HOSTILE = "a\r\nb\x1b[31m\x00\x7f\x85\u2028\u202e\ud800"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLW9mLWFkYQ"  # gitleaks:allow
CANARIES = {
    TOKEN: f"cannot use {TOKEN}",
    "opaque-bearer": "Authorization: Bearer opaque-bearer",
    "ada@example.com": "no such user ada@example.com here",
    "s3cr3t": "postgresql://ada:s3cr3t@db.example/app is away",
    "hunter2": "tried password=hunter2, and BETTER_AUTH_SECRET='hunter2 hunter2'",
    "opaque-token": "X-Token: Bearer opaque-token",
    "ada+todo": "mailto:ada+todo@eyjafjord.example.com;",
    "p%40ss": "https+a.b://ada:p%40ss@db.example:8080/x",
    "key-9": 'sent {"api_key": "key-9", "x": 1}',
    "abc9": "GET /x?access_token=abc9&y=1",
}
LONG = {  # each took time that grew with the square of the text
    "one word": "a" * 32_000,
    "words with dots": "a." * 16_000,
    "words with pluses": "a+" * 16_000,
    "one address after the other": "a@b." * 8000,
    "a domain without an end": "ada@" + "b" * 32_000,
    "names of secrets": "password" * 4000,
    "percents": "%41" * 11_000,
    "lines below": "_" * 32_000,
    "a host without an end": "a://" + "b" * 32_000,
}

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logs, "configured", False)
    yield
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What has been printed since it was last asked, by line, however a terminal would break it."""
    return lambda: capsys.readouterr().err.removesuffix("\n").splitlines()


class Unique(Exception):
    """As asyncpg says it."""

    sqlstate = "23505"
    constraint_name = "tasks_pkey"


def fail(error: Exception) -> None:
    secret = "row of ada"
    try:
        raise KeyError(secret)
    except KeyError as cause:
        raise error from cause


def logged(error: Exception) -> None:
    try:
        fail(error)
    except Exception:
        logging.getLogger("todo.web").exception("request %s failed", HOSTILE)


@pytest.mark.parametrize("production", [True, False])
def test_an_event_is_one_line_whatever_is_in_it(production: bool, lines: Lines) -> None:
    logs.configure(production)
    logging.getLogger(f"todo.{HOSTILE}").warning("title %s and %r", HOSTILE, HOSTILE)
    logging.getLogger("uvicorn.error").info("started\n")
    first, second = lines()
    assert first.isprintable()
    assert "started" in second
    if production:
        event = json.loads(first)
        assert event["message"] == f"title {HOSTILE} and {HOSTILE!r}"
        assert event["logger"] == f"todo.{HOSTILE}"
        assert event["level"] == "WARNING"
        assert event["time"].endswith("Z")


def test_in_production_an_exception_is_one_line_without_values(lines: Lines) -> None:
    logs.configure(True)
    logged(
        Unique(
            'duplicate key value violates "tasks_pkey"\nDETAIL:  Key (title)=(row of ada) already exists.'
        )
    )
    logged(ValueError("invalid input for query argument $1: 'row of ada' (expected int)"))
    logged(ValueError("not a row: row of ada"))
    logged(Unique('value "row of ada" is out of range'))
    printed = lines()
    assert len(printed) == 4
    assert "row of ada" not in "".join(printed)
    exception = json.loads(printed[0])["exception"]
    assert "Unique: duplicate key value violates '…' [23505 tasks_pkey]" in exception
    assert "tests/test_logs.py:" in exception
    assert " fail" in exception
    assert "builtins.KeyError" in exception


def test_in_development_a_traceback_takes_lines_but_no_control_characters(lines: Lines) -> None:
    logs.configure(False)
    logged(ValueError(HOSTILE))
    printed = lines()
    assert len(printed) > 5
    assert all(line.isprintable() for line in printed)


def test_an_uncaught_exception_is_an_event(lines: Lines) -> None:
    logs.configure(True)
    sys.excepthook(ValueError, ValueError("row of ada: x\ny"), None)
    assert json.loads(lines()[0])["level"] == "CRITICAL"


def test_warnings_and_asyncio_are_events_without_values(lines: Lines) -> None:
    logs.configure(True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("two\nlines", stacklevel=1)
    logging.getLogger("asyncio").error(
        "Task exception was never retrieved\nfuture: Error('row of ada')"
    )
    first, second = lines()
    assert json.loads(first)["logger"] == "py.warnings"
    assert json.loads(second)["message"] == "Task exception was never retrieved"


@pytest.mark.parametrize("production", [True, False])
@pytest.mark.parametrize("canary", CANARIES)
def test_no_secret_is_written(production: bool, canary: str, lines: Lines) -> None:
    logs.configure(production)
    logging.getLogger("todo").warning("%s", CANARIES[canary])
    logged(ValueError(CANARIES[canary]))
    printed = "\n".join(lines())
    assert canary not in printed
    assert "redacted" in printed


@pytest.mark.parametrize("text", LONG)
def test_a_long_text_is_searched_for_secrets_in_no_time(text: str, lines: Lines) -> None:
    logs.configure(True)
    began = time.process_time()
    logging.getLogger("todo").warning("%s password=hunter2", LONG[text])
    assert time.process_time() - began < 0.5
    assert "hunter2" not in lines()[0]


def request(request_id: str, template: str = "", user_id: str = "", **more: Any) -> Call:
    sent = {
        "path": "/secret-path",
        "raw_path": b"/secret-path",
        "query_string": b"token=secret-query",
        "headers": [],
    }
    call = Call({"type": "http", "method": "GET", **sent, **more})
    call.request_id, call.user_id = request_id, user_id
    call.door = SimpleNamespace(path=template) if template else None
    return call


def test_in_production_a_request_is_named_by_its_route_and_a_hashed_user(lines: Lines) -> None:
    write = access_log(True)
    write(request("r-1", "/api/{user_id}/tasks", "ada"), 201, 0.00321)
    write(request("r-2"), 0, 1.5)
    first, second = (json.loads(line) for line in lines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "INFO",
        "event": "request",
        "request_id": "r-1",
        "method": "GET",
        "route": "/api/{user_id}/tasks",
        "status": 201,
        "ms": 3.2,
        "user": sha256(b"ada").hexdigest()[:12],
    }
    assert (second["route"], second["status"], second["ms"]) == ("-", 0, 1500.0)
    assert "user" not in second
    assert "secret" not in str((first, second))


def test_in_development_a_request_reads_like_one(lines: Lines) -> None:
    write = access_log(False)
    write(request("r-1", "/api/{user_id}/tasks", "ada"), 200, 0.0032)
    write(request("r-2", raw_path=b"/" + b"a" * 5000), 404, 0.0001)
    write(request("r-3", raw_path=b"/secret-path?token=x"), 0, 0.1)
    first, second, third = lines()
    assert first == "GET /api/{user_id}/tasks 200 3.2 ms"
    assert len(second) < 200
    assert third == "GET /secret-path client left 100.0 ms"


@pytest.mark.parametrize("production", [True, False])
def test_a_request_is_one_line_whatever_is_in_it(production: bool, lines: Lines) -> None:
    write = access_log(production)
    sent: dict[str, Any] = {"method": HOSTILE, "raw_path": HOSTILE.encode("utf-8", "replace")}
    write(request(HOSTILE, user_id=HOSTILE, **sent), 404, 0.1)
    write(request(HOSTILE, HOSTILE, HOSTILE, **sent), 200, 0.1)
    printed = lines()
    assert len(printed) == 2
    assert all(line.isprintable() for line in printed)


def test_a_log_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

    logs.configure(True)
    monkeypatch.setattr(sys, "stderr", Full())
    access_log(True)(request("r"), 200, 0.1)
    logging.getLogger("todo").error("lost")
