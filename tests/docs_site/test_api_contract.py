"""The service keeps to its OpenAPI document.

Schemathesis asks each route what the document allows, and what it does not.
"""

import json
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from docs_site.http_api import api_document
from tests.teacher_service.conftest import Service, running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Service]:
    """A service that holds something of each kind."""
    store = tmp_path_factory.mktemp("store") / "completions.sqlite"
    with running({"store": store, "canary": "auto"}) as service:
        named = {"X-Taco-Run": "a", "X-Taco-Step": "1"}
        service.batch([{"text": "Anna leads.", "question": "Who leads?"}], headers=named)
        service.http.post("/v1/teachers/canary")
        yield service


def _operations() -> list[schemathesis.APIOperation]:
    """The document's; a model's name is one that is served, or most requests were about nothing."""
    document = api_document()
    for schema in document["components"]["schemas"].values():
        if schema.get("title", "").endswith("Request") and "model" in schema["properties"]:
            schema["properties"]["model"]["enum"] = ["builtin"]
    found = schemathesis.openapi.from_dict(document).get_all_operations()
    return [operation.ok() for operation in found]


@schemathesis.serializer("application/x-ndjson")
def _lines(_, value):
    """An export as schemathesis imagines it: never a sound one."""
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


OPERATIONS = _operations()
CASES = [(each, schemathesis.GenerationMode.POSITIVE) for each in OPERATIONS] + [
    (each, schemathesis.GenerationMode.NEGATIVE)
    for each in OPERATIONS
    if any(body.media_type == "application/json" for body in each.body)
]


@pytest.mark.parametrize(
    ("operation", "mode"), CASES, ids=[f"{each.label}, {mode.value}" for each, mode in CASES]
)
def test_each_route_answers_as_the_document_says(operation, mode, service):
    """Below 500, with a status, a media type and a body that it names."""

    @settings(
        max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        case.call_and_validate(base_url=service.url, checks=CHECKS)

    ask()
