"""SQLAlchemy over connections that are made here.

One engine for each kind of database, whatever file or server a connection leads to: a statement is
then compiled once in a process, and a dialect asks a server once what it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

SQLITE = "sqlite://"
POSTGRES = "postgresql+psycopg://"

_driver: ContextVar[Any] = ContextVar("driver")


@contextmanager
def connected(driver: Any, kind: str) -> Iterator[Connection]:
    """A driver's connection as one of SQLAlchemy's; rolled back and closed at the end.

    Args:
        driver: of `sqlite3` or `psycopg`.
        kind: SQLITE or POSTGRES.
    """
    token = _driver.set(driver)
    try:
        connection = _engine(kind).connect()
    finally:
        _driver.reset(token)
    with connection:
        yield connection


@lru_cache
def _engine(kind: str) -> Engine:
    return create_engine(kind, creator=_driver.get, poolclass=NullPool)
