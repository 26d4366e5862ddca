"""How commands reach a store in PostgreSQL: see `cache.maintenance`."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from sqlalchemy import Connection

from cache.postgres.link import Link
from cache.postgres.schema import require_current_schema
from cache.postgres.sessions import reading_session, transaction

# Readers pass. A service's commit waits, so that what a command has looked at stays as it is.
_LOCK = """
LOCK TABLE teachers, requests, completions, alternates, refusals IN SHARE ROW EXCLUSIVE MODE
"""


@contextmanager
def reading_database(url: str) -> Iterator[Connection]:
    """The database as of one moment.

    Raises:
        StoreError: it cannot be reached, or its schema is not the newest.
    """
    _require_current(url)
    with transaction(url, snapshot=True) as connection:
        yield connection


@contextmanager
def writing_database(url: str) -> Iterator[Connection]:
    """One transaction, in which nobody else adds an answer.

    Raises:
        StoreError: as for `reading_database`, or it takes no writes.
    """
    _require_current(url)
    with transaction(url) as connection:
        connection.exec_driver_sql(_LOCK)
        yield connection


def _require_current(url: str) -> None:
    with closing(Link(url, reading_session, transaction=False)) as link:
        link.run(partial(require_current_schema, place=link.place))
