"""The OpenAPI document: committed, stable, and true of what the server does."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

import rules
from main import app
from query import sorting
from tests.people import Person
from tests.servers import Running
from web import fields

COMMITTED = Path(__file__).resolve().parent.parent / "openapi.json"
EXAMPLES = int(
    os.environ.get("SCHEMATHESIS_EXAMPLES", "6")
)  # of each operation; more for a long look
DOCUMENT: dict[str, Any] = app.openapi()
OPERATIONS = [
    (method, path) for path, operations in DOCUMENT["paths"].items() for method in operations
]


def is_private(path: str) -> bool:
    return path.startswith(("/api", "/v1"))


def writes(method: str, path: str) -> bool:
    return is_private(path) and method != "get"


def test_the_committed_document_is_the_codes() -> None:
    assert json.loads(COMMITTED.read_text()) == DOCUMENT, (
        "run `python3 run.py openapi --write` and commit"
    )


def test_operation_ids_are_stable() -> None:
    ids = [
        operation["operationId"]
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
    ]
    assert len(ids) == len(set(ids))
    assert {
        "list_tasks",
        "create_task",
        "get_task",
        "update_task",
        "patch_task",
        "delete_task",
        "complete_task",
        "health",
        "ready",
    } <= set(ids)


def test_every_operation_behind_a_token_says_so() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            behind_a_token = is_private(path)
            assert bool(operation.get("security")) == behind_a_token
            assert ("401" in operation["responses"]) == behind_a_token


def test_no_answer_of_fastapis_own_is_documented() -> None:
    assert "HTTPValidationError" not in json.dumps(DOCUMENT)
    for method, path in OPERATIONS:
        answers = DOCUMENT["paths"][path][method]["responses"]
        assert ("422" in answers) == writes(method, path)
        if writes(method, path):  # the key that was used for another request, and nothing else
            schema = answers["422"]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorResponse"}
            assert "Idempotency-Key" in answers["422"]["description"]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_conditions_and_keys_are_documented_where_they_count(method: str, path: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    named = {field["name"] for field in operation.get("parameters", []) if field["in"] == "header"}
    of_writes, of_reads = {"If-Match", "Idempotency-Key"}, {"If-None-Match"}
    has_etag = (
        is_private(path) and path != "/v1/changes"
    )  # which loses what has expired, without any change
    assert named == (of_writes if writes(method, path) else of_reads if has_etag else set())
    assert {"409", "412", "422"} & set(operation["responses"]) == (
        {"409", "412", "422"} if writes(method, path) else set()
    )
    assert ("304" in operation["responses"]) == (has_etag and method == "get")


def test_every_schema_is_where_generated_types_look_for_it() -> None:
    assert "$defs" not in json.dumps(DOCUMENT)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert named <= set(DOCUMENT["components"]["schemas"])


# --- what the document allows is what the server takes ---


def schema_of(method: str, path: str, parameter: str) -> dict[str, Any]:
    parameters = DOCUMENT["paths"][path][method]["parameters"]
    schema: dict[str, Any] = next(one["schema"] for one in parameters if one["name"] == parameter)
    return schema


def is_taken(parse: Callable[[list[bytes]], Any], text: str) -> bool:
    try:
        parse([text.encode("latin-1")])
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("method", "field", "parse"),
    [
        ("put", "If-Match", lambda lines: fields.if_match(lines, "ada")),
        ("get", "If-None-Match", fields.if_none_match),
        ("put", "Idempotency-Key", fields.idempotency_key),
    ],
)
def test_the_pattern_of_a_header_field_is_what_its_parser_takes(
    method: str, field: str, parse: Any
) -> None:
    schema = schema_of(method, "/api/{user_id}/tasks/{task_id}", field)
    alphabet = ["*", "W/", '"', ",", " ", "\\", "7", "\x7f", "é"]
    short = ["".join(signs) for length in range(5) for signs in product(alphabet, repeat=length)]
    long = [sign * length for length in (254, 255, 256) for sign in ("~", '\\"', "\\\\")]
    for text in [*short, *long, *(f'"{key}"' for key in long)]:
        if text == text.strip(" \t"):  # what surrounds a field's value is no part of it
            assert fits(schema, text) == is_taken(parse, text), text


def test_the_pattern_of_a_title_is_what_can_be_seen() -> None:
    pattern = re.compile(
        DOCUMENT["components"]["schemas"]["TaskCreate"]["properties"]["title"]["pattern"]
    )
    for sign in map(chr, range(0x10000)):
        taken = sign != "\0" and not rules.is_blank(sign)
        assert bool(pattern.search(sign)) == bool(pattern.search(f" {sign}\n")) == taken, ascii(
            sign
        )


@pytest.mark.parametrize("path", ["/api/{user_id}/tasks", "/v1/tasks", "/v1/trash", "/v1/changes"])
def test_the_bounds_of_a_query_are_documented(ada: Person, path: str) -> None:
    target = path.format(user_id=ada.id)
    names = [
        one["name"] for one in DOCUMENT["paths"][path]["get"]["parameters"] if one["in"] == "query"
    ]
    wrong: dict[str, list[Any]] = {
        "cursor": ["0", "a" * 42, "a" * 44, "é" * 43],
        "since": [-1, 2**63],
        "limit": [0, 501],
    }
    if path == "/v1/tasks":  # whose cursors are as long as what they hold
        wrong["cursor"] = ["0", "a" * 23, "é" * 24]
        wrong["sort"] = ["", "name", "due,due,due,due", "due, start", "Due"]
    for name, values in [(name, wrong[name]) for name in names if name in wrong]:
        schema = schema_of("get", path, name)
        for value in values:
            assert ada.request("GET", target, params={name: value}).status_code == 400
            assert not fits(schema, value), (name, value)
    if "since" in names:
        assert ada.request("GET", target, params={"since": 2**63 - 1}).status_code != 400
        assert fits(schema_of("get", path, "since"), 2**63 - 1)


def fits(schema: dict[str, Any], value: Any) -> bool:
    if "anyOf" in schema:
        return any(fits(one, value) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if schema["type"] == "string":
        return bool(re.search(schema["pattern"], value))
    return bool(schema["minimum"] <= value <= schema["maximum"])


# --- header fields of answers ---

FRAMING = {"content-length", "content-type", "transfer-encoding", "connection", "date"}
FOR_BROWSERS_AND_CACHES = {"vary", "x-content-type-options"}


def test_every_header_field_of_an_answer_is_documented(ada: Person) -> None:
    task = ada.has("Buy milk")
    other = ada.has("Buy tea")
    ada.delete(other["id"])
    one, key = "/api/{user_id}/tasks/{task_id}", {"Idempotency-Key": "key"}
    walk: list[tuple[int, str, str, dict[str, Any]]] = [
        (200, "get", "/api/{user_id}/tasks", {}),
        (200, "get", "/v1/trash", {}),
        (200, "get", "/v1/changes", {}),
        (304, "get", one, {"headers": {"If-None-Match": "*"}}),
        (304, "get", "/v1/trash", {"headers": {"If-None-Match": "*"}}),
        (200, "get", one, {}),
        (201, "post", "/api/{user_id}/tasks", {"json": {"title": "a", "uid": str(UUID(int=1))}}),
        (200, "post", "/api/{user_id}/tasks", {"json": {"title": "a", "uid": str(UUID(int=1))}}),
        (409, "post", "/api/{user_id}/tasks", {"json": {"title": "a", "uid": other["uid"]}}),
        (200, "put", one, {"json": {}, "headers": key}),
        (200, "put", one, {"json": {}, "headers": key}),  # the first answer again
        (422, "put", one, {"json": {"title": "b"}, "headers": key}),
        (412, "patch", one, {"json": {}, "headers": {"If-Match": '"0"'}}),
        (
            412,
            "post",
            "/api/{user_id}/tasks",
            {"json": {"title": "a"}, "headers": {"If-Match": '"0"'}},
        ),
        (415, "patch", one, {"content": b"{}"}),
        (413, "put", one, {"content": b" " * 70_000}),
        (400, "put", one, {"json": {"title": None}}),
        (200, "patch", one + "/complete", {}),
        (401, "delete", one, {"headers": {"Authorization": "Bearer x"}}),
        (403, "delete", one.replace("{user_id}", "somebody"), {}),
        (200, "delete", one, {}),
        (404, "delete", one, {}),
        (200, "post", "/v1/trash/{task_id}/restore", {}),
        (405, "post", one, {}),
        (414, "get", "/api/{user_id}/tasks", {"params": {"a": "a" * 9000}}),
        (200, "get", "/health", {}),
        (405, "put", "/health", {}),
        (200, "get", "/ready", {}),
    ]
    home = ada.request("POST", "/v1/lists", json={"name": "Home"}).json()["data"]
    own, listed = "/v1/tasks/{task_id}", "/v1/lists/{list_id}"
    named = {"json": {"name": "b", "uid": str(UUID(int=2))}}
    walk += [
        (200, "get", "/v1/tasks", {}),
        (200, "get", "/v1/tasks", {"params": {"query": "today"}}),  # without ETag
        (304, "get", "/v1/tasks", {"headers": {"If-None-Match": "*"}}),
        (400, "get", "/v1/tasks", {"params": {"query": "overdu"}}),
        (201, "post", "/v1/tasks", {"json": {"title": "a"}}),
        (200, "get", own, {}),
        (200, "patch", own, {"json": {"due": "2026-12-01"}}),
        (400, "patch", own, {"json": {"list_id": 2**62}}),
        (412, "patch", own, {"json": {}, "headers": {"If-Match": '"0"'}}),
        (200, "post", own + "/complete", {}),
        (200, "delete", own, {}),
        (200, "post", "/v1/trash/tasks/{task_id}/restore", {}),
        (404, "delete", "/v1/trash/tasks/{task_id}", {}),
        (200, "get", "/v1/lists", {}),
        (304, "get", "/v1/lists", {"headers": {"If-None-Match": "*"}}),
        (201, "post", "/v1/lists", named),
        (200, "post", "/v1/lists", named),
        (200, "get", listed, {}),
        (304, "get", listed, {"headers": {"If-None-Match": "*"}}),
        (200, "patch", listed, {"json": {"color": None}}),
        (412, "patch", listed, {"json": {}, "headers": {"If-Match": '"0"'}}),
        (200, "delete", listed, {}),
        (200, "post", "/v1/trash/lists/{list_id}/restore", {}),
        (200, "delete", listed, {}),
        (200, "delete", "/v1/trash/lists/{list_id}", {}),
        (404, "get", listed, {}),
        (405, "put", listed, {"json": {}}),
    ]
    for status, method, template, sent in walk:
        url = template.format(user_id=ada.id, task_id=task["id"], list_id=home["id"])
        reply = ada.request(method.upper(), url, **sent)
        assert reply.status_code == status, (method, template, reply.text)
        check_header_fields(reply, method, template.replace("somebody", "{user_id}"))


def check_header_fields(reply: httpx.Response, method: str, path: str) -> None:
    operations = DOCUMENT["paths"][path]
    responses = operations.get(method, next(iter(operations.values())))[
        "responses"
    ]  # 405: any of the path's
    response = responses.get(str(reply.status_code), responses["default"])
    documented = {name.lower(): resolved(field) for name, field in response["headers"].items()}
    sent = set(reply.headers) - FRAMING - FOR_BROWSERS_AND_CACHES
    assert sent <= set(documented), (method, path, reply.status_code)
    assert {name for name, field in documented.items() if field.get("required")} <= sent, (
        method,
        path,
    )
    for name in sent:
        pattern = documented[name]["schema"].get("pattern", "")
        assert re.search(pattern, reply.headers[name]), name


def resolved(field: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["components"]["headers"][field["$ref"].rpartition("/")[2]]
    return found


def test_the_header_fields_of_answers_that_are_hard_to_provoke_are_documented() -> None:
    for method, path in OPERATIONS:
        for status, response in DOCUMENT["paths"][path][method]["responses"].items():
            required = {
                name
                for name, field in response["headers"].items()
                if resolved(field).get("required")
            }
            assert ("Retry-After" in required) == (status in ("429", "503")), (method, path, status)
            assert ("WWW-Authenticate" in required) == (status == "401")
            assert ("Allow" in response["headers"]) == (status == "default")


# --- whatever is sent ---

NOT_CHECKED = [
    "ignored_auth",  # takes the token away, but this test puts it back
    "missing_required_header",
]


def takeable(body: Any) -> Any:
    """The body without what fits its schema, and depends on what there is, on the calendar, or on
    another field."""
    if not isinstance(body, dict):
        return body
    kept = {name: value for name, value in body.items() if name not in ("list_id", "parent_id")}
    for name, check in (("position", rules.POSITION), ("start", rules.START), ("due", rules.DUE)):
        if name in kept and not is_value(check, kept[name]):
            del kept[name]
    if isinstance(kept.get("position"), dict) or {"start", "due"} <= set(kept):
        kept = {name: kept[name] for name in kept if name not in ("position", "start")}
    return kept


def is_sort(text: str) -> bool:
    try:
        return bool(sorting.read(text))
    except ValueError:
        return False


def is_value(rule: rules.Rule, value: Any) -> bool:
    try:
        rule.check(value)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def fuzzer(server: Running) -> Person:
    return Person(server.url, "fuzzer")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_whatever_is_sent_the_answer_is_a_documented_one(
    method: str, path: str, fuzzer: Person
) -> None:
    # Imported here: it takes seconds, which otherwise every worker would pay.
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import CHECKS, load_all_checks
    from schemathesis.config import SchemathesisConfig

    load_all_checks()
    checks = [check for check in CHECKS.get_all() if check.__name__ not in NOT_CHECKED]
    config = SchemathesisConfig.from_path(COMMITTED.with_name("schemathesis.toml"))
    operation = schemathesis.openapi.from_dict(DOCUMENT, config=config)[path][method]
    fits, does_not = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE

    def probe(case: Any) -> None:
        if "user_id" in case.path_parameters:
            case.path_parameters["user_id"] = fuzzer.id
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {fuzzer.token}"}
        positive = case.meta is not None and case.meta.generation.mode.is_positive
        if positive:
            case.query.pop("cursor", None)  # only the server can make one that fits
            case.query.pop("timezone", None)  # and only the database of zones has names of them
            case.query.pop("query", None)  # a language of its own: tests/test_query_parser.py
            if not is_sort(case.query.get("sort", "due")):
                del case.query["sort"]  # it names a field twice
            case.body = takeable(case.body)
        response = case.call(base_url=str(fuzzer.client.base_url))
        assert response.status_code < 500
        assert not (positive and response.status_code in (400, 413, 415)), (
            "the document allows what the server refuses"
        )
        case.validate_response(response, checks=checks)

    for mode in (fits, does_not) if is_private(path) else (fits,):
        limits = settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        limits(given(case=operation.as_strategy(generation_mode=mode))(probe))()
