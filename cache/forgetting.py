"""Forget: remove what was asked about a text, so that its bytes are gone from the disk."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from cache.canonical import JSON, canonical_json
from cache.key_sets import PAGE, add_keys, make_key_set
from cache.maintenance import Progress, log_command, no_progress, writing
from cache.models import requests
from cache.records import count_records
from cache.removal import remove_records
from cache.selection import Selection, conditions, find_key


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What was forgotten, and where else the text may be."""

    removed: int
    within_longer_texts: int  # Requests that still contain the text as a part of something longer.
    copies: tuple[Path, ...]  # Backups from migrations beside the store: not touched.


def forget_text(path: Path, text: str, progress: Progress = no_progress) -> ForgetReport:
    """Remove every request whose compressed text, or one of whose strings, is exactly `text`.

    The file is rewritten and its log emptied, so no bytes of these requests and their answers
    stay in either. What a file system, a drive or an earlier copy keeps is out of reach. Lock files
    do not protect a request here.

    Args:
        path: The store.
        text: The whole text of an item or a message, not a part of it.
        progress: Counts requests that were looked through.

    Raises:
        StoreLocked: a service holds the store, or readers keep old pages alive (then the requests
            are removed; do it again once they are gone).
        StoreFull: no room to write the file once more; nothing was removed.
    """
    with writing(path, erase=True) as connection:
        doomed = make_key_set(connection)
        picked = select(requests.c.key).where(*conditions(connection, Selection(text=text)))
        add_keys(connection, doomed, connection.execute(picked).scalars().all())
        add_keys(connection, doomed, _saying(connection, text, progress))
        removed = remove_records(connection, doomed, no_progress)
        elsewhere = sum(1 for _ in _containing(connection, text, no_progress))
        _log(path, removed)
    return ForgetReport(removed, elsewhere, _copies(path))


def forget_keys(path: Path, keys: Sequence[str], progress: Progress = no_progress) -> ForgetReport:
    """Remove the requests of `keys` (their first hexadecimal digits) as `forget_text` does.

    Raises:
        StoreError: a key fits none or several; nothing was removed.
    """
    with writing(path, erase=True) as connection:
        doomed = make_key_set(connection, [find_key(connection, key) for key in keys])
        removed = remove_records(connection, doomed, progress)
        _log(path, removed)
    return ForgetReport(removed, 0, _copies(path))


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


def _log(path: Path, removed: int) -> None:
    """Note that something was forgotten, and nothing from which it could be guessed."""
    log_command(path, "forget", {"removed": removed})


def _copies(path: Path) -> tuple[Path, ...]:
    path = path.expanduser()
    return tuple(sorted(path.parent.glob(f"{path.name}.before-*")))
