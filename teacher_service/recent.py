"""What was used last, in a bounded amount of memory."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Recent(Generic[KeyT, ValueT]):
    """Values by key; where there is no room left, those go that were not used for longest.

    For one thread, the event loop's.

    Args:
        limit_bytes: For all values together, by the sizes that come with them.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._held: OrderedDict[KeyT, tuple[ValueT, int]] = OrderedDict()

    def get(self, key: KeyT) -> ValueT | None:
        """The value of `key`, which by that was used; None: it is not here, or not any more."""
        held = self._held.get(key)
        if held is None:
            return None
        self._held.move_to_end(key)
        return held[0]

    def put(self, key: KeyT, value: ValueT, size_bytes: int) -> None:
        """Keep a value, in place of the one that its key had; one larger than all room is not."""
        self._held_bytes -= self._held.pop(key, (None, 0))[1]
        if size_bytes > self._limit_bytes:
            return
        self._held[key] = value, size_bytes
        self._held_bytes += size_bytes
        while self._held_bytes > self._limit_bytes:
            _, (_, freed) = self._held.popitem(last=False)
            self._held_bytes -= freed
