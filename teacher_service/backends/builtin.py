"""The rule-based teacher: deterministic, nothing to download, scripted to be slow if wanted."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from cache import Answer, Completion, TeacherIdentity
from teacher_service.backends.base import Finished, UpstreamRequest
from teacher_service.backends.builtin_rules import RULES_VERSION, answer
from teacher_service.errors import ServiceError, UpstreamRejected
from teacher_service.identity import builtin_identity
from teacher_service.settings import Settings

_AT_ONCE = 32
"""Completions between two breaths, in which other requests are served."""


class BuiltinBackend:
    """Answers by rules, in process.

    Args:
        latency_ms: How long each completion pretends to take; a batch waits once.
    """

    deterministic = True
    trouble: str | None = None

    def __init__(self, latency_ms: float = 0) -> None:
        self.identity: TeacherIdentity = builtin_identity(RULES_VERSION)
        self._latency_ms = latency_ms

    async def complete(
        self, requests: Sequence[UpstreamRequest]
    ) -> AsyncGenerator[Sequence[Finished], None]:
        """Answer the whole batch as one group: it is done at once, so it is one commit."""
        await asyncio.sleep(self._latency_ms / 1000)
        finished: list[Finished] = []
        for position, request in enumerate(requests):
            finished.append((position, self._answer(request)))
            if position % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        yield finished

    async def close(self) -> None:
        """Nothing to let go of."""

    def _answer(self, request: UpstreamRequest) -> Answer | ServiceError:
        messages = _messages(request.body)
        if messages is None:
            return UpstreamRejected("the built-in teacher reads messages of a role and plain text")
        text = answer(messages)
        return Completion(
            text=text,
            finish_reason="stop",
            usage=_usage(messages, text),
            extra=None,
            provenance={"engine": "taco-builtin", "rules": RULES_VERSION},
            latency_ms=self._latency_ms,
        )


def build(settings: Settings) -> BuiltinBackend:
    """The backend as the settings want it."""
    return BuiltinBackend(settings.builtin.latency_ms)


def _messages(body: Mapping[str, Any]) -> list[dict[str, str]] | None:
    """The body's messages, or its plain prompt as one; None where something is no text."""
    messages = body.get("messages") or [{"role": "user", "content": body.get("prompt")}]
    needed = [message.get(name) for message in messages for name in ("role", "content")]
    return messages if all(isinstance(value, str) for value in needed) else None


def _usage(messages: Sequence[Mapping[str, str]], text: str) -> dict[str, int]:
    """Words, as white space parts them: there is no tokenizer here to count tokens with."""
    prompt = sum(len(message["content"].split()) for message in messages)
    completion = len(text.split())
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
