"""What a store needs of the database under it; SQLite and PostgreSQL each have one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import sqlalchemy

    from cache.postgres.leases import Leases
    from cache.word_index import WordIndex

T = TypeVar("T")


class Cursor(Protocol):
    """What a statement leaves behind."""

    @property
    def rowcount(self) -> int:
        """How many rows were added or changed, by all of an `executemany` together."""

    def fetchone(self) -> Any:
        """The next row, a tuple; None after the last."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """The driver's connection as `cache.rows` uses it; a value's place is `?`."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run a statement once."""

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> Cursor:
        """Run a statement for each row."""


class Database(Protocol):
    """One database, opened for reading, or for reading and writing."""

    @property
    def place(self) -> Path | str:
        """Where it is, for people: never with a password."""

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` where it sees everything that was committed before."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, which is safely on the disk at the return.

        Called by one thread at a time. `work` must be safe to run twice.
        """

    def require_room(self) -> None:
        """Refuse, cheaply, where no more could be written.

        Raises:
            StoreUnwritable: with the cause.
        """

    def snapshot(self) -> AbstractContextManager["sqlalchemy.Connection"]:
        """A connection of its own for reports, all of the store as of one moment."""

    def size_bytes(self) -> int:
        """How much disk it takes."""

    def leases(self, seconds: float) -> "Leases | None":
        """Who may ask upstream for what; None where one process writes the database."""

    def word_index(self) -> "WordIndex":
        """What a search by text asks; not made before it is used."""

    def close(self) -> None:
        """Let go of it. A second call does nothing."""
