"""Prune: remove what was picked by hand, but nothing that a run's lock file still needs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, insert, select

from cache.command_log import log_command
from cache.errors import StoreError
from cache.key_sets import add_keys, count_keys, make_key_set
from cache.maintenance import Progress, no_progress, reading, writing
from cache.models import requests
from cache.records import count_records
from cache.removal import remove_records
from cache.run_locks import needed_keys
from cache.selection import EVERYTHING, Selection, conditions


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune removed, or would remove."""

    selected: int
    kept_for_locks: int  # Of those selected.
    removed: int


def preview_prune(
    place: Path | str, selection: Selection, keep_locks: Sequence[Path] = ()
) -> PruneReport:
    """What `prune_store` would do; changes nothing, and works beside a service.

    Raises:
        StoreError: nothing was selected by anything, or the store cannot be read.
        LockFileError: a lock file cannot be read.
    """
    with reading(place) as connection:
        return _choose(connection, selection, keep_locks)[1]


def prune_store(
    place: Path | str,
    selection: Selection,
    keep_locks: Sequence[Path] = (),
    progress: Progress = no_progress,
) -> PruneReport:
    """Remove what `selection` picks, except what the lock files `keep_locks` need; logged.

    A file keeps its size: the room is used for what is stored next.

    Raises:
        StoreError: nothing was selected by anything, or the store cannot be written.
        LockFileError: a lock file cannot be read; nothing was removed.
    """
    with writing(place) as connection:
        doomed, report = _choose(connection, selection, keep_locks)
        remove_records(connection, doomed, progress)
        details = {
            "teacher": selection.teacher,
            "since": selection.since,
            "before": selection.before,
            "keep_locks": [str(lock) for lock in keep_locks],
        }
        log_command(place, "prune", {**details, **asdict(report)})
    return report


def _choose(
    connection: Connection, selection: Selection, keep_locks: Sequence[Path]
) -> tuple[Table, PruneReport]:
    """The keys that are to go, and the figures."""
    if selection == EVERYTHING:
        raise StoreError(
            "expected what to prune (a teacher, an age, a text or keys); "
            "to remove everything, delete the store itself"
        )
    needed, doomed = make_key_set(connection), make_key_set(connection)
    for lock in keep_locks:
        add_keys(connection, needed, needed_keys(lock))
    picked = select(requests.c.key).where(*conditions(connection, selection))
    unneeded = picked.where(requests.c.key.not_in(select(needed.c.key)))
    connection.execute(insert(doomed).from_select(["key"], unneeded))
    selected, removed = count_records(connection, selection), count_keys(connection, doomed)
    return doomed, PruneReport(selected, selected - removed, removed)
