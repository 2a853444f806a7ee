"""Contract, "Order of checks": a request that is wrong twice gets the earlier answer. And how
requests are counted."""

from __future__ import annotations

from uuid import uuid4

import pytest

from errors import RateLimited
from tests import servers
from tests.contract.conftest import BURST
from tests.contract.wire import JSON, ask, say, send, stream
from tests.people import Person, token_for
from web.limits import RateLimiter

TITLE = b'{"title":"a"}'
HOST = "Host: todo.example\r\n"
LONG = f"/nowhere/{'a' * 9000}"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (f"POST /nowhere HTTP/1.1\r\n{HOST}Content-Length: 70000\r\n\r\n", 413),
        (f"POST /health HTTP/1.1\r\n{HOST}Content-Length: 70000\r\n\r\n", 413),
        (f"GET {LONG} HTTP/1.1\r\n{HOST}\r\n", 414),
        (f"PUT /health HTTP/1.1\r\n{HOST}X-Large: {'a' * 33_000}\r\n\r\n", 431),
        ("GET /nowhere HTTP/1.1\r\n\r\n", 400),
        (f"PUT /health HTTP/1.1\r\n{HOST}{HOST}\r\n", 400),
    ],
    ids=["413, 404", "413, 405", "414, 404", "431, 405", "host, 404", "hosts, 405"],
)
def test_size_and_framing_come_before_the_route(ada: Person, sent: str, status: int) -> None:
    assert say(ada, sent.encode()).status == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/{user}/nowhere", 404),
        ("DELETE", "/api/{user}/tasks", 405),
        ("PUT", "/api/x/tasks/abc/complete", 405),
    ],
)
def test_the_route_comes_before_401(ada: Person, method: str, path: str, status: int) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}):
        assert (
            ask(str(ada.client.base_url), method, path.format(user=ada.id), None, headers).status
            == status
        )


def test_401_comes_before_403(bob: Person, ada: Person) -> None:
    assert (
        ask(
            str(ada.client.base_url),
            "GET",
            bob.tasks,
            None,
            {"Authorization": f"Bearer {ada.token}x"},
        ).status
        == 401
    )


def exhausted(troubled: servers.Running) -> tuple[str, dict[str, str]]:
    """A user without any requests left, and their token."""
    user = f"eve-{uuid4().hex[:12]}"
    token = {"Authorization": f"Bearer {token_for(user)}"}
    for _ in range(BURST):
        assert ask(troubled.url, "GET", f"/api/{user}/tasks", None, token).status == 200
    return user, token


def test_403_comes_before_429(troubled: servers.Running) -> None:
    _, token = exhausted(troubled)
    assert ask(troubled.url, "GET", "/api/somebody/tasks", None, token).status == 403


def test_429_comes_before_415(troubled: servers.Running) -> None:
    user, token = exhausted(troubled)
    headers = {**token, "Content-Type": "text/plain"}
    assert ask(troubled.url, "POST", f"/api/{user}/tasks", TITLE, headers).status == 429


@pytest.mark.parametrize(
    ("path", "body"), [("", b"{"), ("", b"{}"), ("/abc", TITLE), ("/abc/complete", b"{}")]
)
def test_415_comes_before_400(ada: Person, path: str, body: bytes) -> None:
    method = "PATCH" if path else "POST"
    assert send(ada, method, path, body, **{"Content-Type": "text/plain"}).status == 415


@pytest.mark.parametrize("path", ["/0", f"/{2**63 - 1}", "/-1", f"/{2**70}", "/0/complete"])
@pytest.mark.parametrize("body", [b"{", b"[]", b'{"title":1,"completed":1}'])
def test_400_comes_before_404(ada: Person, path: str, body: bytes) -> None:
    assert send(ada, "PATCH", path, body).status == 400


NOBODYS = [
    *(
        ("POST", "", b"\xff"),
        ("POST", "", b"{}"),
        ("PUT", "/abc", b"{"),
        ("PATCH", "/0/complete", b"[]"),
    ),
    *(
        ("GET", "/abc", None),
        ("GET", "?filter=x", None),
        ("GET", "?cursor=x", None),
        ("DELETE", "/0", None),
    ),
]


