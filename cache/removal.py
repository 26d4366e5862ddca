"""Removing records, with everything that hangs on them."""

from typing import TypeVar

from sqlalchemy import Column, Connection, Table, delete, select

from cache.key_sets import count_keys, key_pages
from cache.maintenance import Progress
from cache.models import metadata, requests

T = TypeVar("T")


def remove_records(connection: Connection, doomed: Table, progress: Progress) -> int:
    """Remove every request whose key is in the key set `doomed`; returns how many keys those are.

    Answers go first: a row must not outlive the request that it names.
    """
    total, done = count_keys(connection, doomed), 0
    for keys in key_pages(connection, doomed):
        numbers = select(requests.c.id).where(requests.c.key.in_(keys))
        for column in _references(requests.c.key):
            connection.execute(delete(column.table).where(column.in_(keys)))
        for column in _references(requests.c.id):
            connection.execute(delete(column.table).where(column.in_(numbers)))
        connection.execute(delete(requests).where(requests.c.key.in_(keys)))
        done += len(keys)
        progress(done, total)
    return total


def _references(named: Column[T]) -> list[Column[T]]:
    """The columns, of whatever tables there are, that name a request by its column `named`."""
    columns = [column for table in metadata.sorted_tables for column in table.c]
    return [column for column in columns if column.references(named)]
