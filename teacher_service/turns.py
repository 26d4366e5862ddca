"""Whose turn it is to ask upstream, among services that share one store."""

import asyncio
import logging
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from cache import StoreError

if TYPE_CHECKING:
    from cache.postgres.leases import Leases

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.25


class Turns:
    """The leases that this service holds; renewed until they are given back.

    Everything runs on the event loop's thread, but the database is asked from others.
    """

    def __init__(self, leases: "Leases") -> None:
        self._leases = leases
        self._tokens: dict[bytes, int] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, keys: Collection[bytes]) -> set[bytes]:
        """Those of `keys` that it is our turn to ask for: nobody else is asking.

        Raises:
            StoreError: The database does not say.
        """
        taken = await asyncio.to_thread(self._leases.take, keys)
        self._tokens |= taken
        if taken and self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        return set(taken)

    async def give_back(self, keys: Collection[bytes]) -> None:
        """Let others ask for `keys`: their answers are stored, or could not be had."""
        tokens = {self._tokens.pop(key) for key in keys if key in self._tokens}
        try:
            held = await asyncio.to_thread(self._leases.give_back, tokens)
        except StoreError as error:
            _log.warning("%d leases could not be given back and will run out: %s", len(keys), error)
        else:
            self._warn_of(tokens - held)

    async def _renew(self) -> None:
        while self._tokens:
            await asyncio.sleep(self._leases.seconds / 3)
            asked = set(self._tokens.values())
            try:
                held = await asyncio.to_thread(self._leases.renew, asked)
            except StoreError as error:
                _log.warning("leases could not be renewed: %s", error)
            else:
                # What was given back meanwhile is not held either, and not lost.
                lost = (asked - held) & set(self._tokens.values())
                self._warn_of(lost)
                self._tokens = {
                    key: token for key, token in self._tokens.items() if token not in lost
                }
        self._renewing = None

    def _warn_of(self, lost: Collection[int]) -> None:
        if lost:
            _log.warning(
                "%d leases ran out while their answers were being made: this process, or the "
                "database, stood still for more than %g s (lease_s). Another service may have "
                "asked for the same; the answer that was stored first is served",
                len(lost),
                self._leases.seconds,
            )


def pauses() -> Iterator[float]:
    """Seconds to wait between two looks: short at first, so that short calls are soon seen."""
    pause = _FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(1.5 * pause, _LONGEST_PAUSE_S)
