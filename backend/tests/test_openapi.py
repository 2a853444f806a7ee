"""The OpenAPI document: committed, stable, and true of what the server does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from main import app
from tests.people import Person

COMMITTED = Path(__file__).resolve().parent.parent / "openapi.json"
DOCUMENT: dict[str, Any] = app.openapi()
schema = schemathesis.openapi.from_dict(DOCUMENT)


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
            behind_a_token = path.startswith("/api")
            assert bool(operation.get("security")) == behind_a_token
            assert ("401" in operation["responses"]) == behind_a_token


def test_no_answer_of_fastapis_own_is_documented() -> None:
    assert "422" not in json.dumps(DOCUMENT)
    assert "HTTPValidationError" not in DOCUMENT["components"]["schemas"]


@pytest.fixture(scope="module")
def fuzzer(server: Any) -> Person:
    return Person(server.url, "fuzzer")


@schema.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_whatever_is_sent_the_answer_is_a_documented_one(case: Any, fuzzer: Person) -> None:
    if "user_id" in case.path_parameters:
        case.path_parameters["user_id"] = fuzzer.id
    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {fuzzer.token}"}
    response = case.call(base_url=str(fuzzer.client.base_url))
    case.validate_response(response)
