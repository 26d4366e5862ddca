"""The one layer between a backend and its upstream: every call passes here, and only here again.

In order: a free slot (concurrency), the breaker, the budget, the pace; then the attempt, and where
it failed in a way that time may mend, a pause and another one, within the call's total time.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from cache import Answer, Completion
from teacher_service.backends.breaker import LOOK_S, Breaker
from teacher_service.backends.concurrency import AdaptiveLimit, Slots
from teacher_service.backends.pace import Pace
from teacher_service.backends.retries import Retryable, RetryBudget, pause_s
from teacher_service.backends.spending import Spending
from teacher_service.errors import (
    QuotaExhausted,
    ServiceError,
    UpstreamAway,
    UpstreamBusy,
    UpstreamDenied,
)
from teacher_service.settings import UpstreamSettings


class Guard:
    """Makes a backend's calls: never too many, never in vain, never for ever.

    Args:
        settings: The `upstream` section.
        spending: The budget, shared by all upstreams of one service.
        max_concurrency: Calls at one time at most.
        total_timeout_s: For one call, from its turn on: attempts and pauses together. Waiting for
            a slot and for our own pace does not count.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        spending: Spending,
        max_concurrency: int,
        total_timeout_s: float,
    ) -> None:
        self.spending = spending
        self._total_s = total_timeout_s
        self.limit = AdaptiveLimit(max_concurrency)
        self.slots = Slots(self.limit)
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_rest_s)
        self.retries: Counter[str] = Counter()
        """Attempts made again, by the type of the error before."""
        self._pace = Pace(settings.requests_per_minute, settings.tokens_per_minute)
        self._retry_budget = RetryBudget(settings.retry_share, settings.retry_reserve)

    async def call(self, attempt: Callable[[], Awaitable[Answer]], tokens: int) -> Answer:
        """Attempt until it works, fails for good, or the next attempt would start too late.

        Args:
            attempt: Raises `Retryable` where another try makes sense; anything else passes.
            tokens: What the call may take, for the pace.

        Raises:
            ServiceError: The last attempt's, or why there was none.
        """
        async with self.slots:
            self._retry_budget.add_call()
            give_up = time.monotonic() + self._total_s
            for number in itertools.count():
                give_up += await self._wait_for_leave(tokens, give_up)
                try:
                    return await self._attempt(attempt, tokens)
                except Retryable as failure:
                    pause = pause_s(number, failure.retry_after_s)
                    if time.monotonic() + pause >= give_up or not self._may_retry(failure):
                        failure.error.retry_after_s = failure.retry_after_s or None
                        raise failure.error from failure
                await asyncio.sleep(pause)
        raise AssertionError  # count() has no end

    async def _wait_for_leave(self, tokens: int, give_up: float) -> float:
        """Wait until a call may be made: the seconds of it that were our own pace."""
        while wait_s := self.breaker.admit():
            if time.monotonic() + wait_s >= give_up:
                raise UpstreamAway(
                    "the upstream failed again and again and is left alone for now",
                    retry_after_s=wait_s,
                )
            await asyncio.sleep(min(wait_s, LOOK_S))
        try:
            self.spending.start_call()
            paced_s = self._pace.reserve(tokens)
            await asyncio.sleep(paced_s)
        except BaseException:
            self.breaker.abandoned()
            raise
        return paced_s

    async def _attempt(self, attempt: Callable[[], Awaitable[Answer]], tokens: int) -> Answer:
        started = time.monotonic()
        try:
            answer = await attempt()
        except Retryable as failure:
            self._note_fault(failure, started)
            raise
        except (QuotaExhausted, UpstreamDenied) as error:
            self.breaker.denied(error)
            raise
        except ServiceError:
            self.breaker.succeeded()
            raise
        except BaseException:
            self.breaker.abandoned()
            raise
        self.breaker.succeeded()
        self.limit.came_back(started)
        self._settle(answer, tokens)
        return answer

    def _note_fault(self, failure: Retryable, started: float) -> None:
        if failure.overload:
            self.limit.overloaded(started)
        if isinstance(failure.error, UpstreamBusy):
            self.breaker.succeeded()  # It is there, it only has a limit.
            self._pace.hold(failure.retry_after_s)
        else:
            self.breaker.failed()

    def _may_retry(self, failure: Retryable) -> bool:
        """A rate limit is waited out whatever the budget: the upstream itself says "later"."""
        allowed = isinstance(failure.error, UpstreamBusy) or self._retry_budget.take_retry()
        self.retries[type(failure.error).__name__] += allowed
        return allowed

    def _settle(self, answer: Answer, tokens: int) -> None:
        usage = answer.usage if isinstance(answer, Completion) else None
        self.spending.pay(usage)
        if usage and isinstance(used := usage.get("total_tokens"), int):
            self._pace.correct(tokens, used)
