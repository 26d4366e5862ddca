"""What the errors of PostgreSQL mean for a store; the one place."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from cache.errors import (
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnreachable,
)


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn psycopg's errors into the cache's own; `place` has no password."""
    try:
        yield
    except psycopg.Error as error:
        kind, advice = _meaning(error)
        reason = error.diag.message_primary or " ".join(str(error).split())
        raise kind(f"{place}: {reason}: {advice}") from error


def _meaning(error: psycopg.Error) -> tuple[type[StoreError], str]:
    for cause, kind, advice in _MEANING:
        if isinstance(error, cause):
            return kind, advice
    return StoreError, "this is a fault of the program; report it"


_MEANING: tuple[tuple[type[psycopg.Error], type[StoreError], str], ...] = (
    (errors.DiskFull, StoreFull, "make room on the server; what is stored can still be read"),
    (
        errors.ReadOnlySqlTransaction,
        StoreReadOnly,
        "the server takes no writes (a standby, or default_transaction_read_only): name the "
        "primary, or open the store read-only (replay)",
    ),
    (
        errors.InsufficientPrivilege,
        StoreReadOnly,
        "grant this user SELECT, INSERT, UPDATE and DELETE on the store's tables and USAGE on "
        "their sequences",
    ),
    (errors.DataCorrupted, StoreDamaged, "look at the server's log; restore from a backup"),
    (errors.IndexCorrupted, StoreDamaged, "look at the server's log; REINDEX, or restore a backup"),
    (
        errors.QueryCanceled,
        StoreError,
        "the server gave up waiting (statement_timeout or lock_timeout), or someone cancelled it",
    ),
    (
        psycopg.OperationalError,
        StoreUnreachable,
        "see that the server runs and that host, port, user and password are right; the next use "
        "connects again",
    ),
)
