"""Backup: a verified copy of a store in one file, made while a service writes to it."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cache.errors import StoreDamaged
from cache.maintenance import Progress, no_progress, reading
from cache.new_file import new_file
from cache.translation import translated
from cache.verifying import verify_store

_PAGES_A_STEP = 4096  # 16 MB at SQLite's usual page size.


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds."""

    rows: int  # All tables; every one was verified in the copy.
    file_bytes: int


def back_up_store(path: Path, target: Path, progress: Progress = no_progress) -> BackupReport:
    """Copy the store at `path`, as of one moment, to the new file `target`, and verify the copy.

    `progress` counts pages of the database while it copies, then rows while it verifies.

    Raises:
        StoreDamaged: the copy has bad rows, and so has the store; there is no `target` then.
        StoreError: the store cannot be read.
        ExportError: `target` exists, or cannot be written.
    """
    with reading(path) as connection, new_file(target) as partial:
        source = connection.connection.driver_connection
        assert isinstance(source, sqlite3.Connection)
        _copy(source, partial, progress)
        report = verify_store(partial, progress)
        if report.bad:
            raise StoreDamaged(
                f"{path}: {report.bad:,} bad rows, the first is {report.named[0]}: no backup was "
                "made. `taco cache verify` names them; keep your last good backup"
            )
    return BackupReport(report.rows, target.stat().st_size)


def _copy(source: sqlite3.Connection, target: Path, progress: Progress) -> None:
    """SQLite's online backup; the snapshot that `source` holds keeps it from starting over."""

    def tell(_status: int, remaining: int, total: int) -> None:
        progress(total - remaining, total)

    with translated(target), closing(sqlite3.connect(target)) as copy:
        source.backup(copy, pages=_PAGES_A_STEP, progress=tell)
        # Without a write-ahead log the copy is one file; opened for writing it gets one again.
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()
