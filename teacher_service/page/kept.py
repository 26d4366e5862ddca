"""How much the store holds, for a page that must not wait for a count."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache import CacheError, CompletionStore

if TYPE_CHECKING:
    from cache.counting import Count

_log = logging.getLogger(__name__)

_PATIENCE_S = 0.05
_FRESH_S = 2.0
_ANEW_S = 600.0
"""Rows that a command removed meanwhile are noticed by counting all of them again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How much the store holds."""

    entries: int
    alternates: int
    refusals: int
    file_bytes: int


class KeptCounts:
    """The counts of one store; everything but the counting runs on the event loop's thread."""

    def __init__(self, store: CompletionStore) -> None:
        self._store = store
        self._counts: Mapping[str, Count] | None = None
        self._kept: Kept | None = None
        self._counted_at = self._all_counted_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None

    async def read(self) -> Kept | None:
        """What is known of it; None where even the first count takes a while."""
        if self._counting is None and time.monotonic() - self._counted_at > _FRESH_S:
            self._counting = asyncio.create_task(self._count())
        if self._counting:
            await asyncio.wait([self._counting], timeout=_PATIENCE_S)
        return self._kept

    def close(self) -> None:
        """Wait for no count any more."""
        if self._counting:
            self._counting.cancel()

    async def _count(self) -> None:
        now = time.monotonic()
        anew = now - self._all_counted_at > _ANEW_S
        try:
            self._counts = await asyncio.to_thread(self._ask, None if anew else self._counts)
            size = await asyncio.to_thread(self._store.size_bytes)
        except CacheError as error:
            _log.warning("the store's rows cannot be counted: %s", error)
        else:
            rows = {name: count.rows for name, count in self._counts.items()}
            self._kept = Kept(rows["requests"], rows["alternates"], rows["refusals"], size)
            self._all_counted_at = now if anew else self._all_counted_at
        finally:
            self._counted_at = time.monotonic()
            self._counting = None

    def _ask(self, known: "Mapping[str, Count] | None") -> "dict[str, Count]":
        from cache.counting import count_new

        return self._store.query(lambda connection: count_new(connection, known))
