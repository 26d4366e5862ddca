"""Promote: let an alternate be the answer, and keep the former answer as an alternate."""

from pathlib import Path

from sqlalchemy import Connection, ScalarSelect, delete, insert, select, update

from cache.command_log import log_command
from cache.entries import StoredEntry
from cache.errors import StoreError
from cache.maintenance import writing
from cache.models import alternates, completions, requests, search_words
from cache.record_rows import completion_row
from cache.records import Record, records_of
from cache.selection import find_key
from cache.sqlite_file import discard_word_file


def promote_alternate(place: Path | str, key: str, digest: str) -> Record:
    """Serve for `key` the alternate whose content digest is `digest`; logged.

    Both may be the first hexadecimal digits, as long as they fit one only.

    Returns:
        The record as it is now.

    Raises:
        StoreError: there is no such key, or no such alternate; the message lists those there are.
    """
    with writing(place) as connection:
        found = find_key(connection, key)
        record = records_of(connection, [found])[found]
        chosen = _pick(record, digest.lower())
        former = record.completion
        assert former, "a key with alternates has a completion"
        number = select(requests.c.id).where(requests.c.key == found).scalar_subquery()
        connection.execute(
            delete(alternates).where(
                alternates.c.key == found,
                alternates.c.content_digest.in_([chosen.content_digest, former.content_digest]),
            )
        )
        connection.execute(
            update(completions).where(completions.c.id == number).values(completion_row(chosen))
        )
        connection.execute(insert(alternates), completion_row(former))
        _index_anew(connection, place, number)
        promoted = records_of(connection, [found])[found]
        log_command(
            place,
            "promote",
            {
                "key": found.hex(),
                "from": former.content_digest.hex(),
                "to": chosen.content_digest.hex(),
            },
        )
    return promoted


def _index_anew(connection: Connection, place: Path | str, number: ScalarSelect[int]) -> None:
    """Let the entry be found by the words of its new answer."""
    if isinstance(place, Path):
        discard_word_file(place.expanduser().absolute())
    changed = update(search_words).where(search_words.c.id == number)
    connection.execute(changed.values(answered=False))


def _pick(record: Record, digest: str) -> StoredEntry:
    fitting = [each for each in record.alternates if each.content_digest.hex().startswith(digest)]
    if len(fitting) == 1:
        return fitting[0]
    held = ", ".join(each.content_digest.hex() for each in record.alternates) or "none"
    problem = "several alternates start" if fitting else "no alternate starts"
    raise StoreError(
        f"key {record.key.hex()}: {problem} with {digest!r}; its alternates are: {held}"
    )
