"""Merge: other stores' records join a store, and what it serves stays what it was.

Of several sources given at once the oldest completion wins, so their order does not matter either.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from heapq import merge as merge_sorted
from itertools import groupby
from pathlib import Path

from sqlalchemy import Connection

from cache.checks import record_problem
from cache.entries import Refusal, StoredEntry
from cache.errors import ConflictError, StoreDamaged, StoreError
from cache.key_sets import pages
from cache.maintenance import Progress, no_progress, reading, writing
from cache.on_conflict import OnConflict
from cache.places import shown_place
from cache.record_rows import insert_records, insert_teachers
from cache.records import Record, count_records, read_records, records_of
from cache.reports import read_teachers

_NAMED = 20
"""Conflicts that a report names; it counts them all."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One key with two answers, by their content digests."""

    key: bytes
    served: bytes
    other: bytes


@dataclass(slots=True)
class MergeReport:
    """What came of the keys that arrived; a key may count as a conflict and as added."""

    added: int = 0  # New to the store.
    same: int = 0  # Known, and answered alike.
    conflicts: int = 0  # Answered differently by the store and a source, or by two sources.
    refusals_superseded: int = 0  # Refused by one, completed by another: the completion is served.
    teachers_added: int = 0
    named: list[Conflict] = field(default_factory=list)  # The first conflicts.


def merge_stores(
    place: Path | str,
    sources: Sequence[Path | str],
    on_conflict: OnConflict = OnConflict.RECORD,
    progress: Progress = no_progress,
) -> MergeReport:
    """Add the records of the stores `sources` to the store at `place`, all or none.

    A service may write to a source meanwhile; it is read as of one moment.

    Raises:
        ConflictError: stores differ and `on_conflict` is FAIL; the store is as before.
        StoreDamaged: a record of a source does not hash to its key or digest.
        StoreError: a store cannot be used, or the target is among the sources.
    """
    with ExitStack() as opened:
        _refuse_itself(place, sources)
        connections = [opened.enter_context(reading(source)) for source in sources]
        report = MergeReport()
        with writing(place, create=True) as target:
            named = [teacher for source in connections for teacher in read_teachers(source)]
            report.teachers_added = insert_teachers(target, named)
            total = sum(count_records(connection) for connection in connections)
            streams = [
                _sound(read_records(connection), source)
                for connection, source in zip(connections, sources, strict=True)
            ]
            incoming = merge_sorted(*streams, key=lambda record: record.key)
            add_records(target, _told(incoming, total, progress), on_conflict, report)
            require_agreement(report, on_conflict)
        return report


def add_records(
    connection: Connection,
    incoming: Iterable[Record],
    on_conflict: OnConflict,
    report: MergeReport,
) -> None:
    """Add records that arrive by ascending key, several to a key if need be; counts in `report`."""
    groups = (list(group) for _, group in groupby(incoming, key=lambda record: record.key))
    for page in pages(groups):
        known = records_of(connection, [group[0].key for group in page])
        additions = [_settle(known.get(group[0].key), group, on_conflict, report) for group in page]
        insert_records(connection, additions, known)


def require_agreement(report: MergeReport, on_conflict: OnConflict) -> None:
    """Refuse conflicts where they are not allowed.

    Raises:
        ConflictError: with their number and the first.
    """
    if on_conflict is not OnConflict.FAIL or not report.conflicts:
        return
    first = report.named[0]
    raise ConflictError(
        f"{report.conflicts:,} keys are answered differently, the first is {first.key.hex()} "
        f"(served {first.served.hex()[:12]}, other {first.other.hex()[:12]}); nothing was added. "
        "Look with `taco cache show`, or choose --on-conflict record or keep"
    )


def _settle(
    known: Record | None, arrivals: list[Record], on_conflict: OnConflict, report: MergeReport
) -> Record:
    """The record of one key as the store is to have it."""
    ranked = ([known] if known else []) + sorted(arrivals, key=_seniority)
    serving = next((record for record in ranked if record.completion), ranked[0])
    count_arrival(report, serving.served, [each.served for each in ranked], new=known is None)
    if on_conflict is OnConflict.RECORD:
        return _joined(serving.completion, ranked)
    if known is None:
        return ranked[0]
    return _joined(serving.completion, [known])


def _seniority(record: Record) -> tuple[bool, float, bytes]:
    served = record.served
    return record.completion is None, served.created_at, served.content_digest


def count_arrival(
    report: MergeReport, served: StoredEntry, rivals: Sequence[StoredEntry], *, new: bool
) -> None:
    """Count one key: `served` is its answer from now on, out of `rivals`."""
    differing = [each for each in rivals if each.content_digest != served.content_digest]
    refused = [each for each in rivals if _is_refusal(each) and not _is_refusal(served)]
    conflicting = [each for each in differing if _is_refusal(each) == _is_refusal(served)]
    report.added += new
    report.conflicts += bool(conflicting)
    report.refusals_superseded += bool(refused)
    report.same += not new and not differing
    if conflicting and len(report.named) < _NAMED:
        conflict = Conflict(served.key, served.content_digest, conflicting[0].content_digest)
        report.named.append(conflict)


def _is_refusal(entry: StoredEntry) -> bool:
    return isinstance(entry.answer, Refusal)


def _joined(completion: StoredEntry | None, records: Sequence[Record]) -> Record:
    """The first of `records` with the answers of all; `completion` is the one that is served."""
    completed = [entry for record in records for entry in record.completed]
    refused = [entry for record in records for entry in record.refusals]
    served = completion and completion.content_digest
    alternates = [entry for entry in _distinct(completed) if entry.content_digest != served]
    return replace(
        records[0],
        completion=completion,
        alternates=tuple(alternates),
        refusals=tuple(_distinct(refused)),
    )


def _distinct(entries: Iterable[StoredEntry]) -> list[StoredEntry]:
    """The first with each content digest."""
    found: dict[bytes, StoredEntry] = {}
    for entry in entries:
        found.setdefault(entry.content_digest, entry)
    return list(found.values())


def _sound(records: Iterator[Record], source: Path | str) -> Iterator[Record]:
    for record in records:
        if problem := record_problem(record):
            raise StoreDamaged(f"{shown_place(source)}: key {record.key.hex()}: {problem}")
        yield record


def _told(records: Iterator[Record], total: int, progress: Progress) -> Iterator[Record]:
    for done, record in enumerate(records, start=1):
        yield record
        progress(done, total)


def _refuse_itself(place: Path | str, sources: Sequence[Path | str]) -> None:
    for source in sources:
        if source == place or _is_same_file(source, place):
            raise StoreError(
                f"{shown_place(source)} is the target itself; name other stores to merge into it"
            )


def _is_same_file(one: Path | str, other: Path | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return False
    return one.exists() and other.exists() and one.samefile(other)
