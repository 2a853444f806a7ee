"""The OpenAPI document: committed, stable, and true of what the server does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from main import app
from tests.people import Person
from tests.servers import Running

COMMITTED = Path(__file__).resolve().parent.parent / "openapi.json"
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "6"))  # of each operation; more for a long look
DOCUMENT: dict[str, Any] = app.openapi()
OPERATIONS = [(method, path) for path, operations in DOCUMENT["paths"].items() for method in operations]


def is_private(path: str) -> bool:
    return path.startswith(("/api", "/v1"))


def writes(method: str, path: str) -> bool:
    return is_private(path) and method != "get"


def test_the_committed_document_is_the_codes() -> None:
    assert json.loads(COMMITTED.read_text()) == DOCUMENT, "run `python3 run.py openapi --write` and commit"


def test_operation_ids_are_stable() -> None:
    ids = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
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
    has_etag = is_private(path) and path != "/v1/changes"  # which loses what has expired, without any change
    assert named == (of_writes if writes(method, path) else of_reads if has_etag else set())
    assert {"409", "412", "422"} & set(operation["responses"]) == (
        {"409", "412", "422"} if writes(method, path) else set()
    )
    assert ("304" in operation["responses"]) == (has_etag and method == "get")


NOT_CHECKED = [
    "ignored_auth",  # takes the token away, but this test puts it back
    "missing_required_header",
    "positive_data_acceptance",  # a title of white space fits the schema: JSON Schema cannot say what a blank is
]


@pytest.fixture(scope="module")
def fuzzer(server: Running) -> Person:
    return Person(server.url, "fuzzer")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_whatever_is_sent_the_answer_is_a_documented_one(method: str, path: str, fuzzer: Person) -> None:
    # Imported here: it takes seconds, which otherwise every worker would pay.
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    checks = [check for check in CHECKS.get_all() if check.__name__ not in NOT_CHECKED]
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]
    fits, does_not = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE

    def probe(case: Any) -> None:
        if "user_id" in case.path_parameters:
            case.path_parameters["user_id"] = fuzzer.id
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {fuzzer.token}"}
        response = case.call(base_url=str(fuzzer.client.base_url))
        assert response.status_code < 500
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
