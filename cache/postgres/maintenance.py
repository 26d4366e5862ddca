"""How commands reach a store in PostgreSQL: see `cache.maintenance`."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from sqlalchemy import Connection

from cache.errors import StoreError
from cache.postgres.address import shown
from cache.postgres.link import Link, connect
from cache.postgres.schema import require_current_schema
from cache.postgres.sessions import durable_session, reading_session, transaction
from cache.postgres.translation import translated

# Readers pass. A service's commit waits, so that what a command has looked at stays as it is.
_LOCK = """
LOCK TABLE teachers, requests, completions, alternates, refusals IN SHARE ROW EXCLUSIVE MODE
"""
_REWRITE = "VACUUM (FULL) requests, completions, alternates, refusals, search_words"


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
def writing_database(url: str, *, erase: bool = False) -> Iterator[Connection]:
    """One transaction, in which nobody else adds an answer.

    Args:
        url: The database.
        erase: Then write the tables anew, so that nothing of a deleted row stays in them.

    Raises:
        StoreError: as for `reading_database`, or it takes no writes; with `erase`, also when this
            user may not write them anew (the transaction is committed then).
    """
    _require_current(url)
    with transaction(url) as connection:
        connection.exec_driver_sql(_LOCK)
        yield connection
    if erase:
        _erase(url)


def _erase(url: str) -> None:
    warnings: list[str] = []
    with translated(shown(url)), closing(connect(url, durable_session)) as connection:
        connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
        connection.execute(_REWRITE)
    if warnings:  # The server skips a table that is not the user's, and calls that a success.
        raise StoreError(
            f"{shown(url)}: the entries are gone, but old rows stay in the tables' files: "
            f"{warnings[0]}. Let the tables' owner give this command: {_REWRITE}"
        )


def _require_current(url: str) -> None:
    with closing(Link(url, reading_session, transaction=False)) as link:
        link.run(partial(require_current_schema, place=link.place))
