"""A connection that is made again when it was lost."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from cache.database import Connection, Cursor
from cache.errors import StoreError, StoreUnreachable
from cache.postgres.address import conninfo, shown
from cache.postgres.text import register_text
from cache.postgres.translation import translated

T = TypeVar("T")

_ATTEMPTS = 3
# While the server is away, each use would wait for a connection in vain.
_PAUSE_S = 1.0


class Link:
    """One connection at a time to the database at `url`; every method from any thread.

    Args:
        url: As libpq takes it.
        prepare: Makes each new connection what its users expect.
        transaction: Whether a piece of work is one transaction, or each statement its own.
    """

    def __init__(
        self,
        url: str,
        prepare: Callable[[psycopg.Connection[Any]], None],
        *,
        transaction: bool,
    ) -> None:
        self.place = shown(url)
        self._url = url
        self._prepare = prepare
        self._transaction = transaction
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._failure: tuple[float, StoreUnreachable] | None = None
        self._closed = False

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work`; a lost connection or a deadlock undoes it, and it is run again.

        Whether the last commit before a loss arrived is not known, so `work` must be safe to run
        twice.

        Raises:
            StoreUnreachable: there is no connection to be had.
            StoreError: what else the server refuses, see `cache.postgres.translation`.
        """
        with self._lock, translated(self.place):
            for _ in range(_ATTEMPTS - 1):
                connection = self._connected()
                try:
                    return self._attempt(connection, work)
                except (errors.DeadlockDetected, errors.SerializationFailure):
                    continue
                except psycopg.OperationalError:
                    if not connection.closed:
                        raise
            return self._attempt(self._connected(), work)

    def close(self) -> None:
        """Close the connection for good. A second call does nothing."""
        with self._lock:
            self._closed = True
            if self._connection:
                self._connection.close()

    def _attempt(self, connection: psycopg.Connection[Any], work: Callable[[Connection], T]) -> T:
        with connection.transaction() if self._transaction else nullcontext():
            return work(_Statements(connection))

    def _connected(self) -> psycopg.Connection[Any]:
        if self._closed:
            raise StoreError("the store is closed; open it again to use it")
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> psycopg.Connection[Any]:
        if self._failure and time.monotonic() - self._failure[0] < _PAUSE_S:
            raise self._failure[1].with_traceback(None)
        try:
            with translated(self.place):
                return connect(self._url, self._prepare)
        except StoreUnreachable as error:
            self._failure = (time.monotonic(), error)
            raise


def connect(
    url: str, prepare: Callable[[psycopg.Connection[Any]], None]
) -> psycopg.Connection[Any]:
    """A connection on which each statement is a transaction of its own.

    Raises:
        StoreError: the database does not keep text in UTF-8.
    """
    connection = psycopg.connect(conninfo(url), autocommit=True)
    try:
        _require_utf8(connection, url)
        register_text(connection)
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_utf8(connection: psycopg.Connection[Any], url: str) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"{shown(url)} keeps its text in {encoding}, a store needs UTF8: make a database for "
            "it, CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


class _Statements:
    """psycopg's connection as `cache.rows` wants it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        return self._connection.execute(_as_psycopg(statement), values)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> Cursor:
        cursor = self._connection.cursor()
        cursor.executemany(_as_psycopg(statement), rows)
        return cursor


def _as_psycopg(statement: str) -> bytes:
    return statement.replace("?", "%s").encode()
