"""Contract, section "Headers": CORS, what every answer carries, and where identity comes from."""

from __future__ import annotations

import pytest

from tests.contract.wire import JSON, ORIGIN, ask, say, send
from tests.people import Person, token_for

EXPOSED = {
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
}
OTHER_ORIGINS = [
    *(
        "http://evil.example",
        "https://localhost:3000",
        "http://localhost:3001",
        "http://localhost",
        "http://localhost:3000/",
    ),
    *(
        "http://localhost:3000.evil.example",
        "http://LOCALHOST:3000",
        "http://127.0.0.1:3000",
        "null",
        "*",
        "",
    ),
]


def allows(headers: dict[str, str]) -> bool:
    return any(name.startswith("access-control-allow") for name in headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_a_preflight_of_the_frontend_is_allowed_without_a_token(ada: Person, method: str) -> None:
    for path in (
        ada.tasks,
        f"{ada.tasks}/7",
        f"{ada.tasks}/7/complete",
        "/health",
        "/api/somebody/tasks/",
    ):
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type,x-request-id",
        }
        reply = ask(str(ada.client.base_url), "OPTIONS", path, None, asked)
        assert reply.status in (200, 204)
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        assert reply.headers["access-control-allow-credentials"] == "true"
        assert method in reply.headers["access-control-allow-methods"].split(", ")
        granted = {
            name.strip().lower()
            for name in reply.headers["access-control-allow-headers"].split(",")
        }
        assert {"authorization", "content-type", "x-request-id"} <= granted


@pytest.mark.parametrize("origin", OTHER_ORIGINS)
def test_another_origin_is_allowed_nothing(ada: Person, origin: str) -> None:
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization",
    }
    assert not allows(ask(ada, "OPTIONS", ada.tasks, None, preflight).headers)
    for path in (ada.tasks, "/health", "/nowhere", f"{ada.tasks}/abc"):
        assert not allows(ask(ada, "GET", path, None, {"Origin": origin}).headers)


@pytest.mark.parametrize(
    "path", ["{tasks}", "{tasks}/0", "/health", "/nowhere", "/api/somebody/tasks"]
)
def test_every_answer_to_the_frontend_may_be_read_by_it(ada: Person, path: str) -> None:
    reply = ask(ada, "GET", path.format(tasks=ada.tasks), None, {"Origin": ORIGIN})
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert reply.headers["access-control-allow-credentials"] == "true"
    assert set(reply.headers["access-control-expose-headers"].split(", ")) == EXPOSED


@pytest.mark.parametrize("headers", [{}, {"Origin": ORIGIN}, {"Origin": "http://evil.example"}])
def test_caches_are_told_that_answers_vary_by_origin(ada: Person, headers: dict[str, str]) -> None:
    for path in (ada.tasks, "/health", "/nowhere"):
        assert "origin" in ask(ada, "GET", path, None, headers).headers["vary"].lower()


def test_without_an_origin_there_is_no_cors(ada: Person) -> None:
    assert not allows(ask(ada, "GET", ada.tasks).headers)


def test_every_answer_has_an_id_of_its_own_and_is_not_sniffed(ada: Person) -> None:
    task = ada.has("Buy milk")
    one = f"{ada.tasks}/{task['id']}"
    replies = [
        ask(ada, "GET", "/health"),
        ask(ada, "GET", ada.tasks),
        ask(ada, "HEAD", ada.tasks),
        send(ada, "POST", "", b'{"title":"a"}'),
        ask(ada, "PUT", one, b"{}", JSON),
        ask(ada, "PATCH", f"{one}/complete"),
        ask(ada, "OPTIONS", one, None, {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}),
        ask(ada, "DELETE", one),
        ask(ada, "GET", one),
    ]
    assert [reply.status for reply in replies] == [200, 200, 200, 201, 200, 200, 204, 200, 404]
    assert len({reply.headers["x-request-id"] for reply in replies}) == len(replies)
    for reply in replies:
        assert reply.headers["x-content-type-options"] == "nosniff"
    for reply in replies[1:6]:
        assert (reply.headers["cache-control"], "etag" in reply.headers) == (
            "private, no-cache",
            True,
        )
    for reply in replies[7:]:
        assert (reply.headers["cache-control"], "etag" in reply.headers) == ("no-store", False)


def test_success_is_json_of_a_declared_length(ada: Person) -> None:
    reply = send(ada, "POST", "", '{"title":"é"}'.encode())
    assert reply.headers["content-type"] == "application/json"
    assert int(reply.headers["content-length"]) == len(reply.body)


