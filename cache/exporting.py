"""Export: a store, or a part of it, as a file of lines that any program can read."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from cache.checks import record_problem
from cache.entries import TeacherIdentity
from cache.errors import StoreDamaged
from cache.export_lines import decode_trailer, encode_header, encode_record, encode_trailer
from cache.maintenance import Progress, no_progress, reading
from cache.models import requests
from cache.new_file import new_file
from cache.records import Record, count_records, read_records
from cache.reports import read_teachers
from cache.selection import EVERYTHING, Selection, conditions


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export holds."""

    entries: int
    sha256: str  # 64 hex digits, as in the trailer: equal content gives equal digests.


def export_store(
    place: Path | str,
    target: Path,
    selection: Selection = EVERYTHING,
    progress: Progress = no_progress,
) -> ExportReport:
    """Write what `selection` picks of the store at `place` to the new file `target`.

    The export shows the store as of one moment; a service may write meanwhile.

    Raises:
        StoreDamaged: a record does not hash to its key or digest; the message names it.
        StoreError: the store cannot be read, or no teacher matches.
        ExportError: `target` exists, or cannot be written.
    """
    with reading(place) as connection, new_file(target) as partial:
        total = count_records(connection, selection)
        with partial.open("wb") as file:
            for done, line in enumerate(export_lines(connection, selection)):
                file.write(line)
                progress(min(done, total), total)
    trailer = decode_trailer(line)
    assert trailer
    return ExportReport(*trailer)


def export_lines(connection: Connection, selection: Selection = EVERYTHING) -> Iterator[bytes]:
    """An export line by line, from the header to the trailer.

    Raises:
        StoreDamaged: a record does not hash to its key or digest; the message names it.
        StoreError: no teacher matches.
    """
    digest, records = hashlib.sha256(), -1  # The header is none.
    for line in _lines(connection, selection):
        digest.update(line)
        records += 1
        yield line
    yield encode_trailer(records, digest.hexdigest())


def _lines(connection: Connection, selection: Selection) -> Iterator[bytes]:
    yield encode_header(_teachers(connection, selection))
    try:
        for record in read_records(connection, selection):
            _require_sound(record)
            yield encode_record(record)
    except ValueError as error:
        raise StoreDamaged(
            f"{error}: the export is not complete. `taco cache verify` names all damaged rows; "
            "restore the file from a backup"
        ) from error


def _require_sound(record: Record) -> None:
    if problem := record_problem(record):
        raise ValueError(f"key {record.key.hex()}: {problem}")


def _teachers(connection: Connection, selection: Selection) -> list[TeacherIdentity]:
    """All of them for a whole store, otherwise those whose records are picked."""
    known = read_teachers(connection)
    if selection == EVERYTHING:
        return known
    picked = select(requests.c.teacher_id).where(*conditions(connection, selection)).distinct()
    return read_teachers(connection, picked)
