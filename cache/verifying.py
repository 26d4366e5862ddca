"""Verify: compute every hash again, and name what does not match."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, exists, func, select
from sqlalchemy.exc import DBAPIError

from cache.checks import answer_problem, document_problem, text_problem
from cache.entries import TeacherIdentity
from cache.key_sets import PAGE
from cache.maintenance import Progress, no_progress, reading
from cache.models import alternates, completions, refusals, requests, teachers
from cache.records import completion_of, refusal_of

_NAMED = 100
"""Findings that a report names; it counts them all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a store."""

    table: str
    row: str  # A key or a teacher's digest in hexadecimal digits; "" for the table as a whole.
    problem: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What came of a verification."""

    rows: int  # How many were checked.
    bad: int  # How many findings there are.
    named: tuple[Finding, ...]  # The first of them.


def verify_store(place: Path | str, progress: Progress = no_progress) -> VerifyReport:
    """Check every row of the store at `place`, and the database's own structure.

    What a client sees is hashed: documents, compressed texts, answers, teachers' definitions.
    Usage, provenance, latency and times have no hash: they are checked to be readable.

    Raises:
        StoreError: the store cannot be opened at all.
    """
    with reading(place) as connection:
        return verify(connection, progress)


def verify(connection: Connection, progress: Progress = no_progress) -> VerifyReport:
    """`verify_store` for a connection that is open."""
    named: list[Finding] = []
    bad = rows = 0
    total = _count_rows(connection)
    for checked, found in _checked_pages(connection):
        rows, bad = rows + checked, bad + len(found)
        named += found[: _NAMED - len(named)]
        progress(rows, total)
    return VerifyReport(rows, bad, tuple(named))


def _checked_pages(connection: Connection) -> Iterator[tuple[int, list[Finding]]]:
    """Page by page: the rows that were checked, and what was found there."""
    for table in _CHECKS:
        yield from _table_pages(connection, table)
    yield from _listed_pages(connection, requests, _UNANSWERED, "the request has no answer")
    for table, its_request in _REQUESTS.items():
        orphans = select(table.c.key).where(~exists().where(its_request))
        yield from _listed_pages(connection, table, orphans, "its request is missing")
    yield from _listed_pages(connection, completions, _MISFILED, "its answer is another key's")
    if connection.dialect.name == "sqlite":
        yield 0, list(_structure(connection))


def _table_pages(connection: Connection, table: Table) -> Iterator[tuple[int, list[Finding]]]:
    query = _query(table).order_by(table.c.id).limit(PAGE)
    last = 0
    while True:
        try:
            rows = connection.execute(query.where(table.c.id > last)).all()
        except DBAPIError as error:
            problem = f"the rows after number {last} cannot be read: {error.orig}"
            yield 0, [Finding(table.name, "", problem)]
            return
        if not rows:
            return
        yield len(rows), list(_row_findings(table, rows))
        last = rows[-1].id


def _row_findings(table: Table, rows: Iterable[Row[Any]]) -> Iterator[Finding]:
    for row in rows:
        try:
            problem = _CHECKS[table](row)
        except Exception as error:  # A damaged row may hold anything in place of a text.
            problem = f"the row is damaged: {error!r}"
        if problem:
            yield Finding(table.name, _shown(row.digest if table is teachers else row.key), problem)


def _request_problem(row: Row[Any]) -> str | None:
    return document_problem(row.key, row.document, row.digest) or text_problem(
        row.compressed_text, row.compressed_sha256
    )


def _teacher_problem(row: Row[Any]) -> str | None:
    definition = json.loads(row.definition)
    found = TeacherIdentity.from_definition(row.name, row.backend, definition).digest
    return None if found == row.digest else f"the definition hashes to {found}"


_CHECKS: Mapping[Table, Callable[[Row[Any]], str | None]] = {
    teachers: _teacher_problem,
    requests: _request_problem,
    completions: lambda row: answer_problem(completion_of(row)),
    alternates: lambda row: answer_problem(completion_of(row)),
    refusals: lambda row: answer_problem(refusal_of(row)),
}


def _query(table: Table) -> Select[Any]:
    if table is not requests:
        return select(table)
    return select(requests, teachers.c.digest).outerjoin(teachers)


_REQUESTS: Mapping[Table, ColumnElement[bool]] = {
    completions: requests.c.id == completions.c.id,
    alternates: requests.c.key == alternates.c.key,
    refusals: requests.c.key == refusals.c.key,
}
_MISFILED = select(requests.c.key).join(completions).where(requests.c.key != completions.c.key)
_UNANSWERED = select(requests.c.key).where(
    ~exists().where(completions.c.id == requests.c.id),
    ~exists().where(refusals.c.key == requests.c.key),
)


def _listed_pages(
    connection: Connection, table: Table, keys: Select[Any], problem: str
) -> Iterator[tuple[int, list[Finding]]]:
    """Every key that the query `keys` gives has the same problem."""
    try:
        found = connection.execute(keys, execution_options={"yield_per": PAGE}).scalars()
        for page in found.partitions():
            yield 0, [Finding(table.name, _shown(key), problem) for key in page]
    except DBAPIError as error:
        yield 0, [Finding(table.name, "", f"the keys cannot be compared: {error.orig}")]


def _structure(connection: Connection) -> Iterator[Finding]:
    """What SQLite itself finds wrong with pages and indexes."""
    try:
        for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars():
            if line != "ok":
                yield Finding("(the file)", "", line)
    except DBAPIError as error:
        yield Finding("(the file)", "", str(error.orig))


def _count_rows(connection: Connection) -> int:
    counts = [select(func.count()).select_from(table).scalar_subquery() for table in _CHECKS]
    try:
        return sum(connection.execute(select(*counts)).one())
    except DBAPIError:  # Damaged; the pages will say where.
        return 0


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
