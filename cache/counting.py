"""How many rows there are, kept by reading only those that are new: a full count reads them all."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Table, func, select

from cache.models import alternates, refusals, requests

COUNTED = (requests, alternates, refusals)


@dataclass(frozen=True, slots=True)
class Count:
    """The rows of one table, up to a number."""

    rows: int
    last: int  # The highest row number among them.


def count_new(connection: Connection, known: Mapping[str, Count] | None = None) -> dict[str, Count]:
    """The rows of each table that the page tells of, by its name.

    Args:
        connection: From `CompletionStore.query`.
        known: What this returned before; None counts every row.
    """
    return {
        table.name: _count(connection, table, (known or {}).get(table.name)) for table in COUNTED
    }


def _count(connection: Connection, table: Table, known: Count | None) -> Count:
    last = connection.execute(select(func.max(table.c.id))).scalar() or 0
    query = select(func.count()).select_from(table)
    if known is None:
        return Count(connection.execute(query).scalar_one(), last)
    new = connection.execute(query.where(table.c.id > known.last)).scalar_one()
    return Count(known.rows + new, max(last, known.last))
