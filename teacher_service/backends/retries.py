"""The one place where a call upstream is made again."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from teacher_service.errors import ServiceError

ResultT = TypeVar("ResultT")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Retryable(Exception):
    """An attempt failed in a way that time may mend.

    Args:
        error: What the client is told if it does not.
        retry_after_s: The least to wait, as the upstream said.
    """

    def __init__(self, error: ServiceError, retry_after_s: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.retry_after_s = retry_after_s


async def with_retries(attempt: Callable[[], Awaitable[ResultT]], total_s: float) -> ResultT:
    """Attempt until it works, fails for good, or the next attempt would start too late.

    Pauses grow with full jitter (AWS, "Exponential Backoff And Jitter"), never below what the
    upstream asked for.

    Args:
        attempt: Raises `Retryable` where another try makes sense; anything else passes.
        total_s: For all attempts and pauses together.

    Raises:
        ServiceError: The last attempt's.
    """
    give_up = time.monotonic() + total_s
    for number in itertools.count():
        try:
            return await attempt()
        except Retryable as failure:
            longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**number)
            pause_s = max(failure.retry_after_s, random.uniform(0, longest))  # noqa: S311
            if time.monotonic() + pause_s >= give_up:
                failure.error.retry_after_s = failure.retry_after_s or None
                raise failure.error from failure
        await asyncio.sleep(pause_s)
    raise AssertionError  # count() has no end
