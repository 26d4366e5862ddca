"""The routes: read, ask the teacher, write. What they promise is in OpenAI's API reference."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from teacher_service import payloads
from teacher_service.backends.base import Endpoint
from teacher_service.cache_control import (
    CacheControl,
    cache_status,
    parse_cache_control,
    under_ceiling,
)
from teacher_service.errors import BadRequest, BodyTooLarge, ServiceError, UnknownModel
from teacher_service.outcomes import Ask, Outcome, Pending
from teacher_service.payloads import json_bytes
from teacher_service.replies import error_reply, json_reply
from teacher_service.schemas import BatchRequest, ChatRequest, CompletionRequest, parse
from teacher_service.service import Teacher
from teacher_service.templates import PromptTemplate
from teacher_service.usage import Caller, parse_caller


class _Route(APIRoute):
    """A route whose every error becomes OpenAI's error body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                return error_reply(error)

        return answer


router = APIRouter(route_class=_Route)

NDJSON = "application/x-ndjson"


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """A conversation's next message; `n` choices, streamed where wanted."""
    return await _complete(request, ChatRequest, "chat/completions")


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """The continuation of plain prompts."""
    return await _complete(request, CompletionRequest, "completions")


@router.post("/v1/teacher/completions")
async def batch_completions(request: Request) -> Response:
    """Many texts in one template: an outcome for each, in the order of the request."""
    asked = parse(BatchRequest, await _body(request))
    _check_model(request, asked.model)
    teacher = _teacher(request)
    deadline = _deadline(request)
    tickets = teacher.submit(_batch_asks(teacher, asked), _control(request), _caller(request))
    if NDJSON in request.headers.get("accept", ""):
        return StreamingResponse(_lines(teacher, tickets, deadline), media_type=NDJSON)
    outcomes = await teacher.settle(tickets, deadline)
    data = [payloads.batch_item(index, outcome) for index, outcome in enumerate(outcomes)]
    head = {"object": "teacher.completions", "model": asked.model}
    return json_reply(head | {"teacher": teacher.identity.digest, "data": data})


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """The names under which the teacher is served."""
    data = [payloads.model(name) for name in request.app.state.settings.served_models]
    return json_reply({"object": "list", "data": data})


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> Response:
    """One of them."""
    _check_model(request, name)
    return json_reply(payloads.model(name))


@router.get("/v1/cache/stats")
async def cache_stats(request: Request) -> Response:
    """Who the teacher is, what happened since the start, and what the store holds."""
    # Counting millions of rows takes seconds.
    stats = await asyncio.to_thread(_teacher(request).stats)
    return json_reply({"mode": request.app.state.settings.mode, **stats})


@router.get("/livez")
async def livez() -> Response:
    """The process answers; also how a client knows that it is ours."""
    return json_reply(
        {"status": "ok", "service": "taco-teacher", "version": version("taco-rewards")}
    )


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether a request for something new would be accepted."""
    try:
        _teacher(request).check_writable()
    except ServiceError as error:
        return json_reply({"status": "unavailable", "reason": error.message}, status=503)
    return json_reply({"status": "ready"})


async def _complete(
    request: Request, schema: type[ChatRequest | CompletionRequest], endpoint: Endpoint
) -> Response:
    asked = parse(schema, await _body(request))
    _check_model(request, asked.model)
    teacher = _teacher(request)
    deadline = _deadline(request)
    asks = [
        teacher.ask(endpoint, body, sample_index)
        for body in asked.bodies()
        for sample_index in range(asked.n or 1)
    ]
    tickets = teacher.submit(asks, _control(request), _caller(request))
    outcomes = await teacher.settle(tickets, deadline)
    headers = {"Cache-Status": _cache_status(outcomes)}
    for outcome in outcomes:
        if isinstance(outcome.result, ServiceError):
            return error_reply(outcome.result, headers)
    completion = payloads.completion(endpoint, asked.model, teacher.identity.digest, outcomes)
    if not asked.stream:
        return json_reply(completion, headers=headers)
    include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    events = b"".join(payloads.events(completion, include_usage=include_usage))
    return Response(events, media_type="text/event-stream", headers=headers)


def _batch_asks(teacher: Teacher, asked: BatchRequest) -> list[Ask]:
    template = PromptTemplate(asked.prompt_template)
    sampling = asked.sampling()
    system = [{"role": "system", "content": asked.system_message}] * (
        asked.system_message is not None
    )
    asks = []
    for item in asked.items:
        user = {"role": "user", "content": template.render(item.text, item.question)}
        body = {**sampling, "messages": [*system, user]}
        asks.append(teacher.ask("chat/completions", body, compressed_text=item.text))
    return asks


async def _lines(
    teacher: Teacher, tickets: Sequence[Outcome | Pending], deadline: float | None
) -> AsyncIterator[bytes]:
    """Each item as soon as it and all before it are there, then the count."""
    for index, ticket in enumerate(tickets):
        [outcome] = await teacher.settle([ticket], deadline)
        yield json_bytes(payloads.batch_item(index, outcome)) + b"\n"
    yield json_bytes({"object": "teacher.completions.end", "count": len(tickets)}) + b"\n"


def _teacher(request: Request) -> Teacher:
    teacher: Teacher = request.app.state.teacher
    return teacher


def _check_model(request: Request, name: str) -> None:
    served = request.app.state.settings.served_models
    if name not in served:
        raise UnknownModel(
            f"no model {name!r} here; served are: {', '.join(served)}",
            param="model",
            code="model_not_found",
        )


def _control(request: Request) -> CacheControl:
    asked = parse_cache_control(request.headers.get("cache-control"))
    return under_ceiling(asked, request.app.state.settings.mode)


def _caller(request: Request) -> Caller:
    headers = request.headers
    return parse_caller(headers.get("x-taco-run"), headers.get("x-taco-step"))


def _deadline(request: Request) -> float | None:
    """The request's deadline in the event loop's time."""
    header = request.headers.get("x-deadline-ms")
    if header is None:
        return None
    if not (header.isascii() and header.isdigit()):
        raise BadRequest(f"X-Deadline-Ms takes a number of milliseconds, found {header!r}")
    return asyncio.get_running_loop().time() + int(header) / 1000


async def _body(request: Request) -> bytes:
    """The whole body, refused as soon as it is known to be too large."""
    limit: int = request.app.state.settings.max_body_bytes
    body = bytearray()
    size = int(request.headers.get("content-length", 0))
    try:
        if size <= limit:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    break
    except ClientDisconnect as error:
        raise BadRequest("the client left before the body was whole") from error
    if max(size, len(body)) > limit:
        raise BodyTooLarge(f"the body is over {limit} bytes (max_body_bytes): split the request")
    return bytes(body)


def _cache_status(outcomes: Sequence[Outcome]) -> str:
    """One header for all choices: that of the first one that was no hit."""
    shown = next((one for one in outcomes if one.forward), outcomes[0])
    return cache_status(
        shown.key, shown.forward, stored=shown.stored, collapsed=shown.served == "collapsed"
    )
