"""Logs: one event, one line; nothing in it that a person or a token could be known by."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

WARNING_INTERVAL_SECONDS = 60.0
configured = False  # in this process; main.py asks, so that a bare `uvicorn main:app` keeps its own access log

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile(_CONTROL.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
_SCHEME = r"(?:bearer|basic)\s++"  # of an Authorization header
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&)}]+)"
_NAME = r"(?=\w*?(?:password|passwd|secret|token|api_?key))\w++[\"']?\s*+[=:]\s*+"
# A pattern looks at each word once, and never again from inside it, so that twice the text takes
# twice the time.
_SECRETS = [
    (re.compile(pattern, re.IGNORECASE), shown)
    for pattern, shown in (
        (r"(?<=[a-z0-9+.])://[^\s/@]++@", "://[redacted]@"),  # user and password of a URL
        (rf"\b({_NAME})(?:{_SCHEME})?{_VALUE}", r"\1[redacted]"),
        (rf"\b({_SCHEME}){_VALUE}", r"\1[redacted]"),
        (
            r"(?<![\w.+%@-])(?=[\w.+%@-]*?[\w.+%-]@[\w-]++\.[\w-])[\w.+%@-]++",
            "[redacted]",
        ),  # an e-mail address
        (r"\beyJ[\w-]*(?:\.[\w-]*)*", "[redacted]"),  # a JSON Web Token, or a part of one
    )
]
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\([^()]*\)=\([^()]*\)")
_NAMES_ONLY = (
    AttributeError,
    NameError,
    ImportError,
)  # their texts quote the code, not what was sent


class OnceAMinute:
    """Keeps a warning that would come with every request to one line a minute and cause."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}  # cause -> monotonic seconds

    def allows(self, cause: str = "") -> bool:
        """Whether to say it now. The causes are few and ours: nothing that a caller sends."""
        now = time.monotonic()
        if now < self._said.get(cause, -math.inf) + WARNING_INTERVAL_SECONDS:
            return False
        self._said[cause] = now
        return True


def quotable(value: Any) -> str:
    """Something that a stranger has sent, fit for a log: one line, and nothing like a token or an
    e-mail address."""
    text = re.sub("[^!-~]", "?", str(value))[:100]
    return "(not shown)" if "@" in text or "eyJ" in text else text


def configure(production: bool) -> None:
    """All of Python's logging goes to stderr, uvicorn's loggers included."""
    global configured
    configured = True
    handler = _Stderr()
    handler.setFormatter(_Json() if production else _Readable())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(True)
    if production:
        sys.excepthook = _uncaught


@lru_cache(2)
def clock(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def write(line: str) -> None:
    """A log that cannot be written must not fail the request."""
    with suppress(OSError, ValueError):
        sys.stderr.write(line)


class _Stderr(logging.Handler):
    """To what `sys.stderr` is now, in one write."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            line = f"{record.name}: an event that cannot be written ({type(error).__name__})"
        write(line + "\n")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": f"{clock(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            event["exception"] = "\n".join(_described(record.exc_info[1]))
        return json.dumps(event)


class _Readable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = escape(f"{clock} {record.levelname} {record.name}: {_message(record)}")
        if not record.exc_info or record.exc_info[1] is None:
            return line
        trace = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        return f"{line}\n{_CONTROL_BUT_LINES.sub(_code, scrub(trace))}"


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage().rstrip("\n")
    if record.name == "asyncio":
        text = text.partition("\n")[
            0
        ]  # the other lines are the repr of a future and of its exception
    return scrub(text)


def _described(error: BaseException) -> Iterator[str]:
    """Type, first line and frames, and the same of what caused it. Never a value: the messages
    quote rows."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield f"{type(current).__module__}.{type(current).__qualname__}: {_first_line(current)}"
        for frame, line in traceback.walk_tb(current.__traceback__):
            code = frame.f_code
            yield f"  {'/'.join(code.co_filename.rsplit('/', 2)[-2:])}:{line} {code.co_qualname}"
        if isinstance(current, BaseExceptionGroup):
            for inner in current.exceptions:
                yield from _described(inner)
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
        if current is not None:
            yield "after"


def _first_line(error: BaseException) -> str:
    line = str(error).partition("\n")[0]
    if not isinstance(error, _NAMES_ONLY):
        head, colon, _ = _QUOTED.sub("'…'", line).partition(": ")
        line = f"{head}: …" if colon else head
    facts = (
        getattr(error, name, None)
        for name in ("sqlstate", "table_name", "column_name", "constraint_name")
    )
    known = " ".join(fact for fact in facts if isinstance(fact, str))
    return scrub(f"{line} [{known}]" if known else line)


def scrub(text: str) -> str:
    for secret, shown in _SECRETS:
        text = secret.sub(shown, text)
    return text


def escape(text: str) -> str:
    return _CONTROL.sub(_code, text)


def _code(found: re.Match[str]) -> str:
    number = ord(found[0])
    return {10: "\\n", 13: "\\r", 9: "\\t"}.get(number) or (
        f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
    )


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("todo").critical("stopped by an error", exc_info=(kind, error, trace))
