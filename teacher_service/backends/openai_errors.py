"""What the official client raises, in our words: try again, give up, or a declared refusal."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import openai

from cache import Refusal
from teacher_service.backends.reply_limit import ReplyTooLarge
from teacher_service.backends.retries import Retryable
from teacher_service.errors import (
    QuotaExhausted,
    ServiceError,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamRejected,
)

_RETRYABLE_STATUS = {408, 409}
_OVERLOADED = {503, 529}
_EXHAUSTED = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_REFUSALS = {"content_filter", "content_policy_violation"}


def refusal_of(error: Exception, latency_ms: float) -> Refusal | None:
    """The refusal that the API declares by its error code; never guessed from the text."""
    if not isinstance(error, openai.BadRequestError) or error.code not in _REFUSALS:
        return None
    provenance = {"status": error.status_code, "request_id": error.request_id}
    return Refusal("content_filter", error.message, provenance, latency_ms)


def translate(error: Exception) -> Retryable | ServiceError:
    """Any failure of one attempt, as what to raise for it."""
    match error:
        case openai.APIStatusError(status_code=429):
            return _too_many(error)
        case openai.APIStatusError(status_code=status) if (
            status in _RETRYABLE_STATUS or status >= 500
        ):
            return Retryable(
                UpstreamError(f"the upstream answered {status}"),
                _retry_after_s(error),
                overload=status in _OVERLOADED,
            )
        case openai.APIStatusError():
            return _rejected(error)
        case openai.APIConnectionError(__cause__=ReplyTooLarge() as cause):
            return UpstreamError(str(cause), code="reply_too_large")
        case TimeoutError():
            return Retryable(UpstreamError("the upstream did not answer in time"), overload=True)
        case _:
            return Retryable(UpstreamError(f"the upstream cannot be reached: {error.__cause__!r}"))


def _too_many(error: openai.APIStatusError) -> Retryable | ServiceError:
    if error.code in _EXHAUSTED or error.type == "insufficient_quota":
        return QuotaExhausted(
            "the upstream's account has no quota left: check its plan and billing",
            code="insufficient_quota",
        )
    busy = UpstreamBusy("the upstream's rate limit holds")
    return Retryable(busy, _retry_after_s(error), overload=True)


def _rejected(error: openai.APIStatusError) -> ServiceError:
    status = error.status_code
    if status in (401, 403, 404):
        kind = UpstreamError if status == 404 else UpstreamDenied
        return kind(
            f"the upstream answered {status}: check key, base_url and model in the service's "
            f"settings ({error.code or error.type or 'no code given'})",
            code=f"upstream_{status}",
        )
    rejected = UpstreamRejected(_said(error), param=error.param, code=error.code)
    if error.code == "context_length_exceeded":
        rejected.type = "context_length_exceeded"
    return rejected


def _said(error: openai.APIStatusError) -> str:
    """The upstream's own message, without the client's prefix where the body is well formed."""
    body = error.body
    said = body.get("message") if isinstance(body, Mapping) else None
    return f"the upstream refused the request ({error.status_code}): {said or error.message}"


def _retry_after_s(error: openai.APIStatusError) -> float:
    """Seconds from `retry-after-ms` or `Retry-After` (a number or a date); 0 without either."""
    headers = error.response.headers
    try:
        if "retry-after-ms" in headers:
            return float(headers["retry-after-ms"]) / 1000
        return float(headers.get("retry-after", 0))
    except ValueError:
        return _seconds_until(headers["retry-after"])


def _seconds_until(date: str) -> float:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return 0.0
