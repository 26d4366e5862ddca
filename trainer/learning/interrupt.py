"""Ctrl-C and SIGTERM: the step in hand is finished or dropped, the run is saved, then it stops."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class StopSignal:
    """Turns the first signal into a request, and raises at once only where nothing can be torn.

    Waiting for the teacher is such a place: no weight has changed yet. A second signal always
    raises.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False

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
        if self.requested or self._waiting:
            self.requested = True
            raise KeyboardInterrupt
        self.requested = True