@pytest.mark.parametrize(("method", "path", "body"), NOBODYS)
def test_nobody_learns_anything_but_401(
    ada: Person, method: str, path: str, body: bytes | None
) -> None:
    for headers in ({}, JSON, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}):
        asked = {**headers, "X-Request-Id": "same"}
        reply = ask(str(ada.client.base_url), method, ada.tasks + path, body, asked)
        assert reply.status == 401
        assert reply.body == ask(str(ada.client.base_url), "GET", ada.tasks).body


@pytest.mark.parametrize("token", ["", "Authorization: Bearer x\r\n"])
def test_nobody_is_answered_before_the_body_has_arrived(ada: Person, token: str) -> None:
    for framing in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        head = f"POST {ada.tasks} HTTP/1.1\r\n{HOST}{token}Content-Type: application/json\r\n{framing}\r\n\r\n"
        assert say(ada, head.encode(), "POST").status == 401


def test_403_and_429_are_answered_before_the_body_has_arrived(
    bob: Person, ada: Person, troubled: servers.Running
) -> None:
    assert stream(ada, "POST", bob.tasks, b"{", end=False, headers=JSON).status == 403
    user, token = exhausted(troubled)
    assert (
        stream(
            troubled.url, "POST", f"/api/{user}/tasks", b"{", end=False, headers={**JSON, **token}
        ).status
        == 429
    )


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("somebody", 403)])
def test_nobody_and_strangers_cost_no_database_call(
    forsaken: servers.Running, user: str | None, status: int
) -> None:
    headers = {"Authorization": f"Bearer {token_for(user)}"} if user else {}
    for method, path in (
        ("GET", ""),
        ("POST", ""),
        ("PUT", "/7"),
        ("DELETE", "/7"),
        ("PATCH", "/7/complete"),
    ):
        assert ask(forsaken.url, method, f"/api/ada/tasks{path}", None, headers).status == status


def test_what_is_wrong_with_a_request_is_said_even_without_a_database(
    forsaken: servers.Running,
) -> None:
    token = {"Authorization": f"Bearer {token_for('ada')}"}
    for body, kind, status in [
        (TITLE, "text/plain", 415),
        (b"{", "application/json", 400),
        (b"{}", "application/json", 400),
    ]:
        reply = ask(forsaken.url, "POST", "/api/ada/tasks", body, {**token, "Content-Type": kind})
        assert reply.status == status
    assert ask(forsaken.url, "GET", "/api/ada/tasks/abc", None, token).status == 400


# --- the token bucket ---


def test_the_burst_is_a_sixth_of_the_requests_per_minute() -> None:
    limiter = RateLimiter(600)
    allowed = sum(takes(limiter, "ada", 0.0) for _ in range(200))
    assert allowed == 100


def test_a_bucket_fills_at_the_rate_and_no_further_than_the_burst() -> None:
    limiter = RateLimiter(60)
    assert sum(takes(limiter, "ada", 0.0) for _ in range(20)) == 10
    assert sum(takes(limiter, "ada", 3.0) for _ in range(20)) == 3
    assert sum(takes(limiter, "ada", 1000.0) for _ in range(20)) == 10


@pytest.mark.parametrize("per_minute", [1, 5, 7, 60, 600])
def test_who_waits_as_long_as_retry_after_says_is_served(per_minute: int) -> None:
    limiter, now = RateLimiter(per_minute), 0.0
    while (wait := retry_after(limiter, "ada", now)) is None:
        pass
    assert wait >= 1
    assert retry_after(limiter, "ada", now + wait) is None


def takes(limiter: RateLimiter, user: str, now: float) -> bool:
    return retry_after(limiter, user, now) is None


def retry_after(limiter: RateLimiter, user: str, now: float) -> int | None:
    try:
        limiter.take(user, now)
    except RateLimited as refusal:
        return int(refusal.headers["Retry-After"])
    return None
