"""OpenAI's API on the wire, for every backend that speaks it: one attempt, and a batch of calls."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence, Set
from typing import Any

import openai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from cache import Answer
from teacher_service.backends.base import Finished, UpstreamRequest
from teacher_service.backends.openai_errors import refusal_of, translate
from teacher_service.backends.openai_replies import read_reply
from teacher_service.backends.reply_limit import ReplyLimit
from teacher_service.errors import ServiceError


def client_options(max_reply_bytes: int) -> Mapping[str, Any]:
    """How each official client is made."""
    limit = ReplyLimit(max_reply_bytes)
    return {
        "max_retries": 0,  # Retries are made in one place, and it is not the client.
        "timeout": None,  # An attempt's time is limited as a whole, not read by read.
        "default_headers": ReplyLimit.HEADERS,
        "http_client": DefaultAsyncHttpxClient(event_hooks={"response": [limit]}),
    }


class OpenAIWire:
    """One server, reached through an official client.

    Args:
        client: Made with `client_options`; closed with the wire.
        accepted_models: The names by which a reply may call the model.
        attempt_timeout_s: For one attempt as a whole.
        provenance: What is noted beside each answer, besides what the reply says.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        accepted_models: Set[str],
        attempt_timeout_s: float,
        provenance: Mapping[str, Any],
    ) -> None:
        self._client = client
        self._accepted = accepted_models
        self._attempt_timeout_s = attempt_timeout_s
        self._provenance = provenance

    async def attempt(self, request: UpstreamRequest) -> Answer:
        """Ask once.

        Raises:
            Retryable: Time may mend it.
            ServiceError: It is final.
        """
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
        return read_reply(request.endpoint, reply, self._accepted, self._provenance, latency_ms)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()


async def call_each(
    requests: Sequence[UpstreamRequest], call: Callable[[UpstreamRequest], Awaitable[Answer]]
) -> AsyncGenerator[Sequence[Finished], None]:
    """Make all calls side by side; a group is what has arrived since the last.

    Args:
        requests: The batch.
        call: Limits how many are made at one time; what it raises is that request's outcome.
    """

    async def finish(position: int, request: UpstreamRequest) -> Finished:
        try:
            return position, await call(request)
        except ServiceError as error:
            return position, error

    waiting = {
        asyncio.create_task(finish(position, request)) for position, request in enumerate(requests)
    }
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            yield [task.result() for task in done]
    finally:
        for task in waiting:
            task.cancel()
