"""Import into a store that is open: page by page, while it serves, on any database."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cache.entries import NewEntry
from cache.fingerprint import Fingerprint
from cache.importing import open_export
from cache.key_sets import pages
from cache.maintenance import Progress, no_progress
from cache.merging import MergeReport, count_arrival
from cache.records import Record
from cache.store import CompletionStore


def import_into(
    store: CompletionStore, source: Path, progress: Progress = no_progress
) -> MergeReport:
    """Add the records of the export `source` to an open store; what it serves stays what it was.

    An answer that differs is kept beside the one that is served. The export is checked to its
    trailer before its first record is added. A crash between two pages leaves those that came
    before: the same import again adds the rest. `progress` counts bytes.

    Raises:
        ExportError: `source` is no export, was cut short or changed; nothing was imported.
        StoreError: the store cannot be written.
    """
    with open_export(source) as checked:
        checked.teachers()
        for _ in checked.records(no_progress):
            pass
    report = MergeReport()
    with open_export(source) as lines:
        known = {teacher.digest for teacher in store.teachers()}
        for teacher in lines.teachers():
            if teacher.digest not in known:
                store.register_teacher(teacher)
                report.teachers_added += 1
        for page in pages(lines.records(progress)):
            _add(store, page, report)
    return report


def _add(store: CompletionStore, page: Sequence[Record], report: MergeReport) -> None:
    keys = [record.key for record in page]
    before = store.lookup(keys)
    store.commit([entry for record in page for entry in _entries(record)]).result()
    after = store.lookup(keys)
    for record in page:
        known = before.get(record.key)
        rivals = [record.served, *([known] if known else [])]
        count_arrival(report, after[record.key], rivals, new=known is None)


def _entries(record: Record) -> Iterator[NewEntry]:
    """Every answer of a record; the store serves the first completion that it is given."""
    asked = Fingerprint(record.key, record.document)
    for answer in record.answers:
        yield NewEntry(
            asked, record.teacher_digest, record.compressed_text, answer.answer, answer.created_at
        )
