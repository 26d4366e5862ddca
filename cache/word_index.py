"""An index of words: what a search by text needs, and no look-up or commit does.

It costs an insert more than the row itself, so it is not kept while entries are written. Who
searches brings it up to date first, and is told how far it goes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from sqlalchemy import Select, select

from cache.models import completions, requests
from cache.words import Search

IndexedRow: TypeAlias = tuple[int, bytes, int, str, int | None, str | None]
"""Number, key, teacher, document, and the answer's number and text where there is one."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far an index goes: entries up to a row number, of all there are."""

    indexed: int
    last: int

    @property
    def is_complete(self) -> bool:
        """Every entry can be found."""
        return self.indexed >= self.last


class WordIndex(Protocol):
    """The index of one store; every method may be called from any thread."""

    def catch_up(self) -> Reach:
        """Add the next entries that it lacks; how far it goes now.

        Raises:
            StoreError: the index cannot be written, or the store not read.
        """

    def find(
        self, search: Search, teachers: Collection[int] | None, before: int | None, limit: int
    ) -> Sequence[int]:
        """The row numbers of the latest entries that fit, descending.

        Some may be gone from the store since.

        Args:
            search: What they have to have.
            teachers: Row numbers of the teachers that count; None: all.
            before: Only entries below this number.
            limit: How many at most.

        Raises:
            SearchTooLong: it does; StoreError: the index cannot be read.
        """

    def close(self) -> None:
        """Let go of it. A second call does nothing."""


def indexed_rows() -> Select[IndexedRow]:
    """What an index takes of each entry."""
    answered = requests.outerjoin(completions)
    return select(
        requests.c.id,
        requests.c.key,
        requests.c.teacher_id,
        requests.c.document,
        completions.c.id.label("answer"),
        completions.c.text,
    ).select_from(answered)
