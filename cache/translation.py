"""What the errors of SQLite and of the operating system mean for a store; the one place."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import (
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnwritable,
)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the operating system into the cache's own."""
    try:
        yield
    except sqlite3.Error as error:
        raise _store_error(error, path) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"{path}: {error.strerror}: {_MAKE_ROOM}") from error
        raise StoreReadOnly(
            f"{path}: {error.strerror}: make the folder writable, name another store, "
            "or open this one read-only (replay)"
        ) from error


def _store_error(error: sqlite3.Error, path: Path) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    kind, advice = _MEANING.get(code, (StoreError, "this is a fault of the program; report it"))
    return kind(f"{path}: {error}: {advice}")


_MAKE_ROOM = "make room on that disk; what is stored can still be read"
_DAMAGED = (StoreDamaged, "restore the file from a backup, or name another store")
_READ_ONLY = (StoreReadOnly, "make the file and its folder writable, or open it read-only (replay)")
_MEANING: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_FULL: (StoreFull, _MAKE_ROOM),
    sqlite3.SQLITE_IOERR: (StoreUnwritable, "look at the disk and the system's log"),
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_BUSY: (StoreLocked, "another program holds a transaction open; stop it"),
}
