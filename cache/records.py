"""A record: one key with everything that a store knows about it, read page by page."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, func, select

from cache.entries import Completion, Refusal, StoredEntry
from cache.key_sets import PAGE
from cache.models import alternates, completions, refusals, requests, teachers
from cache.selection import EVERYTHING, Selection, conditions, with_keys


@dataclass(frozen=True, slots=True)
class Record:
    """One key with everything that a store knows about it."""

    key: bytes
    teacher_digest: str
    document: str  # Canonical JSON; its SHA-256 is `key`.
    compressed_text: str | None
    created_at: float  # When it was first asked; seconds since the epoch.
    completion: StoredEntry | None  # None: the API declined to answer.
    alternates: tuple[StoredEntry, ...]  # By content digest.
    refusals: tuple[StoredEntry, ...]  # The first is served where there is no completion.

    @property
    def served(self) -> StoredEntry:
        """The answer that a client gets."""
        return self.completion or self.refusals[0]

    @property
    def completed(self) -> tuple[StoredEntry, ...]:
        """Every completion, the served one first."""
        return (*((self.completion,) if self.completion else ()), *self.alternates)

    @property
    def answers(self) -> tuple[StoredEntry, ...]:
        """Every completion, then every refusal."""
        return self.completed + self.refusals


def count_records(connection: Connection, selection: Selection = EVERYTHING) -> int:
    """How many records `selection` picks."""
    query = select(func.count()).select_from(requests).where(*conditions(connection, selection))
    return connection.execute(query).scalar_one()


def read_records(connection: Connection, selection: Selection = EVERYTHING) -> Iterator[Record]:
    """The records that `selection` picks, by ascending key; memory holds one page of them.

    Raises:
        ValueError: a row's JSON is damaged.
    """
    query = _request_query().where(*conditions(connection, selection)).limit(PAGE)
    last = b""
    while rows := connection.execute(query.where(requests.c.key > last)).all():
        yield from _with_answers(connection, rows)
        last = rows[-1].key


def records_of(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, Record]:
    """The records of `keys` that are stored; at most `PAGE` keys.

    Raises:
        ValueError: a row's JSON is damaged.
    """
    rows = connection.execute(_request_query().where(requests.c.key.in_(keys))).all()
    return {record.key: record for record in _with_answers(connection, rows)}


def completion_of(row: Row[Any]) -> StoredEntry:
    """A row of `completions` or `alternates`.

    Raises:
        ValueError: its JSON is damaged.
    """
    completion = Completion(
        row.text,
        row.finish_reason,
        None if row.usage is None else _parsed(row, row.usage),
        None if row.extra is None else _parsed(row, row.extra),
        _parsed(row, row.provenance),
        row.latency_ms,
    )
    return StoredEntry(row.key, completion, row.content_digest, row.created_at)


def refusal_of(row: Row[Any]) -> StoredEntry:
    """A row of `refusals`.

    Raises:
        ValueError: its JSON is damaged.
    """
    refusal = Refusal(row.reason, row.message, _parsed(row, row.provenance), row.latency_ms)
    return StoredEntry(row.key, refusal, row.content_digest, row.created_at)


def _parsed(row: Row[Any], text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"key {row.key.hex()}: the answer's JSON is damaged: {error}") from error


def _request_query() -> Select[Any]:
    wanted = (requests.c.key, requests.c.document, requests.c.compressed_text)
    joined = requests.join(teachers)
    return (
        select(*wanted, requests.c.created_at, teachers.c.digest)
        .select_from(joined)
        .order_by(requests.c.key)
    )


def _with_answers(connection: Connection, rows: Sequence[Row[Any]]) -> list[Record]:
    keys = [row.key for row in rows]
    completed = {row.key: completion_of(row) for row in _rows_of(connection, completions, keys)}
    others: dict[bytes, list[StoredEntry]] = defaultdict(list)
    for row in _rows_of(connection, alternates, keys):
        others[row.key].append(completion_of(row))
    refused: dict[bytes, list[StoredEntry]] = defaultdict(list)
    for row in _rows_of(connection, refusals, keys):
        refused[row.key].append(refusal_of(row))
    return [
        Record(
            row.key,
            row.digest,
            row.document,
            row.compressed_text,
            row.created_at,
            completed.get(row.key),
            tuple(sorted(others[row.key], key=lambda entry: entry.content_digest)),
            tuple(refused[row.key]),
        )
        for row in rows
    ]


def _rows_of(connection: Connection, table: Table, keys: Sequence[bytes]) -> Sequence[Row[Any]]:
    query = select(table).where(with_keys(table, keys)).order_by(table.c.id)
    return connection.execute(query).all()
