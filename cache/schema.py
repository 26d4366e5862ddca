"""Which schema a file has, and how it comes to the newest one."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from cache.errors import SchemaTooNew, StoreError
from cache.filesystems import require_space
from cache.sqlite_file import connect, wal_bytes

SCHEMA_VERSION = "0006"  # The newest revision under migrations/.


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
    refuse_newer(version, path)
    return str(version)


def refuse_newer(version: str, place: Path | str) -> None:
    """Refuse the schema of a newer version of this program.

    Raises:
        SchemaTooNew: with both versions.
    """
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{place} has schema {version}, this program knows {SCHEMA_VERSION}: "
            "upgrade taco-rewards, or name another store"
        )


def require_current_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that a reader cannot use as it is.

    Raises:
        StoreError: empty, or of another schema (SchemaTooNew for a newer one).
    """
    version = schema_version(connection, path)
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema {version}, this program reads {SCHEMA_VERSION}: "
            "bring it up to date with `taco cache migrate`, or open it once for writing"
        )


def create_or_migrate(path: Path) -> None:
    """Bring the file at `path` to the newest schema; create it, for its owner's eyes only.

    A file of an older schema is backed up first. One of the newest costs a read and no more.

    Raises:
        StoreError: see `schema_version`; StoreFull when the backup finds no room.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with closing(connect(path, "rw")) as connection:
        version = schema_version(connection, path)
        if version == SCHEMA_VERSION:
            return
        if version is not None:
            back_up(connection, path, version)
    # Imported here: Alembic takes half a second, and an up-to-date store has no use for it.
    from cache.migrations import upgrade

    upgrade(path)


def back_up(connection: sqlite3.Connection, path: Path, version: str) -> None:
    """Copy a whole database beside itself.

    Raises:
        StoreFull: no room for the copy and the migration's own work.
    """
    require_space(path.parent, 3 * (path.stat().st_size + wal_bytes(path)))
    target = path.with_name(f"{path.name}.before-{version}-was-migrated")
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)
