"""How a store is, found out in a bounded time and without a change to it."""

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cache.errors import StoreDamaged
from cache.filesystems import refuse_network
from cache.locking import writer_of
from cache.opening import require_file
from cache.schema import schema_version
from cache.sqlite_file import connect, connect_reader, wal_bytes
from cache.translation import translated

_OPCODES_BETWEEN_LOOKS = 1_000


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """A store that can be read."""

    schema: str | None
    """Its revision; None for a file without tables, as a crash in its first moment leaves it."""
    file_bytes: int
    """With the write-ahead log."""
    writer: str | None
    """Who holds it for writing; None: nobody."""
    checked_whole: bool
    """Whether the time sufficed to look at every page."""


def examine(path: Path, seconds: float) -> StoreHealth:
    """Look at a store's file: is it one, is it whole, who writes it?

    SQLite checks its pages for `seconds` at most; hashes are `cache.verifying`'s.

    Raises:
        StoreError: there is none, or it is damaged or unusable; see the tree in `cache.errors`.
    """
    path = path.expanduser().absolute()
    with translated(path):
        refuse_network(path)
        require_file(path)
        writer = writer_of(path)
        try:
            return _look(path, writer, seconds)
        except StoreDamaged:
            if writer is None and writer_of(path):  # It began to write while we looked.
                return _look(path, writer_of(path), seconds)
            raise


def _look(path: Path, writer: str | None, seconds: float) -> StoreHealth:
    # Where nobody writes and no log is left, the file is complete, and SQLite need not put its
    # shared memory beside it, which would stay there.
    quiet = writer is None and not wal_bytes(path)
    with closing(connect(path, "ro&immutable=1") if quiet else connect_reader(path)) as reader:
        return StoreHealth(
            schema=schema_version(reader, path),
            file_bytes=path.stat().st_size + wal_bytes(path),
            writer=writer,
            checked_whole=_check_pages(reader, path, seconds),
        )


def _check_pages(reader: sqlite3.Connection, path: Path, seconds: float) -> bool:
    """Whether all was looked at before the time was up.

    Raises:
        StoreDamaged: SQLite found a fault; with the first one.
    """
    give_up_at = time.monotonic() + seconds
    reader.set_progress_handler(lambda: time.monotonic() > give_up_at, _OPCODES_BETWEEN_LOOKS)
    try:
        (said,) = reader.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return False
        raise
    if said != "ok":
        raise StoreDamaged(f"{path}: {said}: restore the file from a backup, or name another store")
    return True
