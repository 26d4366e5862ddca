"""What comes before a store's file is read or written: the refusals, the lock, the schema."""

from pathlib import Path

from cache.errors import StoreError
from cache.locking import WriterLock
from cache.schema import create_or_migrate
from cache.sqlite_file import check_is_database


def require_file(path: Path) -> None:
    """Refuse what is no store that could be read.

    Raises:
        StoreError: there is no such file; StoreDamaged when it is no database.
    """
    if not path.exists():
        raise StoreError(f"there is no store at {path}: record one first, or name another file")
    check_is_database(path)


def take_for_writing(path: Path) -> WriterLock:
    """Take the writer's lock and bring the file to the newest schema; creates what is missing.

    Raises:
        StoreError: see the tree in `cache.errors`; the lock is free again then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        check_is_database(path)
    lock = WriterLock.acquire(path)
    try:
        create_or_migrate(path)
    except BaseException:
        lock.release()
        raise
    return lock
