"""The service keeps to its OpenAPI document.

Schemathesis asks each route what the document allows, and what it does not, with every header that
it names, and with a key of each scope or none.
"""

import json
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from docs_site.http_api import api_document
from teacher_service.keys import SCOPES, add_key
from tests.teacher_service.conftest import Service, running

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
LIKELY = {
    "Cache-Control": ["no-cache", "no-store", "only-if-cached", "max-age=0", "max-age=soon"],
    "X-Deadline-Ms": ["0", "60000", "soon"],
    "X-Taco-Run": ["a", "b c", "x" * 201],
    "X-Taco-Step": ["0", "7", "-1"],
}
"""What clients send, and what none should: of any text, hardly one would mean something."""
ASKED_FOR = {"cache_miss", "deadline_exceeded"}
"""The 504s of `only-if-cached` and of a deadline, no fault of the service."""
KEYS = st.sampled_from(["admin"] * 4 + ["use", "read", None])


@pytest.fixture(scope="module")
def locked(tmp_path_factory) -> Iterator[tuple[Service, dict[str, str]]]:
    """A service that holds something of each kind, and the keys that it wants, by their scope."""
    folder = tmp_path_factory.mktemp("service")
    keys = {scope: add_key(folder / "keys.json", scope, [scope]) for scope in SCOPES}
    named = {"Authorization": f"Bearer {keys['admin']}", "X-Taco-Run": "a", "X-Taco-Step": "1"}
    settings = {"store": folder / "completions.sqlite", "keys_file": folder / "keys.json"}
    with running({**settings, "canary": "auto"}) as service:
        service.batch([{"text": "Anna leads.", "question": "Who leads?"}], headers=named)
        service.http.post("/v1/teachers/canary", headers=named)
        yield service, keys


def _operations() -> list[schemathesis.APIOperation]:
    """The document's, with names and headers that mean something: most were about nothing."""
    document = api_document()
    for schema in document["components"]["schemas"].values():
        if schema.get("title", "").endswith("Request") and "model" in schema["properties"]:
            schema["properties"]["model"]["enum"] = ["builtin"]
    for operation in (each for path in document["paths"].values() for each in path.values()):
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "header":
                parameter["schema"] = {"enum": LIKELY[parameter["name"]]}
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
def test_each_route_answers_as_the_document_says(operation, mode, locked):
    """No fault, and a status, a media type and a body that it names, for those whom it names."""
    service, keys = locked
    scopes = operation.definition.raw.get("x-scopes")

    @settings(
        max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode), scope=KEYS)
    def ask(case, scope):
        headers = {"Authorization": f"Bearer {keys[scope]}"} if scope else None
        reply = case.call(base_url=service.url, headers=headers)
        case.validate_response(reply, checks=CHECKS)
        assert reply.status_code < 500 or reply.json()["error"]["type"] in ASKED_FOR
        if scopes:
            refused = 401 if scope is None else 403 if scope not in scopes else None
            assert (reply.status_code if reply.status_code in (401, 403) else None) == refused

    ask()
