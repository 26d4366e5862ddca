"""The SQLite file itself: how it is opened, checked, migrated, and what its errors mean."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cache.errors import (
    SchemaTooNew,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnwritable,
)
from cache.filesystems import require_space

SCHEMA_VERSION = "0001"  # The newest revision under migrations/.

_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT_S = 5.0
_READ_CACHE_KIB = 64 * 1024


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes: every commit is on the disk before it returns."""
    return _configured(
        _connect(path, "rw"),
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA fullfsync = ON",  # macOS: a plain fsync stops in the drive's own cache.
        "PRAGMA checkpoint_fullfsync = ON",
        "PRAGMA foreign_keys = ON",
    )


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, and leaves checkpoints to the writer."""
    statements = (f"PRAGMA cache_size = -{_READ_CACHE_KIB}", "SELECT count(*) FROM sqlite_master")
    try:
        return _configured(_connect(path, "ro"), *statements)
    except sqlite3.OperationalError:
        if os.access(path.parent, os.W_OK) or wal_bytes(path):
            raise
        # On a read-only medium SQLite cannot make its shared memory, and needs none: without a log
        # beside it the file is complete, and nobody can be writing to it.
        return _configured(_connect(path, "ro&immutable=1"), *statements)


def _configured(connection: sqlite3.Connection, *statements: str) -> sqlite3.Connection:
    try:
        for statement in statements:
            connection.execute(statement).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
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


def schema_version(connection: sqlite3.Connection, path: Path) -> str | None:
    """The schema's revision; None for a database without tables.

    Raises:
        SchemaTooNew: written by a newer version of this program.
        StoreError: a database, but not a store.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise StoreError(f"{path} is a database, but not a store of completions: name another file")
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{path} has schema {version}, this program knows {SCHEMA_VERSION}: "
            "upgrade taco-rewards, or name another store"
        )
    return str(version)


def require_current_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that a reader cannot use as it is.

    Raises:
        StoreError: empty, or of another schema (SchemaTooNew for a newer one).
    """
    version = schema_version(connection, path)
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema {version}, this program reads {SCHEMA_VERSION}: "
            "open it once for writing (mode: record), which brings it up to date"
        )


def create_or_migrate(path: Path) -> None:
    """Bring the file at `path` to the newest schema; create it, for its owner's eyes only.

    A file of an older schema is backed up first. One of the newest costs a read and no more.

    Raises:
        StoreError: see `schema_version`; StoreFull when the backup finds no room.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with closing(_connect(path, "rw")) as connection:
        version = schema_version(connection, path)
        if version == SCHEMA_VERSION:
            return
        if version is not None:
            back_up(connection, path, version)
    # Imported here: Alembic takes half a second, and an up-to-date store has no use for it.
    from cache.migrations import upgrade

    upgrade(path)


def back_up(connection: sqlite3.Connection, path: Path, version: str) -> Path:
    """Copy a whole database beside itself, and return where.

    Raises:
        StoreFull: no room for the copy and the migration's own work.
    """
    require_space(path.parent, 3 * (path.stat().st_size + wal_bytes(path)))
    target = path.with_name(f"{path.name}.before-{version}-was-migrated")
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)
    return target


@contextmanager
def translated(path: Path | None = None) -> Iterator[None]:
    """Turn the errors of SQLite and of the operating system into the cache's own."""
    where = f"{path}: " if path else ""
    try:
        yield
    except sqlite3.Error as error:
        raise _store_error(error, where) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"{where}{error.strerror}: {_MAKE_ROOM}") from error
        raise StoreReadOnly(
            f"{where}{error.strerror}: make the folder writable, name another store, "
            "or open this one read-only (replay)"
        ) from error


def _store_error(error: sqlite3.Error, where: str) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    kind, advice = _MEANING.get(code, (StoreError, "this is a fault of the program; report it"))
    return kind(f"{where}{error}: {advice}")


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
