"""A reply of OpenAI's API, read into an answer or told why it is none."""

from collections.abc import Mapping, Set
from typing import Any

from cache import Answer, CanonicalError, Completion, Refusal, content_digest, parse_json
from teacher_service.backends.base import Endpoint
from teacher_service.backends.retries import Retryable
from teacher_service.errors import UpstreamError

_PLAIN_CHOICE = {"index", "finish_reason", "message", "text", "content_filter_results"}
"""What is read elsewhere, or (Azure's report on its own filter) is no part of the answer."""
_PLAIN_MESSAGE = {"role", "content", "refusal"}


def read_reply(
    endpoint: Endpoint,
    reply: bytes,
    accepted_models: Set[str],
    provenance: Mapping[str, Any],
    latency_ms: float,
) -> Answer:
    """Read one completion.

    Args:
        endpoint: Which form the reply has.
        reply: Its bytes.
        accepted_models: The names by which it may call the model.
        provenance: To be kept beside the answer, with what the reply says of its origin.
        latency_ms: How long it took.

    Raises:
        Retryable: The reply is cut short or no completion: another attempt may bring a whole one.
        UpstreamError: Another model answered, so the answer does not belong under this key.
    """
    try:
        body: Any = parse_json(reply)
        choice = body["choices"][0]
        named = body["model"]
        usage = body.get("usage")
        answer = _answer(endpoint, choice, usage, {**provenance, **_origin(body)}, latency_ms)
        content_digest(answer)
    except (CanonicalError, KeyError, IndexError, TypeError, AttributeError) as error:
        told = UpstreamError(f"the upstream's reply is no completion: {type(error).__name__}")
        raise Retryable(told) from error
    if named not in accepted_models:
        raise UpstreamError(
            f"the upstream answered as {named!r}, but this teacher is {sorted(accepted_models)}. "
            "Pin that name in the settings (model), or list it under accepted_models if it is the "
            "very same model",
            code="wrong_model",
        )
    return answer


def _answer(
    endpoint: Endpoint,
    choice: Mapping[str, Any],
    usage: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
    latency_ms: float,
) -> Answer:
    message = choice["message"] if endpoint == "chat/completions" else {"content": choice["text"]}
    if choice["finish_reason"] == "content_filter":
        return Refusal("content_filter", message.get("refusal") or "", provenance, latency_ms)
    if message.get("refusal"):
        return Refusal("refusal", message["refusal"], provenance, latency_ms)
    return Completion(
        text=message["content"],
        finish_reason=choice["finish_reason"],
        usage=usage,
        extra=_extra(choice, message),
        provenance=provenance,
        latency_ms=latency_ms,
    )


def _extra(choice: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any] | None:
    """The choice's other fields that are set: tool calls, log-probabilities, reasoning."""
    extra = _others(choice, _PLAIN_CHOICE)
    if in_message := _others(message, _PLAIN_MESSAGE):
        extra["message"] = in_message
    return extra or None


def _others(fields: Mapping[str, Any], plain: Set[str]) -> dict[str, Any]:
    return {
        name: value
        for name, value in fields.items()
        if name not in plain and value is not None and value != []
    }


def _origin(body: Mapping[str, Any]) -> dict[str, Any]:
    """Beside the answer, never in its key: which engine said it made it."""
    return {name: body.get(name) for name in ("model", "system_fingerprint", "id")}
