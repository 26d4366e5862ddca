"""The OpenAPI document, and what the page of the HTTP API says by it.

The routes read their bodies themselves, because what a client sends has to reach the fingerprint
untouched; so the schemas that they check are put into the document here.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from docs_site.replies import REPLIES, Error
from teacher_service import cache_routes, routes
from teacher_service.errors import ServiceError
from teacher_service.gate import wanted_scopes
from teacher_service.replies import NDJSON
from teacher_service.schemas import BatchRequest, ChatRequest, CompletionRequest, LookupRequest

Json = dict[str, Any]

_BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/teacher/completions": BatchRequest,
    "/v1/cache/lookup": LookupRequest,
}
_REPLY_SCHEMAS: list[type[BaseModel]] = [
    Error,
    *(schema for schema, _ in REPLIES.values() if schema),
]
_REFERENCE = "#/components/schemas/{model}"
_OPEN = {"/livez", "/readyz"}
_HEADERS = {
    "Cache-Control": "`no-cache`: ask anew; `no-store`: keep nothing; `max-age=S`: nothing older; "
    "`only-if-cached`: go nowhere, a miss is 504 (RFC 9111)",
    "X-Deadline-Ms": "after so long the answer is 504, and the work goes on for the next request",
    "X-Taco-Run": "which run asks, for `/v1/runs` and the ledger",
    "X-Taco-Step": "and at which of its steps",
}


def api_document() -> Json:
    """The OpenAPI document, with what the routes read and who may ask them."""
    app = FastAPI(
        title="taco teacher",
        version=version("taco-rewards"),
        summary="An OpenAI-compatible teacher whose every answer is kept.",
    )
    app.router.routes += [*routes.router.routes, *cache_routes.router.routes]
    document = app.openapi()
    for schema in (*_BODIES.values(), *_REPLY_SCHEMAS):
        _add_schema(document, schema)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(path, method.upper(), operation)
    return document


def _add_schema(document: Json, schema: type[BaseModel]) -> None:
    described = schema.model_json_schema(ref_template=_REFERENCE)
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components |= described.pop("$defs", {})
    components[schema.__name__] = described


def _responses(method: str, path: str) -> Json:
    """What may come back; a service that is not ready says so by 503, in the same form."""
    schema, others = REPLIES[method, path]
    content = _json_content(schema) if schema else {}
    success = {"description": "Success", "content": content | {kind: {} for kind in others}}
    refused = {"description": "OpenAI's error object", "content": _json_content(Error)}
    unready = {"503": success} if path == "/readyz" else {}
    return {"200": success, **unready, "default": refused}


def _json_content(schema: type[BaseModel]) -> Json:
    reference = _REFERENCE.format(model=schema.__name__)
    return {"application/json": {"schema": {"$ref": reference}}}


def header_rows() -> Iterator[str]:
    """What a request for completions may bring."""
    yield "| header | meaning |\n|---|---|"
    yield from (f"| `{name}` | {said} |" for name, said in _HEADERS.items())


def error_rows() -> list[str]:
    """Every error that a client is told, by its status."""
    return ["| status | type | when |\n|---|---|---|", *sorted(_error_rows())]


def _complete(path: str, method: str, operation: Json) -> None:
    operation.pop("operationId", None)
    operation["responses"] = _responses(method, path)
    if path not in _OPEN:
        operation["x-scopes"] = sorted({*wanted_scopes(method, path), "admin"}, reverse=True)
    if schema := _BODIES.get(path):
        operation["requestBody"] = {"required": True, "content": _json_content(schema)}
    elif path == "/v1/cache/import":
        operation["requestBody"] = {"required": True, "content": {NDJSON: {}}}
    if schema in (ChatRequest, CompletionRequest, BatchRequest):
        operation.setdefault("parameters", []).extend(
            {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
            for name in _HEADERS
        )


def routes_of(document: Json) -> Iterator[str]:
    """Each route with who may use it and what it takes."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"### `{method.upper()} {path}`\n"
            yield " ".join(operation["description"].split()) + "\n"
            scopes = operation.get("x-scopes")
            yield f"Scope: {' or '.join(scopes)}.\n" if scopes else "Open to everybody.\n"
            body = operation.get("requestBody")
            if body and "application/json" in body["content"]:
                reference = body["content"]["application/json"]["schema"]["$ref"]
                yield from _fields(document, reference.rpartition("/")[2])


def _fields(document: Json, name: str, of: str = "") -> Iterator[str]:
    """A body's fields, then those of the objects within it."""
    schemas = document["components"]["schemas"]
    schema, within = schemas[name], []
    if of:
        yield f"In `{of}`:\n"
    yield "| field | type | | meaning |\n|---|---|---|---|"
    for field, its in schema["properties"].items():
        required = "required" if field in schema.get("required", ()) else ""
        meaning = " ".join(its.get("description", "").split())
        yield f"| `{field}` | {_type(its)} | {required} | {meaning} |"
        within += [(found, field) for found in re.findall(r"schemas/(\w+)", str(its))]
    if schema.get("additionalProperties"):
        yield "| … | any | | passed on to the backend, and part of the key |"
    yield ""
    for inner, field in within:
        if inner not in {each.__name__ for each in _BODIES.values()}:
            yield from _fields(document, inner, field)


def _type(schema: Json) -> str:
    if reference := schema.get("$ref"):
        return f"object ({reference.rpartition('/')[2]})"
    if options := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(map(_type, options)))
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _error_rows() -> Iterator[str]:
    for error in _descendants(ServiceError):
        if error.__name__ != "NoSuchRoute":  # It carries the router's own status.
            said = " ".join((error.__doc__ or "").split())
            yield f"| {error.status} | `{error.type}` | {said.replace('|', '/')} |"


def _descendants(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)
