"""The word index of a store in PostgreSQL: a table that whoever searches brings up to date."""

import time
from collections.abc import Collection, Sequence
from typing import Any

from psycopg.errors import QueryCanceled
from sqlalchemy import ColumnElement, Connection, Row, Select, cast, func, select, text
from sqlalchemy.dialects.postgresql import TSQUERY

from cache.errors import SearchTooLong, StoreError
from cache.models import completions, requests, search_words
from cache.postgres.sessions import transaction
from cache.word_index import IndexedRow, Reach, indexed_rows
from cache.words import Search, entry_words

_INDEXING = 0x7AC1
"""The advisory lock by which one service at a time adds to the index."""

_LATE = 20_000
"""Numbers below the highest that are looked at again: a slow transaction's rows come late."""

_STEP, _TURN_S = 100, 1.0
"""How many entries are read together, any of which may be megabytes, and for how long at a time."""

_LONGEST_MS = 2_000

_PUT = text("""
INSERT INTO search_words (id, answered, words)
VALUES (:id, :answered, array_to_tsvector(CAST(:words AS text[])))
ON CONFLICT (id) DO UPDATE SET answered = excluded.answered, words = excluded.words
""")


class WordTable:
    """The index of the database at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def catch_up(self) -> Reach:
        """See `WordIndex`. Where another service is adding just now, nothing is done."""
        with transaction(self._url) as connection:
            if connection.execute(select(func.pg_try_advisory_xact_lock(_INDEXING))).scalar():
                until = time.monotonic() + _TURN_S
                while time.monotonic() < until and (
                    _add_next(connection) or _add_answers(connection)
                ):
                    pass
            indexed = connection.execute(select(func.max(search_words.c.id))).scalar() or 0
            last = connection.execute(select(func.max(requests.c.id))).scalar() or 0
            return Reach(indexed, last)

    def find(
        self, search: Search, teachers: Collection[int] | None, before: int | None, limit: int
    ) -> Sequence[int]:
        """See `WordIndex`."""
        query = (
            select(search_words.c.id)
            .where(search_words.c.words.op("@@")(_matching(search)))
            .order_by(search_words.c.id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(search_words.c.id < before)
        if teachers is not None:
            query = query.join(requests, requests.c.id == search_words.c.id)
            query = query.where(requests.c.teacher_id.in_(teachers))
        try:
            with transaction(self._url) as connection:
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {_LONGEST_MS}")
                return connection.execute(query).scalars().all()
        except StoreError as error:
            if isinstance(error.__cause__, QueryCanceled):
                raise SearchTooLong from error
            raise

    def close(self) -> None:
        """Each use has a connection of its own."""


def _add_next(connection: Connection) -> bool:
    """Whether there was something to add."""
    highest = connection.execute(select(func.max(search_words.c.id))).scalar() or 0
    missing = ~select(search_words.c.id).where(search_words.c.id == requests.c.id).exists()
    query = indexed_rows().where(requests.c.id > highest - _LATE, missing)
    return _put(connection, query.order_by(requests.c.id).limit(_STEP))


def _add_answers(connection: Connection) -> bool:
    """Complete entries that had only a refusal when they were added; whether there were such."""
    refused = requests.c.id.in_(select(search_words.c.id).where(~search_words.c.answered))
    answered = indexed_rows().where(refused, completions.c.id.is_not(None))
    return _put(connection, answered.limit(_STEP))


def _put(connection: Connection, query: Select[IndexedRow]) -> bool:
    rows = connection.execute(query).all()
    if rows:
        connection.execute(_PUT, [_values(row) for row in rows])
    return bool(rows)


def _values(row: Row[IndexedRow]) -> dict[str, object]:
    words = entry_words(row.document, row.text)
    return {"id": row.id, "answered": row.answer is not None, "words": words}


def _matching(search: Search) -> ColumnElement[Any]:
    """As PostgreSQL's own `tsquery`; words have no quotes in them."""
    terms = [f"'{word}'" for word in search.words]
    terms += [f"'{word}':*" for word in search.beginnings]
    return cast(" & ".join(terms), TSQUERY)
