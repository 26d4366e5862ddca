"""What is stored, as outcomes; what was asked for last need not be read again."""

import sys
from collections.abc import Sequence

from cache import Completion, CompletionStore
from teacher_service.outcomes import Ask, Outcome, hit
from teacher_service.payloads import json_bytes
from teacher_service.recent import Recent

_RECENT_BYTES = 64 * 2**20
_OBJECTS_BYTES = 1024
"""An outcome with all that hangs on it, without its text."""


class Hits:
    """Looks up what a teacher has answered before.

    Args:
        store: Where the answers are.
        only_writer: Nobody else writes the store while it is open. The first completion that is
            committed for a key is its answer for good, and only a command that takes the writer's
            lock removes or promotes one: so it may be kept in memory. A refusal may not, because a
            completion wins over it.
    """

    def __init__(self, store: CompletionStore, *, only_writer: bool) -> None:
        self._store = store
        self._recent: Recent[bytes, Outcome] = Recent(_RECENT_BYTES if only_writer else 0)

    def find(self, asks: Sequence[Ask]) -> list[Outcome | None]:
        """What is stored for each: its key's answer, or the very answer that it wants."""
        keys = [ask.fingerprint.key for ask in asks if not ask.content_digest]
        served = self._served(keys)
        if len(keys) == len(asks):
            return [served.get(key) for key in keys]
        wanted = [(ask.fingerprint.key, ask.content_digest) for ask in asks]
        exact = self._store.lookup_exact([(key, digest) for key, digest in wanted if digest])
        hits = {place: hit(entry) for place, entry in exact.items()}
        return [hits.get((key, digest)) if digest else served.get(key) for key, digest in wanted]

    def _served(self, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        found = {key: known for key in keys if (known := self._recent.get(key))}
        missing = keys if not found else [key for key in keys if key not in found]
        for key, entry in self._store.lookup(missing).items():
            found[key] = hit(entry)
            if isinstance(entry.answer, Completion):
                self._recent.put(key, found[key], _size_of(entry.answer))
        return found


def _size_of(answer: Completion) -> int:
    extra = 0 if answer.extra is None else 4 * len(json_bytes(answer.extra))
    return _OBJECTS_BYTES + sys.getsizeof(answer.text) + extra
