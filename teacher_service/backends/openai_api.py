"""Any server that speaks OpenAI's API, reached through the official client."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Sequence

import openai
from openai import AsyncOpenAI

from cache import Answer, TeacherIdentity
from teacher_service.backends.base import Finished, UpstreamRequest
from teacher_service.backends.guard import Guard
from teacher_service.backends.openai_errors import refusal_of, translate
from teacher_service.backends.openai_replies import read_reply
from teacher_service.backends.pace import estimate_tokens
from teacher_service.backends.spending import Spending
from teacher_service.errors import ServiceError, StartError
from teacher_service.identity import hosted_identity
from teacher_service.settings import OpenAISettings, Settings


class OpenAIBackend:
    """One pinned model of one provider.

    Args:
        settings: The `openai` section.
        api_key: The secret; None for a server that wants none.
        guard: Makes the calls.
    """

    def __init__(self, settings: OpenAISettings, api_key: str | None, guard: Guard) -> None:
        self.identity: TeacherIdentity = hosted_identity(
            settings.provider, settings.model, backend="openai"
        )
        self._accepted = {settings.model, *settings.accepted_models}
        self._attempt_timeout_s = settings.attempt_timeout_s
        self.guard = guard
        self._client = AsyncOpenAI(
            base_url=str(settings.base_url),
            api_key=api_key or "none",
            max_retries=0,  # Retries are made in one place, and it is not the client.
            timeout=None,  # An attempt's time is limited as a whole, not read by read.
        )

    async def complete(
        self, requests: Sequence[UpstreamRequest]
    ) -> AsyncGenerator[Sequence[Finished], None]:
        """Send all, as many at one time as allowed; a group is what has arrived since the last."""
        waiting = {
            asyncio.create_task(self._finish(position, request))
            for position, request in enumerate(requests)
        }
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                yield [task.result() for task in done]
        finally:
            for task in waiting:
                task.cancel()

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def _finish(self, position: int, request: UpstreamRequest) -> Finished:
        tokens = estimate_tokens(request.body)
        try:
            return position, await self.guard.call(lambda: self._attempt(request), tokens)
        except ServiceError as error:
            return position, error

    async def _attempt(self, request: UpstreamRequest) -> Answer:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._attempt_timeout_s):
                reply = await self._client.post(
                    f"/{request.endpoint}", body=dict(request.body), cast_to=bytes
                )
        except (openai.APIError, TimeoutError) as error:
            latency_ms = (time.monotonic() - started) * 1000
            if refusal := refusal_of(error, latency_ms):
                return refusal
            raise translate(error) from error
        latency_ms = (time.monotonic() - started) * 1000
        return read_reply(request.endpoint, reply, self._accepted, latency_ms)


def build(settings: Settings) -> OpenAIBackend:
    """The backend as the settings want it.

    Raises:
        StartError: The variable that should hold the key is not set.
    """
    variable = settings.openai.api_key_env
    api_key = os.environ.get(variable) if variable else None
    if variable and not api_key:
        raise StartError(
            f"backend openai: the environment variable {variable} (openai.api_key_env) holds no "
            "key. Set it, name another variable, or null for a server that wants no key"
        )
    guard = Guard(
        settings.upstream,
        Spending(settings.budget, settings.prices),
        settings.openai.max_concurrency,
        settings.openai.total_timeout_s,
    )
    return OpenAIBackend(settings.openai, api_key, guard)
