"""The routes: read, ask the teacher, write. What they promise is in OpenAI's API reference."""

from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from teacher_service import payloads
from teacher_service.cache_control import cache_status
from teacher_service.errors import ServiceError
from teacher_service.header_fields import headers_of
from teacher_service.incoming import (
    body_of,
    caller_of,
    check_model,
    control_of,
    deadline_of,
    identified,
    teacher_of,
)
from teacher_service.metrics import CONTENT_TYPE
from teacher_service.outcomes import Ask, Outcome, Pending
from teacher_service.payloads import json_bytes
from teacher_service.replies import NDJSON, error_reply, json_reply
from teacher_service.routing import ErrorRoute
from teacher_service.schemas import (
    BatchRequest,
    ChatRequest,
    ChoicesRequest,
    CompletionRequest,
    parse,
)
from teacher_service.service import Teacher
from teacher_service.templates import PromptTemplate

router = APIRouter(route_class=ErrorRoute)

_VERSION = version("taco-rewards")


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """A conversation's next message; `n` choices, streamed where wanted."""
    return await _complete(request, ChatRequest)


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """The continuation of plain prompts."""
    return await _complete(request, CompletionRequest)


@router.post("/v1/teacher/completions")
async def batch_completions(request: Request) -> Response:
    """Many texts in one template: an outcome for each, in the order of the request."""
    asked = parse(BatchRequest, await body_of(request))
    check_model(request, asked.model)
    teacher = await identified(request)
    deadline = deadline_of(request)
    tickets = teacher.submit(batch_asks(teacher, asked), control_of(request), caller_of(request))
    if NDJSON in headers_of(request.scope).get("accept", ""):
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
    check_model(request, name)
    return json_reply(payloads.model(name))


@router.get("/livez")
async def livez() -> Response:
    """The process answers; also how a client knows that it is ours."""
    return json_reply({"status": "ok", "service": "taco-teacher", "version": _VERSION})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether a request for something new would be accepted."""
    teacher = teacher_of(request)
    trouble = teacher.trouble
    try:
        teacher.check_writable()
    except ServiceError as error:
        trouble = error.message
    if trouble:
        return json_reply({"status": "unavailable", "reason": trouble}, status=503)
    return json_reply({"status": "ready"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(teacher_of(request).metrics.text(), media_type=CONTENT_TYPE)


def choice_asks(teacher: Teacher, asked: ChoicesRequest) -> list[Ask]:
    """One ask for each choice of each prompt."""
    return [
        teacher.ask(asked.endpoint, body, sample_index)
        for body in asked.bodies()
        for sample_index in range(asked.n or 1)
    ]


def batch_asks(teacher: Teacher, asked: BatchRequest) -> list[Ask]:
    """One ask for each item of a batch."""
    template = PromptTemplate(asked.prompt_template)
    sampling = asked.sampling()
    system = [{"role": "system", "content": asked.system_message}] * (
        asked.system_message is not None
    )
    asks = []
    for item in asked.items:
        user = {"role": "user", "content": template.render(item.text, item.question)}
        body = {**sampling, "messages": [*system, user]}
        wanted = bytes.fromhex(item.content_digest) if item.content_digest else None
        asks.append(
            teacher.ask("chat/completions", body, compressed_text=item.text, content_digest=wanted)
        )
    return asks


async def _complete(request: Request, schema: type[ChoicesRequest]) -> Response:
    asked = parse(schema, await body_of(request))
    check_model(request, asked.model)
    teacher = await identified(request)
    deadline = deadline_of(request)
    tickets = teacher.submit(choice_asks(teacher, asked), control_of(request), caller_of(request))
    outcomes = await teacher.settle(tickets, deadline)
    headers = {"Cache-Status": _cache_status(outcomes)}
    for outcome in outcomes:
        if isinstance(outcome.result, ServiceError):
            return error_reply(outcome.result, headers)
    completion = payloads.completion(asked.endpoint, asked.model, teacher.identity.digest, outcomes)
    if not asked.stream:
        return json_reply(completion, headers=headers)
    include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    events = b"".join(payloads.events(completion, include_usage=include_usage))
    return Response(events, media_type="text/event-stream", headers=headers)


async def _lines(
    teacher: Teacher, tickets: Sequence[Outcome | Pending], deadline: float | None
) -> AsyncIterator[bytes]:
    """Each item as soon as it and all before it are there, then the count."""
    for index, ticket in enumerate(tickets):
        [outcome] = await teacher.settle([ticket], deadline)
        yield json_bytes(payloads.batch_item(index, outcome)) + b"\n"
    yield json_bytes({"object": "teacher.completions.end", "count": len(tickets)}) + b"\n"


def _cache_status(outcomes: Sequence[Outcome]) -> str:
    """One header for all choices: that of the first one that was no hit."""
    shown = next((one for one in outcomes if one.forward), outcomes[0])
    return cache_status(
        shown.key, shown.forward, stored=shown.stored, collapsed=shown.served == "collapsed"
    )
