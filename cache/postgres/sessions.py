"""What each kind of connection is set to, and connections for SQLAlchemy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from cache.errors import StoreError
from cache.postgres.address import shown
from cache.postgres.link import connect
from cache.postgres.translation import translated

if TYPE_CHECKING:
    import sqlalchemy

_DURABLE = ("on", "remote_apply")  # What waits for the disk; the second also for standbys.


def any_session(connection: psycopg.Connection[Any]) -> None:
    """Leave a connection as it is."""


def reading_session(connection: psycopg.Connection[Any]) -> None:
    """Let a connection only read."""
    connection.execute("SET default_transaction_read_only = on")


def durable_session(connection: psycopg.Connection[Any]) -> None:
    """Let every commit wait for the server's disk.

    Raises:
        StoreError: the server does not do that.
    """
    connection.execute("SET default_transaction_isolation = 'read committed'")
    if _setting(connection, "synchronous_commit") not in _DURABLE:
        connection.execute("SET synchronous_commit = on")
    if _setting(connection, "synchronous_commit") not in _DURABLE:
        raise StoreError("the server does not let synchronous_commit be turned on; a pooler may")
    if _setting(connection, "fsync") != "on":
        raise StoreError(
            "the server runs with fsync = off, so a power cut could take back answers that were "
            "paid for: turn it on in postgresql.conf"
        )


def fleeting_session(connection: psycopg.Connection[Any]) -> None:
    """Let no commit wait for the disk: for what a crash of the server may well forget."""
    connection.execute("SET synchronous_commit = off")


def _setting(connection: psycopg.Connection[Any], name: str) -> Any:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return row and row[0]


@contextmanager
def transaction(url: str, *, snapshot: bool = False) -> Iterator["sqlalchemy.Connection"]:
    """A connection of its own for SQLAlchemy, in one transaction, committed at the end.

    Args:
        url: As libpq takes it.
        snapshot: See everything as of one moment, whatever is written meanwhile.

    Raises:
        StoreError: see `cache.postgres.translation`.
    """
    from sqlalchemy.exc import DBAPIError

    from cache.engines import POSTGRES, connected

    with translated(shown(url)):
        driver = connect(url, durable_session)
        driver.autocommit = False
        if snapshot:
            driver.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        try:
            with connected(driver, POSTGRES) as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            raise error.orig or error from error
