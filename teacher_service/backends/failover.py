"""Which of several endpoints is asked: the first one that is not resting."""

import time
from collections.abc import Callable


class Failover:
    """Endpoints in their order of preference; one that failed rests, and is then asked again.

    Args:
        count: How many there are.
        rest_s: How long one rests that did not say so itself.
        clock: Seconds that never go back.
    """

    def __init__(
        self, count: int, rest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rest_s = rest_s
        self._clock = clock
        self._until = [float("-inf")] * count

    def order(self) -> list[int]:
        """Whom to ask, one after the other.

        Those that rest are left out; where all of them do, the one that has rested longest is
        asked all the same, because somebody has to be.
        """
        now = self._clock()
        awake = [place for place, until in enumerate(self._until) if until <= now]
        return awake or [min(range(len(self._until)), key=self._until.__getitem__)]

    def failed(self, place: int, retry_after_s: float) -> None:
        """This one rests: as long as it said (0: it did not)."""
        self._until[place] = self._clock() + (retry_after_s or self._rest_s)

    def worked(self, place: int) -> None:
        """This one is well."""
        self._until[place] = float("-inf")
