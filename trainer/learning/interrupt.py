"""Ctrl-C and SIGTERM: the step in hand is finished or dropped, the run is saved, then it stops."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

ECHO_S = 1.0
"""A second signal within this time is the first one, passed on."""


class StopSignal:
    """Turns the first signal into a request, and raises at once only where nothing can be torn.

    Waiting for the teacher is such a place: no weight has changed yet. A second signal raises
    anywhere, for somebody in a hurry; but not at once, because torchrun passes on to its processes
    the Ctrl-C that the terminal has sent them already.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False
        self._echo_until = math.inf

    def __enter__(self) -> "StopSignal":
        self._previous = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within this block a signal raises KeyboardInterrupt at once."""
        if self.requested:
            raise KeyboardInterrupt
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        impatient = now > self._echo_until
        self._echo_until = min(self._echo_until, now + ECHO_S)
        self.requested = True
        if impatient or self._waiting:
            raise KeyboardInterrupt
