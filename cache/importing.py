"""Import: an export's records join a store; all of them, or none."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cache.entries import TeacherIdentity
from cache.errors import ExportError
from cache.export_lines import decode_header, decode_record, decode_trailer
from cache.maintenance import Progress, no_progress, writing
from cache.merging import MergeReport, add_records, require_agreement
from cache.on_conflict import OnConflict
from cache.record_rows import insert_teachers
from cache.records import Record


def import_store(
    place: Path | str,
    source: Path,
    on_conflict: OnConflict = OnConflict.RECORD,
    progress: Progress = no_progress,
) -> MergeReport:
    """Add the records of the export `source` to the store at `place`; a file may be new.

    Every line is checked: the document against the key, each answer against its digest, and in
    the end all of them against the trailer. `progress` counts bytes.

    Raises:
        ExportError: `source` is no export, was cut short or changed; nothing was imported.
        ConflictError: answers differ and `on_conflict` is FAIL; nothing was imported.
        StoreError: the store cannot be written.
    """
    with open_export(source) as lines:
        teachers = lines.teachers()
        report = MergeReport()
        with writing(place, create=True) as connection:
            report.teachers_added = insert_teachers(connection, teachers)
            add_records(connection, lines.records(progress), on_conflict, report)
            require_agreement(report, on_conflict)
    return report


@contextmanager
def open_export(source: Path) -> Iterator["ExportFile"]:
    """An export to read.

    Raises:
        ExportError: `source` cannot be read.
    """
    try:
        file = source.open("rb")
    except OSError as error:
        raise ExportError(f"{source} cannot be read: {error.strerror}") from error
    with file:
        yield ExportFile(file, source)


@dataclass(slots=True)
class ExportFile:
    """An open export, read once from its first line to its trailer."""

    file: BinaryIO
    source: Path
    number: int = 0  # Of the line that was read last.
    teacher_digests: set[str] = field(default_factory=set)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def teachers(self) -> list[TeacherIdentity]:
        """Those of the header; comes first."""
        self.number, line = 1, self.file.readline()
        try:
            teachers = decode_header(line)
        except ValueError as error:
            raise self._error(f"{error}") from error
        self.digest.update(line)
        self.teacher_digests = {teacher.digest for teacher in teachers}
        return teachers

    def records(self, progress: Progress) -> Iterator[Record]:
        """Every record, and at the end the check against the trailer."""
        size, last, count = os.fstat(self.file.fileno()).st_size, b"", 0
        for line in self.file:
            self.number += 1
            try:
                if trailer := decode_trailer(line):
                    self._check_trailer(trailer, count)
                    return
                record = self._record(line, last)
            except ValueError as error:
                raise self._error(f"{error}") from error
            self.digest.update(line)
            last, count = record.key, count + 1
            yield record
            progress(self.file.tell(), size)
        raise self._cut_short(count)

    def _record(self, line: bytes, last: bytes) -> Record:
        if not line.endswith(b"\n"):
            raise self._cut_short(self.number - 2)
        record = decode_record(line)
        if record.key <= last:
            raise ValueError(f"key {record.key.hex()} is not greater than the one before it")
        if record.teacher_digest not in self.teacher_digests:
            raise ValueError(f"the header does not name the teacher {record.teacher_digest}")
        return record

    def _check_trailer(self, trailer: tuple[int, str], count: int) -> None:
        found = count, self.digest.hexdigest()
        if found != trailer:
            raise ValueError(
                f"the trailer says {trailer[0]:,} records with SHA-256 {trailer[1]}, "
                f"the file has {found[0]:,} with {found[1]}: it was changed"
            )
        if self.file.readline():
            raise ValueError("the trailer is followed by more lines: expected the end of the file")

    def _cut_short(self, count: int) -> ExportError:
        return ExportError(
            f"{self.source} was cut short: {count:,} whole records and no trailer; nothing was "
            "imported. Copy the file or make the export again"
        )

    def _error(self, problem: str) -> ExportError:
        return ExportError(
            f"{self.source}, line {self.number}: {problem}; nothing was imported. "
            "Copy the file or make the export again"
        )
