"""How many calls are upstream at one time: more while it goes well, fewer when it does not."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Self

_LESS = 0.7
_SLOW = 4.0
"""Recent calls this much slower than usual mean a queue upstream."""
_ENOUGH = 20
"""Calls before "usual" means anything."""


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (as TCP's congestion control).

    Each call that comes back adds 1/limit, so that a full round adds one. A sign of overload (429,
    503, a time-out, latencies far above the usual) takes 30 %; calls that had begun before the
    last cut take nothing more, for they tell of the same overload.

    Args:
        most: Never above; also the start.
        clock: Seconds that never go back.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = self._limit = float(most)
        self._clock = clock
        self._cut_at = -1.0
        self._seen = 0
        self._usual_s = self._recent_s = 0.0

    @property
    def limit(self) -> int:
        """At least 1."""
        return int(self._limit)

    def came_back(self, started: float) -> None:
        """A call that began at `started`, in the clock's time, did well."""
        latency_s = self._clock() - started
        self._seen += 1
        self._usual_s += (latency_s - self._usual_s) / min(self._seen, 200)
        self._recent_s += (latency_s - self._recent_s) / min(self._seen, 5)
        if self._seen > _ENOUGH and self._recent_s > _SLOW * self._usual_s:
            self.overloaded(started)
        else:
            self._limit = min(self._most, self._limit + 1 / self._limit)

    def overloaded(self, started: float) -> None:
        """A call that began at `started` met an overload."""
        if started <= self._cut_at:
            return
        self._limit = max(1.0, _LESS * self._limit)
        self._cut_at = self._clock()


class Slots:
    """A semaphore whose size is the limit of the moment; first come, first served."""

    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit = limit
        self._taken = 0
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """Calls that have a slot."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Calls that wait for one."""
        return sum(not place.done() for place in self._line)

    async def __aenter__(self) -> Self:
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        self._hand_out()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # It was ours already.
                self._give_back()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    def _give_back(self) -> None:
        self._taken -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._line and self._taken < self._limit.limit:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                self._taken += 1
