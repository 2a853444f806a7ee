"""Contract, section "Errors": one envelope for every failure, the texts, and the order of checks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple
from uuid import uuid4

import jwt
import pytest

import errors
from tests import servers
from tests.conftest import sql
from tests.contract.conftest import BURST, at_work
from tests.contract.wire import JSON, ORIGIN, Reply, ask, say, stream
from tests.people import SECRET, Person, token_for
from tests.signers import Signer

PROBLEM = "application/problem+json"
MANY_LISTS = """
INSERT INTO lists (user_id, name, version) SELECT $1, 'List', n FROM generate_series(1, $2::int) AS n
"""
TITLE = b'{"title":"a"}'
BREAK = b'{"title":"Break"}'
NAMED = b'{"title":"a","uid":"3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e"}'
LARGE = b" " * (64 * 1024 + 1)
HOST = "Host: todo.example\r\n"
KEYED = {**JSON, "Idempotency-Key": "key"}

CODES = {  # of a status that has one; 409 has several, so its failures name theirs
    400: "VALIDATION_ERROR",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    410: "CURSOR_EXPIRED",
    412: "PRECONDITION_FAILED",
    413: "PAYLOAD_TOO_LARGE",
    414: "URI_TOO_LONG",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "IDEMPOTENCY_KEY_REUSED",
    429: "RATE_LIMITED",
    431: "HEADERS_TOO_LARGE",
    500: "SERVER_ERROR",
    503: "SERVICE_UNAVAILABLE",
}
MEMBERS = {401: ["reason", "hint"], 412: ["data"]}  # beside those that every error has
WITH_RETRY_AFTER = {"IDEMPOTENCY_IN_PROGRESS", "RATE_LIMITED", "SERVICE_UNAVAILABLE"}
TITLES = {  # RFC 9110's words, as RFC 9457 wants them
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Step(NamedTuple):
    """A request about a task. {user} and {task} in `target` are those of the test."""

    method: str
    target: str
    body: bytes | None = None

    def path(self, user: str, task_id: int) -> str:
        return self.target.format(user=user, task=task_id)


class Failure(NamedTuple):
    """A way to fail. `at` is the server; {user} in `target` and the token are a new user's of that
    server."""

    name: str
    failed: int | tuple[int, str]  # the status, and its code where CODES has none
    method: str
    target: str
    body: bytes | None = None
    headers: dict[str, str] = {}  # noqa: RUF012  # never changed
    at: str = "server"
    token: bool = True
    before: int = 0  # requests of the same user that come first
    created: bytes | None = None  # the body of a POST with the same headers that comes first
    lists: int = 0  # of the same user that come first
    then: tuple[Step, ...] = ()  # after it, requests that concern the task it made
    running: bool = False  # another request with the same key, meanwhile
    head: str = ""  # instead of all that: these lines, for what no client library sends
    streamed: bool = False

    @property
    def status(self) -> int:
        return self.failed if isinstance(self.failed, int) else self.failed[0]

    @property
    def code(self) -> str:
        return CODES[self.failed] if isinstance(self.failed, int) else self.failed[1]

    @property
    def loses_an_edit(self) -> bool:
        """Then `errors` names the fields. There are none where the task is gone."""
        return self.failed == CONFLICT and EDIT in self.then

    @property
    def unread(self) -> bool:
        """The head could not be read, or not to its end: then the answer may lack what depends on
        other headers."""
        return self.head != "" or self.status in (414, 431)


TASKS = "/api/{user}/tasks"
FIRST = "/v1/changes/1/undo"
EDIT, DELETE = Step("PUT", TASKS + "/{task}", b'{"title":"b"}'), Step("DELETE", TASKS + "/{task}")
PURGE = Step("DELETE", "/v1/trash/{task}")
RUNNING, IN_TRASH, CONFLICT = (
    (409, "IDEMPOTENCY_IN_PROGRESS"),
    (409, "UID_IN_TRASH"),
    (409, "UNDO_CONFLICT"),
)
FULL, NO_ROOM = (409, "LIMIT_REACHED"), (409, "POSITION_EXHAUSTED")
AT_THE_END = b'{"title":"a","position":"%s"}' % (b"z" * 128)  # nothing fits behind it
BACKWARDS = b'{"title":"a","start":"2026-12-02","due":"2026-12-01"}'
NAME = b'{"name":"a"}'
FAILURES = [
    Failure("title missing", 400, "POST", TASKS, b"{}", JSON),
    Failure("title too long", 400, "POST", TASKS, b'{"title":"%s"}' % (b"a" * 201), JSON),
    Failure(
        "three fields wrong",
        400,
        "PUT",
        TASKS + "/7",
        b'{"title":1,"description":1,"completed":1}',
        JSON,
    ),
    Failure("id and body wrong", 400, "PATCH", TASKS + "/abc", b'{"title":null}', JSON),
    Failure("no JSON", 400, "POST", TASKS, b"{", JSON),
    Failure("no body", 400, "POST", TASKS),
    Failure("completed misspelt", 400, "PATCH", TASKS + "/7/complete", b'{"complete":true}', JSON),
    Failure("no object", 400, "PATCH", TASKS + "/7/complete", b"[]", JSON),
    Failure("lone surrogate", 400, "POST", TASKS, b'{"title":"\\ud800"}', JSON),
    Failure("id is a word", 400, "GET", TASKS + "/abc"),
    Failure("id is a word, HEAD", 400, "HEAD", TASKS + "/abc"),
    Failure("id is not UTF-8", 400, "DELETE", TASKS + "/%FF"),
    Failure("unknown filter", 400, "GET", TASKS + "?filter=done"),
    Failure("limit 0", 400, "GET", TASKS + "?limit=0"),
    Failure("forged cursor", 400, "GET", TASKS + "?limit=1&cursor=forged"),
    Failure("malformed condition", 400, "DELETE", TASKS + "/7", None, {"If-Match": "7"}),
    Failure("malformed condition of a read", 400, "GET", TASKS, None, {"If-None-Match": "7"}),
    Failure("misplaced condition", 400, "HEAD", TASKS, None, {"If-Match": '"7"'}),
    Failure("malformed key", 400, "POST", TASKS, TITLE, {**JSON, "Idempotency-Key": '"'}),
    Failure("uid is none", 400, "POST", TASKS, b'{"title":"a","uid":"7"}', JSON),
    Failure("no host", 400, "GET", "", head="GET /health HTTP/1.1\r\n"),
    Failure("two hosts", 400, "GET", "", head=f"GET /health HTTP/1.1\r\n{HOST}{HOST}"),
    Failure("malformed host", 400, "GET", "", head="GET /health HTTP/1.1\r\nHost: a b\r\n"),
    Failure(
        "host with a path", 400, "GET", "", head="GET /health HTTP/1.1\r\nHost: evil.example/x\r\n"
    ),
    Failure(
        "two lengths",
        400,
        "GET",
        "",
        head=f"GET / HTTP/1.1\r\n{HOST}Content-Length: 1\r\nContent-Length: 2\r\n",
    ),
    Failure("not HTTP", 400, "GET", "", head="hello\r\n"),
    Failure("no token", 401, "GET", TASKS, token=False),
    Failure(
        "no token, garbage sent", 401, "POST", TASKS, b"\xff", {"Content-Type": "x"}, token=False
    ),
    Failure(
        "another scheme",
        401,
        "GET",
        TASKS,
        None,
        {"Authorization": "Basic YWRhOmFkYQ=="},
        token=False,
    ),
    Failure("no JWT", 401, "GET", TASKS, None, {"Authorization": "Bearer x"}, token=False),
    Failure(
        "session token",
        401,
        "GET",
        TASKS,
        None,
        {"Authorization": f"Bearer {'s' * 32}"},
        token=False,
    ),
    Failure("no token, no database", 401, "GET", TASKS, at="forsaken", token=False),
    Failure("another's list", 403, "GET", "/api/somebody/tasks"),
    Failure("another's list, HEAD", 403, "HEAD", "/api/somebody/tasks"),
    Failure(
        "another's task, nonsense sent",
        403,
        "PUT",
        "/api/somebody/tasks/abc",
        b"\xff",
        {"Content-Type": "x"},
    ),
    Failure("a user that is not UTF-8", 403, "GET", "/api/%FF%00/tasks"),
    Failure("unknown path", 404, "GET", "/nowhere", token=False),
    Failure("unknown path, unknown method", 404, "PROPFIND", "/nowhere", token=False),
    Failure("doubled slash", 404, "GET", "//health", token=False),
    Failure("list does not exist", 400, "POST", TASKS, b'{"title":"a","list_id":7}', JSON),
    Failure("parent does not exist", 400, "PUT", TASKS + "/7", b'{"parent_id":true}', JSON),
    Failure("no such place", 400, "POST", TASKS, b'{"title":"a","position":"b0"}', JSON),
    Failure("due before start", 400, "POST", TASKS, BACKWARDS, JSON),
    Failure("a list's name missing", 400, "POST", "/v1/lists", b"{}", JSON),
    Failure("a name that is none", 400, "GET", "/v1/tasks/abc"),
    Failure("absent list", 404, "GET", f"/v1/lists/{2**63 - 1}"),
    Failure("absent list, restored", 404, "POST", "/v1/trash/lists/7/restore"),
    Failure("PUT under /v1", 405, "PUT", "/v1/lists/7", NAME, JSON),
    Failure("absent task", 404, "GET", TASKS + f"/{2**63 - 1}"),
    Failure("id beyond 64 bits", 404, "DELETE", TASKS + f"/{2**63}"),
    Failure("absent task, toggled", 404, "PATCH", TASKS + "/0/complete"),
    Failure("POST on health", 405, "POST", "/health", b"", token=False),
    Failure("DELETE on the list", 405, "DELETE", TASKS),
    Failure("plain OPTIONS", 405, "OPTIONS", TASKS, token=False),
    Failure("unknown method", 405, "PROPFIND", TASKS, token=False),
    Failure("the same key still running", RUNNING, "POST", TASKS, TITLE, KEYED, running=True),
    Failure(
        "a uid in the trash", IN_TRASH, "POST", TASKS, NAMED, JSON, created=NAMED, then=(DELETE,)
    ),
    Failure(
        "an undo that loses an edit",
        CONFLICT,
        "POST",
        FIRST,
        None,
        JSON,
        created=TITLE,
        then=(EDIT,),
    ),
    Failure(
        "an undo of what is gone for good",
        CONFLICT,
        "POST",
        FIRST,
        None,
        JSON,
        created=TITLE,
        then=(DELETE, PURGE),
    ),
    Failure("one list too many", FULL, "POST", "/v1/lists", NAME, JSON, lists=500),
    Failure(
        "no room behind the last one",
        NO_ROOM,
        "POST",
        TASKS,
        b'{"title":"a","position":"last"}',
        JSON,
        created=AT_THE_END,
    ),
    Failure("a place that the log does not have", 410, "GET", "/v1/changes?since=7"),
    Failure("another version of the list", 412, "POST", TASKS, TITLE, {**JSON, "If-Match": '"7"'}),
    Failure("a weak tag", 412, "POST", TASKS, TITLE, {**JSON, "If-Match": 'W/"0"'}),
    Failure("declared too large", 413, "POST", TASKS, LARGE, JSON),
    Failure(
        "declared too large, no token",
        413,
        "POST",
        TASKS,
        None,
        {"Content-Length": "70000"},
        token=False,
    ),
    Failure("streamed too large", 413, "POST", TASKS, LARGE, JSON, streamed=True),
    Failure("long path", 414, "GET", f"/{'a' * 9000}", token=False),
    Failure("long query", 414, "GET", f"{TASKS}?cursor={'a' * 9000}"),
    Failure("text", 415, "POST", TASKS, TITLE, {"Content-Type": "text/plain"}),
    Failure("no media type", 415, "PATCH", TASKS + "/7/complete", b"{}"),
    Failure(
        "UTF-16 announced",
        415,
        "PUT",
        TASKS + "/7",
        TITLE,
        {"Content-Type": "application/json; charset=utf-16"},
    ),
    Failure("compressed", 415, "POST", TASKS, TITLE, {**JSON, "Content-Encoding": "gzip"}),
    Failure(
        "the key of another request", 422, "POST", TASKS, TITLE, KEYED, created=b'{"title":"b"}'
    ),
    Failure(
        "the key of a request elsewhere", 422, "DELETE", TASKS + "/7", None, KEYED, created=TITLE
    ),
    Failure("too often", 429, "GET", TASKS, at="troubled", before=BURST),
    Failure("too often, HEAD", 429, "HEAD", TASKS + "/7", at="troubled", before=BURST),
    Failure("too often, to write", 429, "POST", TASKS, TITLE, JSON, at="troubled", before=BURST),
    Failure("large header", 431, "GET", TASKS, None, {"X-Large": "a" * 33_000}),
    Failure(
        "many headers",
        431,
        "GET",
        "/health",
        None,
        {f"X-{n}": "a" * 400 for n in range(90)},
        token=False,
    ),
    Failure("a bug", 500, "POST", TASKS, BREAK, JSON, at="troubled"),
    Failure("no database: list", 503, "GET", TASKS, at="forsaken"),
    Failure("no database: HEAD", 503, "HEAD", TASKS + "/7", at="forsaken"),
    Failure("no database: create", 503, "POST", TASKS, TITLE, JSON, at="forsaken"),
    Failure("no database: create with a key", 503, "POST", TASKS, TITLE, KEYED, at="forsaken"),
    Failure("no database: toggle", 503, "PATCH", TASKS + "/7/complete", at="forsaken"),
    Failure("no database: delete", 503, "DELETE", TASKS + "/7", at="forsaken"),
]


def provoke(failure: Failure, url: str, database_url: str, extra: dict[str, str]) -> Reply:
    user = f"eve-{uuid4().hex[:12]}"
    if failure.head:
        lines = "".join(f"{name}: {value}\r\n" for name, value in extra.items())
        return say(url, f"{failure.head}{lines}\r\n".encode(), failure.method)
    token = {"Authorization": f"Bearer {token_for(user)}"} if failure.token else {}
    target = failure.target.replace("{user}", user)
    headers = {**token, **failure.headers, **extra}
    if failure.streamed and failure.body:
        return stream(url, failure.method, target, failure.body, end=False, headers=headers)
    for _ in range(failure.before):
        assert ask(url, "GET", f"/api/{user}/tasks", None, token).status == 200
    if failure.lists:
        sql(database_url, MANY_LISTS, user, failure.lists)
    if failure.created:
        created = ask(url, "POST", f"/api/{user}/tasks", failure.created, headers)
        assert created.status == 201
        for step in failure.then:
            assert (
                ask(
                    url, step.method, step.path(user, created.data["id"]), step.body, headers
                ).status
                == 200
            )
    with (
        at_work(database_url, user, failure.headers["Idempotency-Key"])
        if failure.running
        else nullcontext()
    ):
        return ask(url, failure.method, target, failure.body, headers)


@pytest.fixture(scope="module")
def urls(
    server: servers.Running, troubled: servers.Running, forsaken: servers.Running
) -> dict[str, str]:
    return {"server": server.url, "troubled": troubled.url, "forsaken": forsaken.url}


def test_the_walk_meets_every_code_the_server_has() -> None:
    assert {(failure.status, failure.code) for failure in FAILURES} == {
        (kind.status, kind.code) for kind in kinds()
    }


def kinds(parent: type[errors.ApiError] = errors.ApiError) -> Iterator[type[errors.ApiError]]:
    """Every error of errors.py."""
    yield parent
    for kind in parent.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from kinds(kind)


@pytest.mark.parametrize("failure", FAILURES, ids=[failure.name for failure in FAILURES])
def test_every_way_to_fail_has_one_envelope(
    failure: Failure, urls: dict[str, str], database_url: str
) -> None:
    reply = provoke(failure, urls[failure.at], database_url, {"Origin": ORIGIN})
    assert reply.status == failure.status
    check_headers(failure, reply)
    if not failure.unread:
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        assert reply.headers["access-control-allow-credentials"] == "true"
        assert "X-Request-Id" in reply.headers["access-control-expose-headers"]
    assert reply.headers["content-type"] == "application/json"
    if failure.method != "HEAD":
        check_body(failure, reply.json(), ["error", "code", "detail", "message"])
        assert reply.json()["detail"] == reply.json()["message"] == reply.json()["error"]


@pytest.mark.parametrize("failure", FAILURES, ids=[failure.name for failure in FAILURES])
def test_every_way_to_fail_is_had_as_rfc_9457_too(
    failure: Failure, urls: dict[str, str], database_url: str
) -> None:
    extra = {"Accept": f"text/html, {PROBLEM}; q=0.9", "Origin": "http://evil.example"}
    reply = provoke(failure, urls[failure.at], database_url, extra)
    assert reply.status == failure.status
    check_headers(failure, reply)
    assert not any(name.startswith("access-control-") for name in reply.headers)
    if failure.unread and reply.headers["content-type"] == "application/json":
        return
    assert reply.headers["content-type"] == PROBLEM
    if failure.method != "HEAD":
        problem = reply.json()
        check_body(failure, problem, ["type", "title", "status", "detail", "code"])
        assert problem["type"] == "about:blank"
        assert problem["title"] == TITLES.get(failure.status, problem["title"]) != ""
        assert problem["status"] == failure.status


def check_headers(failure: Failure, reply: Reply) -> None:
    headers = reply.headers
    assert headers["x-request-id"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert failure.method == "HEAD" or int(headers["content-length"]) == len(reply.body) > 0
    assert ("www-authenticate" in headers) == (failure.status == 401)
    assert ("allow" in headers) == (failure.status == 405)
    assert ("retry-after" in headers) == (failure.code in WITH_RETRY_AFTER)
    if "retry-after" in headers:
        assert 1 <= int(headers["retry-after"]) <= 60
    assert "server" not in headers


def check_body(failure: Failure, body: dict[str, Any], common: list[str]) -> None:
    about_fields = failure.status == 400 and not failure.head
    own = ["errors"] if about_fields or failure.loses_an_edit else MEMBERS.get(failure.status, [])
    assert list(body) == common + own
    assert body["code"] == failure.code
    sentence = body["detail"]
    assert type(sentence) is str
    assert sentence.strip() == sentence != ""
    if about_fields:
        assert [list(problem) for problem in body["errors"]] == [["field", "message"]] * len(
            body["errors"]
        )
        assert body["errors"][0]["message"] == sentence
    if failure.status == 401:
        assert {type(body[name]) for name in own} == {str}


def test_problem_json_that_is_refused_is_not_sent(ada: Person) -> None:
    for accept in ("application/json", "*/*", "text/html", f"{PROBLEM};q=0", f"{PROBLEM}x"):
        reply = ask(ada, "GET", "/nowhere", None, {"Accept": accept})
        assert reply.headers["content-type"] == "application/json", accept


# --- what some of them say ---


def test_a_401_has_a_reason_and_a_challenge(ada: Person) -> None:
    url = str(ada.client.base_url)
    nobody = ask(url, "GET", ada.tasks)
    assert (nobody.error, nobody.json()["reason"]) == ("Missing token", "missing_token")
    assert nobody.headers["www-authenticate"] == 'Bearer realm="todo"'
    forged = ask(url, "GET", ada.tasks, None, {"Authorization": "Bearer x.y.z"})
    assert (forged.error, forged.json()["reason"]) == ("Invalid token", "malformed_token")
    assert forged.headers["www-authenticate"].startswith(
        'Bearer realm="todo", error="invalid_token", error_description="'
    )


CANARY = "canary"  # stands in every place of a token whose value could be repeated
STRANGER = Signer("EdDSA", CANARY)
LATER = int(time.time()) + 3600


def sign(claims: dict[str, str]) -> str:
    return jwt.encode(claims, SECRET, algorithm="HS256")


BAD_TOKENS = {
    "no header": (None, "missing_token", "Authorization: Bearer"),
    "another scheme": ("Basic Y2FuYXJ5OmNhbmFyeQ==", "missing_token", "Authorization: Bearer"),
    "session token": (f"Bearer {CANARY}.{CANARY}", "malformed_token", "GET /api/auth/token"),
    "exp is a text": (f"Bearer {sign({'exp': CANARY})}", "malformed_token", "GET /api/auth/token"),
    "unsecured": (
        f"Bearer {STRANGER.token(CANARY, {'alg': 'none'})}",
        "unsupported_algorithm",
        "BETTER_AUTH_SECRET",
    ),
    "typ": (
        f"Bearer {STRANGER.token(CANARY, {'typ': CANARY})}",
        "unsupported_type",
        "GET /api/auth/token",
    ),
    "another secret": (
        f"Bearer {token_for(CANARY, 'x' * 32)}",
        "bad_signature",
        "the same on both sides",
    ),
    "exp": (f"Bearer {token_for(CANARY, exp=1)}", "token_expired", "Get a new token"),
    "nbf": (f"Bearer {token_for(CANARY, nbf=LATER)}", "token_not_yet_valid", "clocks"),
    "iss": (f"Bearer {token_for(CANARY, iss=CANARY)}", "wrong_issuer", "BETTER_AUTH_URL"),
    "aud": (f"Bearer {token_for(CANARY, aud=[CANARY])}", "wrong_audience", "AUTH_AUDIENCE"),
    "id": (f"Bearer {sign({'id': CANARY})}", "missing_subject", "The claim `sub`"),
    "userId": (
        f"Bearer {sign({'userId': CANARY, 'email': CANARY})}",
        "missing_subject",
        "`userId`",
    ),
    "empty sub": (f"Bearer {token_for('', name=CANARY)}", "missing_subject", "The claim `sub`"),
}


@pytest.mark.parametrize(("authorization", "reason", "advice"), BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_401_says_in_its_body_what_to_look_at_and_repeats_nothing_of_the_token(
    ada: Person, authorization: str | None, reason: str, advice: str
) -> None:
    token = {"Authorization": authorization} if authorization else {}
    for accept in ("application/json", PROBLEM):
        reply = ask(str(ada.client.base_url), "GET", ada.tasks, None, {**token, "Accept": accept})
        assert (reply.status, reply.json()["reason"]) == (401, reason)
        assert advice in reply.json()["hint"]
        assert CANARY.encode() not in reply.body
        assert SECRET.encode() not in reply.body


def test_a_403_says_access_denied_and_not_whether_anything_is_there(
    ada: Person, bob: Person
) -> None:
    task = bob.has("Bob's own")
    replies = [
        ask(ada, "GET", path, None, {"X-Request-Id": "same"})
        for path in (
            bob.tasks,
            f"{bob.tasks}/{task['id']}",
            f"{bob.tasks}/0",
            f"{bob.tasks}/abc",
            "/api/nobody/tasks",
        )
    ]
    assert {(reply.status, reply.body) for reply in replies} == {(403, replies[0].body)}
    assert replies[0].error == "Access denied"


def test_a_500_says_nothing_of_its_cause_and_the_log_does(troubled: servers.Running) -> None:
    user = f"eve-{uuid4().hex[:12]}"
    headers = {
        **JSON,
        "Authorization": f"Bearer {token_for(user)}",
        "X-Request-Id": f"request-of-{user}",
    }
    reply = ask(troubled.url, "POST", f"/api/{user}/tasks", BREAK, headers)
    assert (reply.status, reply.error) == (500, "Something went wrong on our side")
    assert reply.headers["x-request-id"] == f"request-of-{user}"
    deadline = time.monotonic() + 2
    while f"request-of-{user}" not in troubled.printed() and time.monotonic() < deadline:
        time.sleep(0.01)
    logged = troubled.printed()[troubled.printed().index(f"request-of-{user}") :]
    assert "RaiseError" in logged


def test_after_a_500_the_next_request_works(troubled: servers.Running) -> None:
    for title, status in ((BREAK, 500), (TITLE, 201)) * 3:
        user = f"eve-{uuid4().hex[:12]}"
        headers = {**JSON, "Authorization": f"Bearer {token_for(user)}"}
        assert ask(troubled.url, "POST", f"/api/{user}/tasks", title, headers).status == status


def test_an_unreachable_database_is_said_within_two_seconds(forsaken: servers.Running) -> None:
    began = time.monotonic()
    reply = ask(
        forsaken.url, "GET", "/api/eve/tasks", None, {"Authorization": f"Bearer {token_for('eve')}"}
    )
    assert reply.status == 503
    assert time.monotonic() - began < 2.5


def test_a_rate_limit_is_each_users_own_and_retry_after_is_true(troubled: servers.Running) -> None:
    def get(user: str) -> Reply:
        return ask(
            troubled.url,
            "GET",
            f"/api/{user}/tasks",
            None,
            {"Authorization": f"Bearer {token_for(user)}"},
        )

    eve, mallory = f"eve-{uuid4().hex[:12]}", f"mallory-{uuid4().hex[:12]}"
    assert [get(eve).status for _ in range(BURST + 1)] == [200] * BURST + [429]
    assert 1 <= int(get(eve).headers["retry-after"]) <= 5
    assert get(mallory).status == 200


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("uid", "7", "Uid must be a UUID, such as 3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e"),
        ("title", None, "Title is required"),
        ("title", "", "Title is required"),
        ("title", "a" * 201, "Title must be between 1 and 200 characters"),
        ("title", 7, "Title must be a string"),
        ("title", ["a"], "Title must be a string"),
        ("title", True, "Title must be a string"),
        ("description", "a" * 1001, "Description must not exceed 1000 characters"),
        ("description", 7, "Description must be a string or null"),
        ("description", {"a": 1}, "Description must be a string or null"),
        ("completed", "true", "Completed must be true or false"),
    ],
)
def test_validation_says_which_field_and_what_would_be_right(
    ada: Person, field: str, value: Any, message: str
) -> None:
    task = ada.has("Buy milk")
    replies = []
    if field != "uid":
        replies.append(ada.put(task["id"], {field: value}))
    if field != "completed":
        replies.append(ada.post({"title": "Buy milk", field: value}))
    for reply in replies:
        assert (reply.status_code, reply.json()["code"]) == (400, "VALIDATION_ERROR")
        assert reply.json()["errors"] == [{"field": field, "message": message}]
        assert reply.json()["error"] == message
    if field == "title" and value is None:
        assert ada.post({}).json()["errors"] == [{"field": "title", "message": message}]


def test_every_problem_is_said_at_once_and_error_is_the_first(ada: Person) -> None:
    reply = ada.put("abc", {"completed": 1, "description": 1, "title": 1}).json()
    assert [problem["field"] for problem in reply["errors"]] == [
        "task_id",
        "title",
        "description",
        "completed",
    ]
    assert reply["error"] == reply["detail"] == "Task id must be an integer"
    headers = {"If-Match": "7", "Idempotency-Key": "", "If-None-Match": "*"}
    errors = ada.put("abc", {"completed": 1}, headers=headers).json()["errors"]
    fields = ["task_id", "If-Match", "Idempotency-Key", "If-None-Match", "completed"]
    assert [problem["field"] for problem in errors] == fields
