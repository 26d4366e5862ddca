"""What a request asks of a model that decodes here: sampling fields, read and checked.

A field that would change the answer and is not known is refused, never ignored: the answer would
be filed under a key that promises otherwise.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cache import fingerprint
from teacher_service.backends.base import UpstreamRequest
from teacher_service.errors import UpstreamRejected

_COMPLETION_MAX_TOKENS = 16
"""OpenAI's default on the plain completions route; a chat runs to the end of the context."""

_ANY_TEACHER = "0" * 64

_Stop = Annotated[str, Field(min_length=1)]
_Zero = Annotated[float, Field(ge=0, le=0)]
_One = Annotated[float, Field(ge=1, le=1)]


class _TextFormat(BaseModel):
    type: Literal["text"]


class _Body(BaseModel):
    """Every field that is read; those that can only say "as usual" are listed with that value."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    messages: list[dict[str, Any]] | None = None
    prompt: str | list[int] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: _Stop | list[_Stop] = []
    seed: int | None = None
    chat_template_kwargs: dict[str, Any] = {}
    user: str | None = None
    metadata: dict[str, Any] | None = None
    presence_penalty: _Zero = 0
    frequency_penalty: _Zero = 0
    repetition_penalty: _One = 1
    logprobs: Literal[False] = False
    echo: Literal[False] = False
    response_format: _TextFormat | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next tokens are chosen, and when to stop."""

    temperature: float
    """0 takes the likeliest token."""
    top_p: float
    top_k: int
    """0: all."""
    min_p: float
    max_tokens: int | None
    """None: as many as the context has room for."""
    stop: tuple[str, ...]
    seed: bytes
    """32 bytes, a function of the request alone."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request, read."""

    messages: Sequence[Mapping[str, Any]] | None
    prompt: str | Sequence[int] | None
    """A plain text or its tokens, where there are no messages."""
    template_fields: Mapping[str, Any]
    sampling: Sampling


def read_request(request: UpstreamRequest) -> GenerationRequest:
    """Read one request.

    Raises:
        UpstreamRejected: A field is unknown, or has a value that cannot be honoured here.
    """
    try:
        body = _Body.model_validate(dict(request.body))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = str(fault["loc"][0])
        said = (
            "is not known to the transformers backend, and would be ignored"
            if fault["type"] == "extra_forbidden"
            else fault["msg"]
        )
        raise UpstreamRejected(f"{where}: {said}", param=where) from None
    if (body.messages is None) == (body.prompt is None):
        raise UpstreamRejected("expected either messages or a prompt")
    max_tokens = body.max_completion_tokens or body.max_tokens
    if body.prompt is not None:
        max_tokens = max_tokens or _COMPLETION_MAX_TOKENS
    sampling = Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=max(body.top_k, 0),
        min_p=body.min_p,
        max_tokens=max_tokens,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop),
        seed=request_seed(request),
    )
    return GenerationRequest(body.messages, body.prompt, body.chat_template_kwargs, sampling)


def request_seed(request: UpstreamRequest) -> bytes:
    """32 bytes that depend on what is asked, and on nothing that runs beside or before it."""
    return fingerprint(_ANY_TEACHER, request.body, request.sample_index).key


def uniform(seed: bytes, step: int) -> float:
    """The number in [0, 1) that decides a token: a function of the seed and the token's place."""
    digest = hashlib.sha256(seed + step.to_bytes(8, "big")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