def test_201_carries_the_location_of_the_task(ada: Person) -> None:
    reply = send(ada, "POST", "", b'{"title":"Buy milk"}')
    assert reply.headers["location"] == f"{ada.tasks}/{reply.data['id']}"
    assert ask(ada, "GET", reply.headers["location"]).data == reply.data


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", " Bearer ", "Bearer  "])
def test_the_scheme_may_be_in_any_case(ada: Person, scheme: str) -> None:
    token = {"authorization": f"{scheme} {ada.token}"}
    assert ask(str(ada.client.base_url), "GET", ada.tasks, None, token).status == 200


@pytest.mark.parametrize(
    "header",
    [
        *(
            "X-User-Id: {id}",
            "X-User: {id}",
            "X-Forwarded-User: {id}",
            "X-Auth-Request-User: {id}",
            "Remote-User: {id}",
        ),
        *(
            "X-Authorization: Bearer {token}",
            "Proxy-Authorization: Bearer {token}",
            "X-Access-Token: {token}",
        ),
        *(
            "X-Forwarded-Authorization: Bearer {token}",
            "X-Original-Authorization: Bearer {token}",
            "X-Auth-Token: {token}",
        ),
        *(
            "Cookie: token={token}",
            "Cookie: better-auth.session_token={token}",
            "Cookie: Authorization=Bearer {token}",
        ),
        *(
            "Cookie: access_token={token}; user_id={id}",
            "Authentication: Bearer {token}",
            "X-Jwt-Assertion: {token}",
        ),
        *(
            "Authorization: {token}",
            "Authorization: Token {token}",
            "Authorization: Basic {token}",
            "Authorization: Bearer",
        ),
        *(
            "Authorization: JWT {token}",
            "Authorization: Bearer:{token}",
            "Sec-WebSocket-Protocol: bearer, {token}",
        ),
    ],
)
def test_no_other_header_says_who_asks(ada: Person, header: str) -> None:
    name, _, value = header.format(id=ada.id, token=ada.token).partition(": ")
    reply = ask(str(ada.client.base_url), "GET", ada.tasks, None, {name: value})
    assert (reply.status, reply.json()["reason"]) == (401, "missing_token")


@pytest.mark.parametrize(
    "name", ["access_token", "token", "jwt", "authorization", "bearer", "user_id", "api_key"]
)
def test_neither_query_nor_form_says_who_asks(ada: Person, name: str) -> None:
    url, pair = str(ada.client.base_url), f"{name}={ada.token}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask(url, "GET", f"{ada.tasks}?{pair}&user_id={ada.id}").status == 401
    assert ask(url, "POST", ada.tasks, pair.encode(), form).status == 401
    assert (
        ask(url, "POST", ada.tasks, f'{{"title":"a","{name}":"{ada.token}"}}'.encode(), JSON).status
        == 401
    )


def test_nothing_beside_the_token_changes_who_asks(ada: Person, bob: Person) -> None:
    bobs = {
        "X-User-Id": bob.id,
        "X-Forwarded-User": bob.id,
        "Remote-User": bob.id,
        "Cookie": f"token={bob.token}",
    }
    query = f"?user_id={bob.id}&access_token={bob.token}"
    assert ask(ada, "GET", bob.tasks + query, None, bobs).status == 403
    created = ask(ada, "POST", ada.tasks + query, b'{"title":"Hers"}', {**bobs, **JSON})
    assert created.data["user_id"] == ada.id
    assert created.data in ask(ada, "GET", ada.tasks + query, None, bobs).data


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Original-URL": "/health"},
        {"X-Rewrite-URL": "/health"},
        {"X-Forwarded-Prefix": "/x"},
    ],
)
def test_no_header_changes_what_is_asked(ada: Person, headers: dict[str, str]) -> None:
    task = ada.has("Buy milk")
    assert ask(ada, "GET", f"{ada.tasks}/{task['id']}", None, headers).data == task
    assert ada.get(f"/{task['id']}").status_code == 200


def test_two_authorization_headers_are_refused_even_if_they_agree(ada: Person) -> None:
    line = f"Authorization: Bearer {ada.token}\r\n"
    for lines in (
        line * 2,
        f"{line}Authorization: Bearer {token_for('bob')}\r\n",
        f"Authorization: Basic eA==\r\n{line}",
    ):
        reply = say(
            str(ada.client.base_url), f"GET {ada.tasks} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()
        )
        assert (reply.status, reply.json()["reason"]) == (401, "malformed_token")
