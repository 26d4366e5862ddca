"""What clients get: OpenAI's response bodies and events, and the batch route's items."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from cache import Answer, Completion, Refusal
from teacher_service.backends.base import Endpoint
from teacher_service.errors import CacheMiss, ServiceError
from teacher_service.outcomes import Outcome

Json: TypeAlias = dict[str, Any]

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_IDS = {"chat/completions": "chatcmpl", "completions": "cmpl"}
_OBJECTS = {"chat/completions": "chat.completion", "completions": "text_completion"}


def json_bytes(value: object) -> bytes:
    """Compact JSON, plain ASCII, so that whatever a client sent can be quoted back to it."""
    return _ENCODER.encode(value).encode()


def error_object(error: ServiceError) -> Json:
    """OpenAI's error object; that of an explained miss also carries the explanation."""
    body: Json = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
    if isinstance(error, CacheMiss) and error.explanation:
        body["explanation"] = error.explanation
    return body


def model(name: str) -> Json:
    """OpenAI's model object."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "taco"}


def batch_item(index: int, outcome: Outcome) -> Json:
    """One item of the batch route's answer."""
    key = outcome.key.hex()
    result = outcome.result
    if isinstance(result, ServiceError):
        return {"index": index, "outcome": "failed", "error": error_object(result), "key": key}
    item: Json = {"index": index}
    if isinstance(result, Refusal):
        item |= {"outcome": "refused", "reason": result.reason, "message": result.message}
    else:
        item |= {
            "outcome": "completed",
            "text": result.text or "",
            "finish_reason": result.finish_reason,
            "usage": result.usage,
        }
    digest = outcome.content_digest.hex()
    return item | {"key": key, "content_digest": digest, "cache": outcome.served}


def completion(
    endpoint: Endpoint, model_name: str, teacher_digest: str, outcomes: Sequence[Outcome]
) -> Json:
    """OpenAI's (chat) completion object: one choice an outcome, none of which failed."""
    answers = [one.result for one in outcomes if not isinstance(one.result, ServiceError)]
    choice = _chat_choice if endpoint == "chat/completions" else _text_choice
    body = {
        "id": f"{_IDS[endpoint]}-{outcomes[0].key.hex()[:32]}",
        "object": _OBJECTS[endpoint],
        "created": int(outcomes[0].created_at),
        "model": model_name,
        "system_fingerprint": teacher_digest,
        "choices": [choice(index, answer) for index, answer in enumerate(answers)],
    }
    usage = _total_usage(answers)
    return body | {"usage": usage} if usage else body


def events(body: Json, *, include_usage: bool) -> Iterator[bytes]:
    """A finished completion as the server-sent events of a stream."""
    chat = body["object"] == "chat.completion"
    head = {name: value for name, value in body.items() if name not in ("choices", "usage")}
    head |= {"object": "chat.completion.chunk"} if chat else {}
    usage = {"usage": None} if include_usage else {}
    for choice in body["choices"]:
        for part in _chat_parts(choice) if chat else [choice]:
            yield _event({**head, "choices": [part], **usage})
    if include_usage:
        yield _event({**head, "choices": [], "usage": body.get("usage")})
    yield b"data: [DONE]\n\n"


def _event(value: Json) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"


def _chat_parts(choice: Json) -> Iterator[Json]:
    """A choice as two deltas: the message, then the reason for its end."""
    delta = dict(choice["message"])
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
    rest = {name: value for name, value in choice.items() if name != "message"}
    yield {**rest, "delta": delta, "finish_reason": None}
    yield {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}


def _chat_choice(index: int, answer: Answer) -> Json:
    if isinstance(answer, Refusal):
        message = {"role": "assistant", "content": None, "refusal": answer.message}
        reason = _refusal_reason(answer)
        return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}
    extra: Json = dict(answer.extra or {})
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    message |= extra.pop("message", {})
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        **extra,
        "finish_reason": answer.finish_reason,
    }


def _text_choice(index: int, answer: Answer) -> Json:
    if isinstance(answer, Refusal):
        reason = _refusal_reason(answer)
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}
    return {
        "index": index,
        "text": answer.text or "",
        "logprobs": None,
        **(answer.extra or {}),
        "finish_reason": answer.finish_reason,
    }


def _refusal_reason(refusal: Refusal) -> str:
    """OpenAI's finish reason: a model's own refusal is an ordinary stop."""
    return "content_filter" if refusal.reason == "content_filter" else "stop"


def _total_usage(answers: Sequence[Answer]) -> Mapping[str, Any] | None:
    """The sum over choices: each was a request of its own, and read its prompt anew."""
    usages = [answer.usage for answer in answers if isinstance(answer, Completion)]
    if len(usages) == 1 or not all(usages):
        return usages[0] if len(usages) == 1 else None
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: sum(usage.get(name, 0) for usage in usages if usage) for name in names}
