"""Whether a store still holds every answer that a run's lock file names."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from cache.key_sets import pages
from cache.maintenance import Progress, no_progress, reading
from cache.models import alternates, completions, refusals
from cache.run_locks import NeededAnswer, needed_answers
from cache.selection import with_keys

_NAMED = 100
"""Missing answers that a report names; it counts them all."""


@dataclass(frozen=True, slots=True)
class MissingAnswer:
    """An answer that a run used and the store does not hold."""

    needed: NeededAnswer  # Where the run used it first, as far as the report names it.
    others: tuple[bytes, ...]  # Content digests of the key's other answers; none: no such key.


@dataclass(frozen=True, slots=True)
class LockReport:
    """What a store holds of what a lock needs."""

    answers: int  # Replies that the lock names, repeats counted.
    missing: int  # How many of them the store does not hold.
    named: tuple[MissingAnswer, ...]  # The first of them, each answer once.


def check_needs(place: Path | str, lock_path: Path, progress: Progress = no_progress) -> LockReport:
    """Look for every answer of the lock file in the store at `place`, by key and content digest.

    An answer counts whether it is served, an alternate, or a refusal. `progress` counts bytes of
    the lock file, whose own hashes are not checked here.

    Raises:
        LockFileError: there is no such lock file, or it is none.
        StoreError: the store cannot be read.
    """
    found = missing = 0
    named: dict[tuple[bytes, bytes], MissingAnswer] = {}
    with reading(place) as connection:
        for page in pages(needed_answers(lock_path, progress)):
            held = _digests_of(connection, [each.key for each in page])
            for each in page:
                others = held.get(each.key, set())
                if each.content_digest in others:
                    found += 1
                    continue
                missing += 1
                if len(named) < _NAMED:
                    gap = MissingAnswer(each, tuple(sorted(others)))
                    named.setdefault((each.key, each.content_digest), gap)
    return LockReport(found + missing, missing, tuple(named.values()))


def _digests_of(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, set[bytes]]:
    """The content digests of every answer to each of `keys`."""
    held: dict[bytes, set[bytes]] = defaultdict(set)
    for table in (completions, alternates, refusals):
        query = select(table.c.key, table.c.content_digest).where(with_keys(table, keys))
        for key, digest in connection.execute(query):
            held[key].add(digest)
    return held
