"""A store in one SQLite file: one connection that writes, one that reads."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from cache.database import Connection
from cache.filesystems import refuse_network, require_space
from cache.opening import require_file, take_for_writing
from cache.schema import require_current_schema
from cache.sqlite_file import connect_reader, connect_writer, wal_bytes
from cache.translation import translated

if TYPE_CHECKING:
    import sqlalchemy

    from cache.word_index import WordIndex

T = TypeVar("T")

# Below this much room no new answers are bought, so that those under way still find a place.
_RESERVE_BYTES = 8 << 20


class SqliteDatabase:
    """The file at `place`."""

    def __init__(
        self,
        place: Path,
        reader: sqlite3.Connection,
        writer: sqlite3.Connection | None,
        resources: ExitStack,
    ) -> None:
        self.place = place
        self._reader = reader
        self._reading = threading.Lock()
        self._writer = writer
        self._resources = resources

    @classmethod
    def open(cls, path: Path, *, read_only: bool) -> Self:
        """Open the file; for writing, create or migrate it and hold the writer's lock.

        Raises:
            StoreError: see the tree in `cache.errors`; nothing was changed.
        """
        path = path.expanduser().absolute()
        with translated(path), ExitStack() as resources:
            refuse_network(path)
            if read_only:
                require_file(path)
            writer = None if read_only else _open_for_writing(path, resources)
            reader = connect_reader(path)
            resources.callback(reader.close)
            require_current_schema(reader, path)
            return cls(path, reader, writer, resources.pop_all())

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the connection that reads."""
        with translated(self.place), self._reading:
            return work(self._reader)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction on the connection that writes."""
        assert self._writer
        with translated(self.place):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # SQLite may have rolled back by itself.
                    self._writer.execute("ROLLBACK")
                raise
            return result

    def require_room(self) -> None:
        """Refuse when the disk is nearly full."""
        require_space(self.place.parent, _RESERVE_BYTES)

    def snapshot(self) -> AbstractContextManager["sqlalchemy.Connection"]:
        """The file as of one moment, on a connection of its own."""
        # Imported here: SQLAlchemy takes longer to import than a store to open.
        from cache.maintenance import reading

        return reading(self.place)

    def size_bytes(self) -> int:
        """The file and its write-ahead log."""
        return self.place.stat().st_size + wal_bytes(self.place)

    def leases(self, seconds: float) -> None:
        """None: the writer's lock says who may ask."""

    def word_index(self) -> "WordIndex":
        """A file of its own beside this one."""
        from cache.word_file import WordFile

        index = WordFile(self.place)
        self._resources.callback(index.close)
        return index

    def close(self) -> None:
        """Close both connections, then give the lock back."""
        with self._reading:
            self._resources.close()


def _open_for_writing(path: Path, resources: ExitStack) -> sqlite3.Connection:
    """Take the lock, then the file; `resources` lets go of both in the opposite order."""
    resources.callback(take_for_writing(path).release)
    writer = connect_writer(path)
    resources.callback(writer.close)
    return writer
