"""How commands reach a store: one snapshot to read, or one transaction to write.

A command that writes to a file takes the writer's lock, so it is refused while a service holds the
store. On PostgreSQL it locks the tables instead: services go on reading, and wait to write.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from cache.engines import SQLITE, connected
from cache.errors import StoreLocked
from cache.filesystems import refuse_network, require_space
from cache.opening import require_file, take_for_writing
from cache.schema import require_current_schema
from cache.sqlite_file import connect_reader, connect_writer, discard_word_file, wal_bytes
from cache.translation import translated

Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then with how much is done and how much there is in all."""


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def reading(place: Path | str) -> Iterator[Connection]:
    """The store at `place` as of one moment, whatever is written meanwhile.

    Text that is no UTF-8 comes back with surrogates in place of the bad bytes, which no hash
    accepts: a damaged row can be read, and named.

    Raises:
        StoreError: see the tree in `cache.errors`.
    """
    if isinstance(place, str):
        from cache.postgres.maintenance import reading_database

        with reading_database(place) as connection:
            yield connection
        return
    path = place.expanduser().absolute()
    with ExitStack() as resources:
        with translated(path):
            refuse_network(path)
            require_file(path)
            driver = resources.enter_context(closing(connect_reader(path)))
            require_current_schema(driver, path)
        driver.text_factory = _decode
        connection = resources.enter_context(_connected(driver, path))
        connection.exec_driver_sql("BEGIN")
        # SQLite takes the snapshot at the first read, not at BEGIN.
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").all()
        yield connection


@contextmanager
def writing(
    place: Path | str, *, create: bool = False, erase: bool = False
) -> Iterator[Connection]:
    """One transaction on the store at `place`: committed at the end, or nothing of it on an error.

    Args:
        place: The store.
        create: Make the store where there is none; a database is never made.
        erase: What is deleted, now or earlier, leaves no bytes in the file or its log, or in a
            database's tables. Rewrites them, and so needs as much room again.

    Raises:
        StoreLocked: a service or another command holds the store; the message says which. With
            `erase`, also when readers keep old pages alive (the transaction is committed then).
        StoreError: see the tree in `cache.errors`.
    """
    if isinstance(place, str):
        from cache.postgres.maintenance import writing_database

        with writing_database(place, erase=erase) as connection:
            yield connection
        return
    path = place.expanduser().absolute()
    with ExitStack() as resources:
        with translated(path):
            refuse_network(path)
            if not create:
                require_file(path)
            resources.callback(take_for_writing(path).release)
            if erase:
                require_space(path.parent, 2 * (path.stat().st_size + wal_bytes(path)))
            driver = resources.enter_context(closing(connect_writer(path)))
        with _connected(driver, path) as connection:
            connection.exec_driver_sql(f"PRAGMA secure_delete = {erase:d}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()
            if erase:
                _erase(connection, path)


@contextmanager
def _connected(driver: sqlite3.Connection, path: Path) -> Iterator[Connection]:
    """`driver` for SQLAlchemy, its errors translated; errors of the caller's pass as they are."""
    try:
        with connected(driver, SQLITE) as connection:
            yield connection
    except DBAPIError as error:
        with translated(path):
            raise error.orig or error from error


def _erase(connection: Connection, path: Path) -> None:
    """Rewrite the file without its free space, and empty its log; the word index goes too."""
    discard_word_file(path)
    connection.exec_driver_sql("VACUUM")
    busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
    if busy:
        raise StoreLocked(
            f"{path}: the entries are gone, but other processes still read the store, and until "
            "then old pages stay in its log: stop them, then give the same command again"
        )


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
