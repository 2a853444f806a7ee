"""The OpenAPI document: committed, stable, and true of what the server does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from main import app
from tests.people import Person
from tests.servers import Running

COMMITTED = Path(__file__).resolve().parent.parent / "openapi.json"
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "10"))  # of each operation; more for a long look
DOCUMENT: dict[str, Any] = app.openapi()
load_all_checks()
ignored_auth, missing_required_header, positive_data_acceptance = CHECKS.get_by_names(
    ["ignored_auth", "missing_required_header", "positive_data_acceptance"]
)
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


NOT_CHECKED = [
    ignored_auth,  # takes the token away, but this test puts it back
    missing_required_header,
    positive_data_acceptance,  # a title of white space fits the schema: JSON Schema cannot say what a blank is
]


@pytest.fixture(scope="module")
def fuzzer(server: Running) -> Person:
    return Person(server.url, "fuzzer")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_whatever_is_sent_the_answer_is_a_documented_one(case: Any, fuzzer: Person) -> None:
    if "user_id" in case.path_parameters:
        case.path_parameters["user_id"] = fuzzer.id
    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {fuzzer.token}"}
    response = case.call(base_url=str(fuzzer.client.base_url))
    assert response.status_code < 500
    case.validate_response(response, excluded_checks=NOT_CHECKED)
