"""What clients send: the envelope is checked here, sampling fields pass through untouched."""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cache import CanonicalError, parse_json
from teacher_service.backends.base import Endpoint
from teacher_service.errors import BadRequest

FormT = TypeVar("FormT", bound=BaseModel)

MAX_CHOICES = 128

ItemT = TypeVar("ItemT")
_Filled = Annotated[list[ItemT], Field(min_length=1)]


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, use_attribute_docstrings=True)

    model: str
    """One of the names under which the teacher is served."""

    def sampling(self) -> dict[str, Any]:
        """Every other field that the client set; a null is OpenAI's way of not setting one."""
        return {
            name: value for name, value in (self.model_extra or {}).items() if value is not None
        }


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    include_usage: bool = False
    """Send a last event with the tokens of all choices."""


class _ChoicesEnvelope(_Envelope):
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = 1
    """How many choices; each has a key of its own."""
    stream: bool | None = False
    """Answer as server-sent events; a hit is replayed as such."""
    stream_options: StreamOptions | None = None
    """How the stream ends."""


class ChatRequest(_ChoicesEnvelope):
    """`POST /v1/chat/completions`."""

    endpoint: ClassVar[Endpoint] = "chat/completions"
    messages: _Filled[dict[str, Any]]
    """The conversation; OpenAI's message objects."""

    def bodies(self) -> list[dict[str, Any]]:
        """The one conversation to complete, with its sampling fields."""
        return [{"messages": self.messages, **self.sampling()}]


class CompletionRequest(_ChoicesEnvelope):
    """`POST /v1/completions`."""

    endpoint: ClassVar[Endpoint] = "completions"
    prompt: str | _Filled[str] | _Filled[int] | _Filled[_Filled[int]]
    """Text or tokens to continue; several prompts give the choices of each in turn."""

    def bodies(self) -> list[dict[str, Any]]:
        """One body a prompt: several texts, or several lists of tokens, are several prompts."""
        several = isinstance(self.prompt, list) and not isinstance(self.prompt[0], int)
        prompts = self.prompt if several else [self.prompt]
        return [{"prompt": prompt, **self.sampling()} for prompt in prompts]


ChoicesRequest: TypeAlias = ChatRequest | CompletionRequest
"""A request for one or more choices."""


class BatchItem(BaseModel):
    """One thing to ask: a text for `{transcript}`, and a question for `{question}`."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    text: str
    """What stands for `{transcript}`."""
    question: str | None = None
    """What stands for `{question}`."""
    content_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """A replay's: serve this very answer, also where it is not the key's; else fail as a miss."""


class BatchRequest(_Envelope):
    """`POST /v1/teacher/completions`."""

    prompt_template: str
    """With `{transcript}` and perhaps `{question}`, each replaced literally."""
    system_message: str | None = None
    """Sent before each prompt; null sends none."""
    items: list[BatchItem]
    """What to ask; the reply has an outcome for each, in this order."""
    n: Literal[1] | None = 1
    """An item has one answer."""
    stream: Literal[False] | None = False
    """`Accept: application/x-ndjson` streams the items instead."""


class LookupRequest(BaseModel):
    """`POST /v1/cache/lookup`: keys, and requests as they would be sent to be completed."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    keys: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = []
    """By their 64 hexadecimal digits."""
    requests: list[ChoicesRequest] = []
    """As they would be sent; a missing one is explained by its nearest neighbour."""


def parse(schema: type[FormT], body: bytes) -> FormT:
    """Read a body.

    Raises:
        BadRequest: It is no JSON, has a key twice or a NaN, or does not fit the schema.
    """
    try:
        return schema.model_validate(parse_json(body))
    except CanonicalError as error:
        raise BadRequest(str(error)) from error
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or None
        raise BadRequest(f"{where or 'the body'}: {fault['msg']}", param=where) from None
