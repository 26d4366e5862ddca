"""HTTP answers: JSON, and the one shape of every error."""

import math
from collections.abc import Mapping

from fastapi.responses import Response
from starlette.exceptions import HTTPException

from teacher_service.errors import NoSuchRoute, ServiceError, as_service_error
from teacher_service.payloads import Json, error_object, json_bytes

NDJSON = "application/x-ndjson"


def json_reply(body: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(json_bytes(body), status, headers, media_type="application/json")


def error_reply(error: Exception, headers: Mapping[str, str] | None = None) -> Response:
    """OpenAI's error body for any exception, with what an OpenAI client heeds in the headers."""
    if isinstance(error, HTTPException):
        told: ServiceError = NoSuchRoute(str(error.detail), error.status_code)
    else:
        told = as_service_error(error)
    heed = {} if told.worth_retrying else {"x-should-retry": "false"}
    if told.retry_after_s is not None:
        heed["Retry-After"] = str(math.ceil(told.retry_after_s))
    return json_reply({"error": error_object(told)}, told.status, {**(headers or {}), **heed})
