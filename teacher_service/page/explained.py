"""Why a request missed, asked by a person who pastes it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request

from cache import CompletionStore, parse_json
from teacher_service.errors import BadRequest
from teacher_service.incoming import check_model, identified
from teacher_service.misses import reasons_for
from teacher_service.outcomes import Ask
from teacher_service.routes import batch_asks, choice_asks
from teacher_service.schemas import (
    BatchRequest,
    ChatRequest,
    ChoicesRequest,
    CompletionRequest,
    parse,
)
from teacher_service.service import Teacher

if TYPE_CHECKING:
    from cache.explaining import Explanation

_LISTED = 100


@dataclass(frozen=True, slots=True)
class Explained:
    """One completion that the request asks for."""

    key: str
    stored: bool
    explanation: "Explanation | None"  # Of a miss; None: the store is empty, or it was not looked.
    looked: bool


async def explained(request: Request, pasted: str) -> Sequence[Explained]:
    """What is stored of a request, and why the rest is not.

    Args:
        request: The person's.
        pasted: The body of a request to one of the three routes that complete.

    Raises:
        ServiceError: It is none, or names a model that is not served.
    """
    teacher = await identified(request)
    asks = _asks(request, teacher, pasted.encode())[:_LISTED]
    return await asyncio.to_thread(_explain, teacher.store, asks)


def _asks(request: Request, teacher: Teacher, body: bytes) -> Sequence[Ask]:
    """As the route that takes such a body would ask."""
    if not body.strip():
        raise BadRequest("paste the JSON body of a request")
    fields = parse_json(body)
    fields = fields if isinstance(fields, dict) else {}
    if "items" in fields:
        batch = parse(BatchRequest, body)
        check_model(request, batch.model)
        return batch_asks(teacher, batch)
    if not {"messages", "prompt"} & fields.keys():
        raise BadRequest(
            "expected the body of /v1/chat/completions (with `messages`), /v1/completions (with "
            "`prompt`) or /v1/teacher/completions (with `items`)"
        )
    schema: type[ChoicesRequest] = ChatRequest if "messages" in fields else CompletionRequest
    asked = parse(schema, body)
    check_model(request, asked.model)
    return choice_asks(teacher, asked)


def _explain(store: CompletionStore, asks: Sequence[Ask]) -> Sequence[Explained]:
    stored = store.lookup([ask.fingerprint.key for ask in asks])
    reasons = reasons_for(store, [ask for ask in asks if ask.fingerprint.key not in stored])
    return [
        Explained(key.hex(), key in stored, reasons.get(key), key in reasons)
        for key in (ask.fingerprint.key for ask in asks)
    ]
