"""How much was asked in the last minutes: the counters, noted every few seconds."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from teacher_service.outcomes import Counters

EVERY_S = 5.0
KEPT = 120
"""Ten minutes."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What was asked in one stretch of time, a second on average."""

    hits: float = 0.0
    misses: float = 0.0
    collapsed: float = 0.0

    @property
    def total(self) -> float:
        """All completions asked for, however they were served."""
        return self.hits + self.misses + self.collapsed


@dataclass(frozen=True, slots=True)
class _Note:
    at: float
    hits: int
    misses: int
    collapsed: int


class Rates:
    """The rates of one teacher.

    Args:
        counters: The teacher's.
        clock: Seconds that never go back.
    """

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._notes: deque[_Note] = deque([self._now()], maxlen=KEPT + 1)

    async def keep(self) -> None:
        """Note the counters for ever; for a task."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.note()

    def note(self) -> None:
        """Note the counters as they are now."""
        self._notes.append(self._now())

    def latest(self, seconds: float = 60.0) -> Rate:
        """The last minute's, or as much of it as there was."""
        now = self._now()
        since = next(note for note in (*self._notes, now) if note.at >= now.at - seconds)
        return _rate(since, now)

    def series(self) -> Sequence[Rate]:
        """One after another, the latest last."""
        return [_rate(*pair) for pair in pairwise(self._notes)]

    def _now(self) -> _Note:
        counts = self._counters
        return _Note(self._clock(), counts.hits, counts.misses, counts.collapsed)


def _rate(before: _Note, after: _Note) -> Rate:
    """A miss that turned out to be a hit is taken back from the misses: never below nought."""
    seconds = after.at - before.at
    if seconds <= 0:
        return Rate()
    return Rate(
        max(0, after.hits - before.hits) / seconds,
        max(0, after.misses - before.misses) / seconds,
        max(0, after.collapsed - before.collapsed) / seconds,
    )
