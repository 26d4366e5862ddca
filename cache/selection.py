"""Which records a command is about, and how that reads in SQL."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, or_, select

from cache.errors import StoreError
from cache.key_sets import make_key_set
from cache.models import completions, requests, teachers


@dataclass(frozen=True, slots=True)
class Selection:
    """Records that meet every condition given; None: any."""

    teacher: str | None = None  # A name, or the start of a digest: all teachers that match.
    text: str | None = None  # The compressed text, exactly.
    keys: Collection[bytes] | None = None
    since: float | None = None  # First asked at this time or later; seconds since the epoch.
    before: float | None = None  # First asked earlier than this.


EVERYTHING = Selection()


def conditions(connection: Connection, selection: Selection) -> list[ColumnElement[bool]]:
    """`selection` as conditions on `requests`.

    Raises:
        StoreError: no teacher of the store matches.
    """
    found: list[ColumnElement[bool]] = []
    if selection.teacher is not None:
        found.append(requests.c.teacher_id.in_(teacher_ids(connection, selection.teacher)))
    if selection.text is not None:
        sha256 = hashlib.sha256(selection.text.encode()).digest()
        found.append(requests.c.compressed_sha256 == sha256)
    if selection.keys is not None:
        key_set = make_key_set(connection, selection.keys)
        found.append(requests.c.key.in_(select(key_set.c.key)))
    if selection.since is not None:
        found.append(requests.c.created_at >= selection.since)
    if selection.before is not None:
        found.append(requests.c.created_at < selection.before)
    return found


def with_keys(table: Table, keys: Collection[bytes]) -> ColumnElement[bool]:
    """The condition that picks the rows of a table of answers with these keys, by an index."""
    if table is completions:
        return table.c.id.in_(select(requests.c.id).where(requests.c.key.in_(keys)))
    return table.c.key.in_(keys)


def teacher_ids(connection: Connection, wanted: str) -> list[int]:
    """The row numbers of the teachers called `wanted`, or whose digest starts so.

    Raises:
        StoreError: there is none; the message lists those that are stored.
    """
    called = or_(teachers.c.name == wanted, teachers.c.digest.startswith(wanted, autoescape=True))
    ids = connection.execute(select(teachers.c.id).where(called)).scalars().all()
    if ids:
        return list(ids)
    rows = connection.execute(select(teachers.c.name, teachers.c.digest)).all()
    held = ", ".join(f"{row.name} ({row.digest[:12]})" for row in rows) or "none"
    raise StoreError(f"no teacher matches {wanted!r}; the store holds: {held}")


def find_key(connection: Connection, start: str) -> bytes:
    """The one stored key that starts with the hexadecimal digits `start`.

    Raises:
        StoreError: no hexadecimal digits, none, or several.
    """
    digits = start.lower()
    if not digits or len(digits) > 64 or not set(digits) <= set("0123456789abcdef"):
        raise StoreError(f"a key is up to 64 hexadecimal digits, not {start!r}")
    low, high = bytes.fromhex(digits.ljust(64, "0")), bytes.fromhex(digits.ljust(64, "f"))
    query = select(requests.c.key).where(requests.c.key.between(low, high)).limit(2)
    found = connection.execute(query).scalars().all()
    if len(found) == 1:
        return bytes(found[0])
    problem = "several keys start" if found else "no stored key starts"
    raise StoreError(f"{problem} with {start}: give more digits, or look with `taco cache find`")
