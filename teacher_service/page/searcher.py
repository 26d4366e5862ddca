"""Searches by text, over an index that the first one begins to make and each brings up to date."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache import CacheError, CompletionStore

if TYPE_CHECKING:
    from cache.word_index import Reach, WordIndex

_log = logging.getLogger(__name__)

_PATIENCE_S = 0.3
_FRESH_S = 1.0
_REST_S = 0.02
"""Between two turns of a long indexing: completions come first."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What a search covers."""

    share: float  # Of the entries that there are; 1: all of them.
    trouble: str | None  # Why it does not get further.


class Searcher:
    """The word index of one store; all but the indexing runs on the event loop's thread."""

    def __init__(self, store: CompletionStore) -> None:
        self._store = store
        self._index: WordIndex | None = None
        self._extent = Extent(0.0, None)
        self._indexed_at = float("-inf")
        self._indexing: asyncio.Task[None] | None = None

    @property
    def index(self) -> "WordIndex":
        """What is searched."""
        if self._index is None:
            self._index = self._store.word_index()
        return self._index

    @property
    def extent(self) -> Extent:
        """How far it goes by now."""
        return self._extent

    @property
    def is_behind(self) -> bool:
        """There may be entries that a search would not find."""
        return self._indexing is not None or self._extent.share < 1

    async def catch_up(self, patience_s: float = _PATIENCE_S) -> None:
        """Let the index be brought up to date, and wait for that a moment; the rest goes on."""
        if self._indexing is None and time.monotonic() - self._indexed_at > _FRESH_S:
            self._indexing = asyncio.create_task(self._catch_up(self.index))
        if self._indexing:
            await asyncio.wait([self._indexing], timeout=patience_s)

    async def close(self) -> None:
        """Stop indexing."""
        if self._indexing:
            self._indexing.cancel()
            await asyncio.wait([self._indexing])

    async def _catch_up(self, index: "WordIndex") -> None:
        try:
            while not await self._step(index):
                await asyncio.sleep(_REST_S)
        except CacheError as error:
            _log.warning("the index for searches stands still: %s", error)
            self._extent = Extent(self._extent.share, str(error))
        finally:
            self._indexed_at = time.monotonic()
            self._indexing = None

    async def _step(self, index: "WordIndex") -> bool:
        """Whether everything is indexed now."""
        # Not given up half-way: the store must not be closed under it.
        step = asyncio.ensure_future(asyncio.to_thread(index.catch_up))
        try:
            reach = await asyncio.shield(step)
        except asyncio.CancelledError:
            await asyncio.wait([step])
            raise
        self._extent = _extent_of(reach)
        return reach.is_complete


def _extent_of(reach: "Reach") -> Extent:
    return Extent(1.0 if reach.is_complete else reach.indexed / reach.last, None)
