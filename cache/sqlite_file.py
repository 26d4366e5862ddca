"""The SQLite file: how it is recognised and opened."""

import os
import sqlite3
from pathlib import Path

from cache.errors import StoreDamaged, StoreError

_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT_S = 5.0
_CACHE_KIB = 64 * 1024
_LARGEST_CACHE_KIB = 1024 * 1024
_CHECKPOINT_PAGES = 8_000  # 32 MB of log.


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes: every commit is on the disk before it returns."""
    return _configured(
        connect(path, "rw"),
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA fullfsync = ON",  # macOS: a plain fsync stops in the drive's own cache.
        "PRAGMA checkpoint_fullfsync = ON",
        "PRAGMA foreign_keys = ON",
        # A group touches pages all over the indexes: what does not fit is written twice.
        f"PRAGMA cache_size = -{_CACHE_KIB}",
        # Keys are hashes, so a group touches some page for each of its rows: by SQLite's own rule
        # (1,000) every other group of 256 would write them all a second time, into the file.
        f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    )


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, and leaves checkpoints to the writer."""
    statements = (
        f"PRAGMA cache_size = -{reader_cache_kib(path)}",
        "SELECT count(*) FROM sqlite_master",
    )
    try:
        return _configured(connect(path, "ro"), *statements)
    except sqlite3.OperationalError:
        if os.access(path.parent, os.W_OK) or wal_bytes(path):
            raise
        # On a read-only medium SQLite cannot make its shared memory, and needs none: without a log
        # beside it the file is complete, and nobody can be writing to it.
        return _configured(connect(path, "ro&immutable=1"), *statements)


def connect_index(path: Path) -> sqlite3.Connection:
    """A connection to what can be made again: a power cut may take the last commits back."""
    return _configured(
        connect(path, "rw"), "PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL"
    )


def reader_cache_kib(path: Path) -> int:
    """An eighth of the file, within bounds; only pages that were read take memory.

    With a fixed size, a store of ten million rows would fetch both pages of every look-up from the
    system's cache again. (Mapping the file is a little faster, but SQLite maps 2 GB of it at most,
    a look-up after a commit is slower, as all may have to be mapped anew, and a bad sector, or a
    file that somebody cuts, would end the process where it is an error here.)
    """
    file_kib = path.stat().st_size // 1024 if path.exists() else 0
    return min(max(_CACHE_KIB, file_kib // 8), _LARGEST_CACHE_KIB)


def _configured(connection: sqlite3.Connection, *statements: str) -> sqlite3.Connection:
    try:
        for statement in statements:
            connection.execute(statement).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A plain connection that any thread may use; `mode` as in SQLite's URI file names."""
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,  # Transactions begin and end where the code says so.
        check_same_thread=False,
        cached_statements=64,
    )


def wal_bytes(path: Path) -> int:
    """The size of the write-ahead log beside a database; 0 where there is none."""
    wal = path.with_name(path.name + "-wal")
    return wal.stat().st_size if wal.exists() else 0


def word_file_of(store: Path) -> Path:
    """Where the word index of the store's file is; see `cache.word_file`."""
    return store.with_name(f"{store.name}.words")


def discard_word_file(store: Path) -> None:
    """Remove that index: what was forgotten must not be found in it, nor what an answer was."""
    index = word_file_of(store)
    for ending in ("", "-wal", "-shm"):
        index.with_name(index.name + ending).unlink(missing_ok=True)


def check_is_database(path: Path) -> None:
    """Refuse what is no SQLite file, before anything is written beside it.

    Raises:
        StoreDamaged: it is something else.
        StoreError: it is a folder.
    """
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name the file of the store")
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start not in (b"", _MAGIC):
        raise StoreDamaged(
            f"{path} is not a database (it starts with {start!r}): "
            "name another file, or restore this one from a backup"
        )
