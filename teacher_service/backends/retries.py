"""When a call upstream is made again, and how long is waited before."""

import random
from collections.abc import Callable

from teacher_service.errors import ServiceError

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Retryable(Exception):
    """An attempt failed in a way that time may mend.

    Args:
        error: What the client is told if it does not.
        retry_after_s: The least to wait, as the upstream said.
        overload: The upstream has too much to do: fewer calls at one time would help.
    """

    def __init__(
        self, error: ServiceError, retry_after_s: float = 0.0, *, overload: bool = False
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.retry_after_s = retry_after_s
        self.overload = overload


def pause_s(number: int, retry_after_s: float, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait after attempt `number`, the first being 0.

    Grows with full jitter (AWS, "Exponential Backoff And Jitter"), never below what the upstream
    asked for.

    Args:
        number: Of the attempt that failed.
        retry_after_s: The upstream's own wish; 0 for none.
        draw: Uniform in [0, 1).
    """
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(number, 30))
    return max(retry_after_s, draw() * longest)


class RetryBudget:
    """Retries as a share of calls: an upstream that fails everything is not asked twice as much.

    Args:
        share: What each call adds; a retry takes one.
        reserve: What is there at the start, and the most that is saved up.
    """

    def __init__(self, share: float, reserve: int) -> None:
        self._share = share
        self._reserve = self._left = float(reserve)

    def add_call(self) -> None:
        """A new call is made, no retry."""
        self._left = min(self._reserve, self._left + self._share)

    def take_retry(self) -> bool:
        """Whether there is one left; it is gone then."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
