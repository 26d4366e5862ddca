"""Who does not answer is left alone for a while, then asked by one."""

import copy
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from teacher_service.errors import ServiceError

State: TypeAlias = Literal["closed", "open", "half_open"]

LONGEST_REST_S = 300.0
LOOK_S = 0.25
"""How often those that wait look whether the probe has come back."""


class Breaker:
    """A circuit breaker.

    Closed, all may call. `failures` in a row open it, and so does at once what no retry can mend:
    a key that is refused, a quota that is used up. Open, nobody may call for a while, which doubles
    with each probe that fails. Then it is half open: one call is the probe, the others wait for it.

    While it is open for an outage, callers are told how long to wait; while it is open for good
    reason they get that reason.

    Args:
        failures: In a row, over all calls.
        rest_s: How long it stays open the first time.
        clock: Seconds that never go back.
    """

    def __init__(
        self, failures: int, rest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = failures
        self._first_rest_s = self._rest_s = rest_s
        self._clock = clock
        self._failed = 0
        self._until: float | None = None
        self._probing = False
        self._reason: ServiceError | None = None

    @property
    def state(self) -> State:
        """Closed, open, or half open once the rest is over."""
        if self._until is None:
            return "closed"
        return "open" if self._clock() < self._until else "half_open"

    def admit(self) -> float:
        """0 lets the caller call (perhaps as the probe); else the seconds until it may ask again.

        Raises:
            ServiceError: It is open for a reason that waiting does not mend.
        """
        if self._until is None:
            return 0.0
        left = self._until - self._clock()
        if left <= 0 and not self._probing:
            self._probing = True
            return 0.0
        if self._reason:
            raise copy.copy(self._reason)
        return max(left, LOOK_S)

    def succeeded(self) -> None:
        """The upstream did its work, or refused a single request: it is there."""
        self._failed = 0
        self._until = self._reason = None
        self._probing = False
        self._rest_s = self._first_rest_s

    def failed(self) -> None:
        """A call met a fault that may be an outage."""
        self._failed += 1
        if self._probing or (self._until is None and self._failed >= self._most):
            self._open(None)

    def denied(self, reason: ServiceError) -> None:
        """The upstream will not work for us until somebody does something."""
        if self._until is None or self._probing:
            self._open(reason)

    def abandoned(self) -> None:
        """A call was cancelled: nothing is known, and the next one may be the probe."""
        self._probing = False

    def _open(self, reason: ServiceError | None) -> None:
        self._until = self._clock() + self._rest_s
        self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
        self._reason = reason
        self._probing = False
