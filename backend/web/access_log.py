"""The access log: one line for each request."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quote

from call import Call
from logs import clock, escape, scrub, write

RAW_PATH_MAX = 120  # characters of an unmatched path

# Takes the status, 0 for a client that left, and the seconds that it took.
AccessLog = Callable[[Call, int, float], None]

_NO_ROUTE = '"-"'


def access_log(production: bool) -> AccessLog:
    """JSON for programs, or a short line for people."""
    return _write_json if production else _write_readable


def _write_json(call: Call, status: int, seconds: float) -> None:
    now = time.time()
    second = int(now)
    write(
        f'{{"time":"{clock(second)}.{int((now - second) * 1000):03d}Z","level":"INFO","event":"request",'
        f'"request_id":{quote(call.request_id)},"method":{quote(call.method)},'
        f'"route":{_template(call.door.path) if call.door else _NO_ROUTE},"status":{status:d},'
        f'"ms":{seconds * 1000:.1f}{_user(call.user_id) if call.user_id else ""}}}\n'
    )


def _write_readable(call: Call, status: int, seconds: float) -> None:
    path = call.door.path if call.door else _raw_path(call)
    write(
        f"{escape(scrub(f'{call.method} {path}'))} {status or 'client left'} {seconds * 1000:.1f} ms\n"
    )


def _raw_path(call: Call) -> str:
    path: str = (call.scope.get("raw_path") or b"-").decode("latin-1").partition("?")[0]
    return path if len(path) <= RAW_PATH_MAX else f"{path[:RAW_PATH_MAX]}…"


@lru_cache(1024)
def _template(path: str) -> str:
    return quote(path)


@lru_cache(4096)
def _user(user_id: str) -> str:
    return f',"user":"{sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]}"'
