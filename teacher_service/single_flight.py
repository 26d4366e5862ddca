"""One call upstream for one key, however many clients wait for it."""

import asyncio
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")


class SingleFlight(Generic[ResultT]):
    """The flights under way, by key.

    A flight is a future that belongs to nobody who waits for it, so that a client that goes away
    takes nothing with it. A landed flight is forgotten: by then its answer is in the store.
    """

    def __init__(self) -> None:
        self._flights: dict[bytes, asyncio.Future[ResultT]] = {}

    def join(self, key: bytes) -> asyncio.Future[ResultT] | None:
        """The flight under way for this key, if there is one."""
        return self._flights.get(key)

    def register(self, key: bytes) -> asyncio.Future[ResultT]:
        """Open a flight: who registers it has to land it."""
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        return flight

    def land(self, key: bytes, result: ResultT) -> None:
        """Hand the result to all who wait."""
        self._flights.pop(key).set_result(result)
