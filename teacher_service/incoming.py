"""What the routes read of a request."""

import asyncio

from fastapi import Request

from teacher_service.cache_control import CacheControl, parse_cache_control, under_ceiling
from teacher_service.errors import BadRequest, BodyTooLarge, UnknownModel
from teacher_service.header_fields import headers_of
from teacher_service.service import Teacher
from teacher_service.usage import Caller, parse_caller


def teacher_of(request: Request) -> Teacher:
    """The one that is served."""
    teacher: Teacher = request.app.state.teacher
    return teacher


async def identified(request: Request) -> Teacher:
    """The one that is served, once it is known which teacher it is.

    Raises:
        ServiceError: Its backend has to be asked for that, and cannot be.
    """
    teacher = teacher_of(request)
    await teacher.settle_identity()
    return teacher


def check_model(request: Request, name: str) -> None:
    """Refuse a model that is not served.

    Raises:
        UnknownModel: With the names that are.
    """
    served = request.app.state.settings.served_models
    if name not in served:
        raise UnknownModel(
            f"no model {name!r} here; served are: {', '.join(served)}",
            param="model",
            code="model_not_found",
        )


def control_of(request: Request) -> CacheControl:
    """What the request may do with the cache, under the server's mode."""
    asked = parse_cache_control(headers_of(request.scope).get("cache-control"))
    return under_ceiling(asked, request.app.state.settings.mode)


def caller_of(request: Request) -> Caller:
    """Which run asks, and at which step."""
    headers = headers_of(request.scope)
    return parse_caller(headers.get("x-taco-run"), headers.get("x-taco-step"))


def deadline_of(request: Request) -> float | None:
    """The request's deadline in the event loop's time.

    Raises:
        BadRequest: The header carries no number.
    """
    header = headers_of(request.scope).get("x-deadline-ms")
    if header is None:
        return None
    if not (header.isascii() and header.isdigit()):
        raise BadRequest(f"X-Deadline-Ms takes a number of milliseconds, found {header!r}")
    return asyncio.get_running_loop().time() + int(header) / 1000


async def body_of(request: Request, limit: int | None = None) -> bytes:
    """The whole body, refused as soon as it is known to be too large.

    Args:
        request: Whose it is.
        limit: In bytes; None: the settings'.

    Raises:
        BodyTooLarge: It is over the settings' limit.
    """
    limit = limit or request.app.state.settings.max_body_bytes
    body = bytearray()
    size = int(headers_of(request.scope).get("content-length", 0))
    more = True
    while more and max(size, len(body)) <= limit:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client left before the body was whole")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if max(size, len(body)) > limit:
        raise BodyTooLarge(f"the body is over {limit} bytes (max_body_bytes): split the request")
    return bytes(body)
