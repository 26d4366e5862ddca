"""Sets of keys of any size, held in the database: a temporary table of one connection."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import TypeVar

from sqlalchemy import Column, Connection, LargeBinary, MetaData, Table, func, insert, select

T = TypeVar("T")

PAGE = 500
"""Rows moved at a time: few enough for memory and for SQLite's limit on bound values."""

_number = count(1)


def make_key_set(connection: Connection, keys: Iterable[bytes] = ()) -> Table:
    """A new set with one column `key`; SQLite allows it on a read-only store too."""
    table = Table(
        f"key_set_{next(_number)}",
        MetaData(),
        Column("key", LargeBinary(32), primary_key=True),
        prefixes=["TEMPORARY"],
    )
    table.create(connection)
    add_keys(connection, table, keys)
    return table


def add_keys(connection: Connection, key_set: Table, keys: Iterable[bytes]) -> None:
    """Add `keys`; those that are in the set already, or come twice, do not matter."""
    for page in pages(keys):
        wanted = dict.fromkeys(page)
        known = select(key_set.c.key).where(key_set.c.key.in_(wanted))
        fresh = wanted.keys() - set(connection.execute(known).scalars())
        if fresh:
            connection.execute(insert(key_set), [{"key": key} for key in fresh])


def count_keys(connection: Connection, key_set: Table) -> int:
    """How many keys the set holds."""
    return connection.execute(select(func.count()).select_from(key_set)).scalar_one()


def key_pages(connection: Connection, key_set: Table) -> Iterator[Sequence[bytes]]:
    """The set's keys in ascending order, a page at a time."""
    query = select(key_set.c.key).order_by(key_set.c.key).limit(PAGE)
    last = b""
    while keys := connection.execute(query.where(key_set.c.key > last)).scalars().all():
        yield keys
        last = keys[-1]


def pages(items: Iterable[T]) -> Iterator[list[T]]:
    """`items` in lists of at most `PAGE`."""
    iterator = iter(items)
    while page := list(islice(iterator, PAGE)):
        yield page
