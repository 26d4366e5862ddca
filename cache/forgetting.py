"""Forget: remove what was asked about a text, or by a run, so that no bytes of it stay stored."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, insert, select

from cache.canonical import JSON, canonical_json
from cache.command_log import log_command
from cache.errors import StoreError
from cache.key_sets import PAGE, add_keys, make_key_set
from cache.maintenance import Progress, no_progress, writing
from cache.models import requests, run_uses, runs
from cache.records import count_records
from cache.removal import remove_records
from cache.selection import Selection, conditions, find_key
from cache.uses import ANONYMOUS


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What was forgotten, and where else the text may be."""

    removed: int
    within_longer_texts: int  # Requests that still contain the text as a part of something longer.
    copies: tuple[Path, ...]  # Backups from migrations beside the store: not touched.
    used_by_other_runs: int = 0  # Of those removed by a run's name.


def forget_text(place: Path | str, text: str, progress: Progress = no_progress) -> ForgetReport:
    """Remove every request whose compressed text, or one of whose strings, is exactly `text`.

    The file is rewritten and its log emptied, so no bytes of these requests and their answers
    stay in either; a database's tables are rewritten, its own log is the server's. What a file
    system, a drive or an earlier copy keeps is out of reach. Lock files do not protect a request
    here.

    Args:
        place: The store.
        text: The whole text of an item or a message, not a part of it.
        progress: Counts requests that were looked through.

    Raises:
        StoreLocked: a service holds the store, or readers keep old pages alive (then the requests
            are removed; do it again once they are gone).
        StoreFull: no room to write the file once more; nothing was removed.
    """
    with writing(place, erase=True) as connection:
        doomed = make_key_set(connection)
        picked = select(requests.c.key).where(*conditions(connection, Selection(text=text)))
        add_keys(connection, doomed, connection.execute(picked).scalars().all())
        add_keys(connection, doomed, _saying(connection, text, progress))
        removed = remove_records(connection, doomed, no_progress)
        elsewhere = sum(1 for _ in _containing(connection, text, no_progress))
        _log(place, removed)
    return ForgetReport(removed, elsewhere, _copies(place))


def forget_keys(
    place: Path | str, keys: Sequence[str], progress: Progress = no_progress
) -> ForgetReport:
    """Remove the requests of `keys` (their first hexadecimal digits) as `forget_text` does.

    Raises:
        StoreError: a key fits none or several; nothing was removed.
    """
    with writing(place, erase=True) as connection:
        doomed = make_key_set(connection, [find_key(connection, key) for key in keys])
        removed = remove_records(connection, doomed, progress)
        _log(place, removed)
    return ForgetReport(removed, 0, _copies(place))


def forget_run(place: Path | str, run: str, progress: Progress = no_progress) -> ForgetReport:
    """Remove every request that the run was served, as `forget_text` does.

    Those that other runs were served too go with them, and are counted. Which keys the run used
    stays known, and what was spent and saved: keys are hashes.

    Raises:
        StoreError: the store knows no such run; nothing was removed.
    """
    with writing(place, erase=True) as connection:
        run_id = _run_id(connection, run)
        doomed = make_key_set(connection)
        its_own = select(run_uses.c.key).where(run_uses.c.run_id == run_id)
        picked = select(requests.c.key).where(requests.c.key.in_(its_own))
        connection.execute(insert(doomed).from_select(["key"], picked))
        others = select(func.count(run_uses.c.key.distinct())).where(
            run_uses.c.run_id != run_id, run_uses.c.key.in_(select(doomed.c.key))
        )
        shared = connection.execute(others).scalar_one()
        removed = remove_records(connection, doomed, progress)
        _log(place, removed)
    return ForgetReport(removed, 0, _copies(place), shared)


def _run_id(connection: Connection, name: str) -> int:
    found = connection.execute(select(runs.c.id).where(runs.c.name == name)).scalar()
    if found is None or name == ANONYMOUS:
        raise StoreError(f"the store knows no run {name!r}: `taco cache runs` lists them")
    return int(found)


def _saying(connection: Connection, text: str, progress: Progress) -> Iterator[bytes]:
    """The keys of the requests of which one string is exactly `text`."""
    for key, document in _containing(connection, text, progress):
        if _has_string(json.loads(document)["request"], text):
            yield key


def _containing(
    connection: Connection, text: str, progress: Progress
) -> Iterator[tuple[bytes, str]]:
    """The keys and documents that contain `text`, whole or as a part of a string.

    Compared here, not in SQL: SQLite's LIKE takes patterns of 50,000 bytes at most.
    """
    written = canonical_json(text).decode()[1:-1]
    total, done, last = count_records(connection), 0, 0
    query = select(requests.c.id, requests.c.key, requests.c.document).order_by(requests.c.id)
    while rows := connection.execute(query.where(requests.c.id > last).limit(PAGE)).all():
        yield from ((row.key, row.document) for row in rows if written in row.document)
        done, last = done + len(rows), rows[-1].id
        progress(done, total)


def _has_string(value: JSON, text: str) -> bool:
    if isinstance(value, str):
        return value == text
    if isinstance(value, Mapping):
        return any(_has_string(item, text) for item in value.values())
    return isinstance(value, Sequence) and any(_has_string(item, text) for item in value)


def _log(place: Path | str, removed: int) -> None:
    """Note that something was forgotten, and nothing from which it could be guessed."""
    log_command(place, "forget", {"removed": removed})


def _copies(place: Path | str) -> tuple[Path, ...]:
    if isinstance(place, str):
        return ()
    path = place.expanduser()
    return tuple(sorted(path.parent.glob(f"{path.name}.before-*")))
