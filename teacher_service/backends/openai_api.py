"""Any server that speaks OpenAI's API, reached through the official client."""

import os
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from openai import AsyncOpenAI

from cache import Answer, TeacherIdentity
from teacher_service.backends.base import Finished, UpstreamRequest
from teacher_service.backends.guard import Guard
from teacher_service.backends.openai_wire import OpenAIWire, call_each, client_options
from teacher_service.backends.pace import estimate_tokens
from teacher_service.backends.spending import Spending
from teacher_service.errors import StartError
from teacher_service.identity import hosted_identity
from teacher_service.settings import OpenAISettings, Settings


class OpenAIBackend:
    """One pinned model of one provider.

    Args:
        settings: The `openai` section.
        api_key: The secret; None for a server that wants none.
        guard: Makes the calls.
        max_reply_bytes: Of a reply; one that is larger is an error.
    """

    deterministic = False
    trouble: str | None = None

    def __init__(
        self, settings: OpenAISettings, api_key: str | None, guard: Guard, max_reply_bytes: int
    ) -> None:
        self.identity: TeacherIdentity = hosted_identity(
            settings.provider, settings.model, backend="openai"
        )
        self.guard = guard
        self._limit_field = settings.limit_field
        self._wire = OpenAIWire(
            AsyncOpenAI(
                base_url=str(settings.base_url),
                api_key=api_key or "none",
                organization=settings.organization,
                project=settings.project,
                **client_options(max_reply_bytes),
            ),
            {settings.model, *settings.accepted_models},
            settings.attempt_timeout_s,
            {"engine": "openai"},
        )

    def complete(
        self, requests: Sequence[UpstreamRequest]
    ) -> AsyncGenerator[Sequence[Finished], None]:
        """Send all, as many at one time as allowed."""
        return call_each(requests, self._call)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._wire.close()

    async def _call(self, request: UpstreamRequest) -> Answer:
        tokens = estimate_tokens(request.body)
        sent = replace(request, body=_with_limit(request, self._limit_field))
        return await self.guard.call(lambda: self._wire.attempt(sent), tokens)


def _with_limit(request: UpstreamRequest, field: str) -> dict[str, Any]:
    """The body with a chat's limit under the name that the model knows; its meaning is the same."""
    body = dict(request.body)
    if request.endpoint == "chat/completions":
        for name in {"max_tokens", "max_completion_tokens"} - {field}:
            if (limit := body.pop(name, None)) is not None:
                body.setdefault(field, limit)
    return body


def build(settings: Settings) -> OpenAIBackend:
    """The backend as the settings want it.

    Raises:
        StartError: The variable that should hold the key is not set.
    """
    api_key = key_from_environment("openai", settings.openai.api_key_env)
    guard = Guard(
        settings.upstream,
        Spending(settings.budget, settings.prices),
        settings.openai.max_concurrency,
        settings.openai.total_timeout_s,
    )
    return OpenAIBackend(settings.openai, api_key, guard, settings.upstream.max_reply_bytes)


def key_from_environment(backend: str, variable: str | None) -> str | None:
    """The secret that the variable `api_key_env` of a backend's section holds; None: none wanted.

    Raises:
        StartError: The variable is not set.
    """
    api_key = os.environ.get(variable) if variable else None
    if variable and not api_key:
        raise StartError(
            f"backend {backend}: the environment variable {variable} ({backend}.api_key_env) holds "
            "no key. Set it, name another variable, or null for a server that wants no key"
        )
    return api_key
