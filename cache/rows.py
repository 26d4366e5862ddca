"""The statements that the store runs, and how entries become rows and rows entries.

Written by hand, in the SQL that SQLite and PostgreSQL share: an ORM costs several times what the
database itself does.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeAlias

from cache.canonical import JSON, canonical_json
from cache.database import Connection
from cache.entries import (
    Completion,
    NewEntry,
    Refusal,
    StoredEntry,
    TeacherIdentity,
    content_digest,
)
from cache.errors import StoreDamaged, StoreError

_Row: TypeAlias = tuple[Any, ...]

_INSERT_TEACHER = """
INSERT INTO teachers (digest, name, backend, definition, registered_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET registered_at = excluded.registered_at
"""
INSERT_REQUEST = """
INSERT INTO requests (key, teacher_id, document, compressed_text, compressed_sha256, created_at)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
# After its request, whose number it takes.
INSERT_COMPLETION = """
INSERT INTO completions (id, key, text, finish_reason, usage, extra,
                         provenance, latency_ms, content_digest, created_at)
SELECT id, key, ?, ?, ?, ?, ?, ?, ?, ? FROM requests WHERE key = ? ON CONFLICT DO NOTHING
"""
_INSERT_ALTERNATE = """
INSERT INTO alternates (text, finish_reason, usage, extra,
                        provenance, latency_ms, content_digest, created_at, key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_INSERT_REFUSAL = """
INSERT INTO refusals (key, message, reason, provenance, latency_ms, content_digest, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
# What is served: the completion; where there is none, the first refusal.
_SELECT_COMPLETIONS = """
SELECT 0, requests.key, text, finish_reason, usage, extra,
       provenance, latency_ms, content_digest, completions.created_at
FROM requests JOIN completions ON completions.id = requests.id AND completions.key = requests.key
WHERE requests.key IN ({places})
"""
_SELECT_FIRST_REFUSALS = """
SELECT 1, key, message, reason, NULL, NULL,
       provenance, latency_ms, content_digest, created_at
FROM refusals AS this WHERE key IN ({places})
  AND id = (SELECT min(id) FROM refusals WHERE key = this.key)
  AND NOT EXISTS (SELECT 1 FROM requests JOIN completions ON completions.id = requests.id
                  WHERE requests.key = this.key)
"""
# An answer by its content: the served one, or one that is kept beside it.
_SELECT_EXACT = """
WITH wanted (wanted_key, wanted_digest) AS (VALUES {places})
SELECT 0, wanted_key, text, finish_reason, usage, extra,
       provenance, latency_ms, content_digest, completions.created_at
FROM wanted JOIN requests ON requests.key = wanted_key
            JOIN completions ON completions.id = requests.id AND content_digest = wanted_digest
UNION ALL
SELECT 0, key, text, finish_reason, usage, extra,
       provenance, latency_ms, content_digest, created_at
FROM wanted JOIN alternates ON key = wanted_key AND content_digest = wanted_digest
UNION ALL
SELECT 1, key, message, reason, NULL, NULL,
       provenance, latency_ms, content_digest, created_at
FROM wanted JOIN refusals ON key = wanted_key AND content_digest = wanted_digest
"""
_VALUES_A_QUERY = 900  # Even, for pairs; SQLite before 3.32 binds at most 999.


def select_served(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, StoredEntry]:
    """What the store serves for each of `keys` that it knows; one query for up to 900 keys.

    A second one looks for refusals, but only of keys that have no completion: hits, which are most
    of what is looked up, then cost one probe of one index each.
    """
    rows = _select(connection, _SELECT_COMPLETIONS, "?", keys)
    found = {row[1]: _stored_entry(*row) for row in rows}
    if missing := [key for key in keys if key not in found]:
        rows = _select(connection, _SELECT_FIRST_REFUSALS, "?", missing)
        found |= {row[1]: _stored_entry(*row) for row in rows}
    return found


def select_exact(
    connection: Connection, wanted: Sequence[tuple[bytes, bytes]]
) -> dict[tuple[bytes, bytes], StoredEntry]:
    """The answers with these keys and content digests, served or kept beside what is.

    Raises:
        StoreDamaged: one of them has not the digest that is stored with it.
    """
    rows = _select(connection, _SELECT_EXACT, "(?,?)", list(chain.from_iterable(wanted)))
    entries = [_stored_entry(*row) for row in rows]
    for entry in entries:
        if content_digest(entry.answer) != entry.content_digest:
            raise StoreDamaged(
                f"the answer to key {entry.key.hex()} is not the one that was stored: "
                "`taco cache verify` names every such row; restore the store from a backup"
            )
    return {(entry.key, entry.content_digest): entry for entry in entries}


def insert_entries(connection: Connection, entries: Sequence[NewEntry]) -> list[StoredEntry]:
    """Add `entries`, and return what the store now serves for each of them, in order.

    The first completion of a key is its answer for good; one that differs from it is kept beside
    it, as an alternate.

    Raises:
        StoreError: an entry's teacher was never registered.
        StoreDamaged: another key's completion has the number of an entry's request.
        CanonicalError: an answer has no canonical JSON.
    """
    now = time.time()
    fresh = [_as_served(entry, now) for entry in entries]
    completed = [(each, each.answer) for each in fresh if isinstance(each.answer, Completion)]
    refused = [(each, each.answer) for each in fresh if isinstance(each.answer, Refusal)]
    teachers = _teacher_ids(connection, {entry.teacher_digest for entry in entries})
    connection.executemany(
        INSERT_REQUEST,
        [
            _request_row(entry, teachers[entry.teacher_digest], served.created_at)
            for entry, served in zip(entries, fresh, strict=True)
        ],
    )
    added = connection.executemany(
        INSERT_COMPLETION, [_completion_row(*pair) for pair in completed]
    ).rowcount
    if added == len(entries):
        return fresh
    connection.executemany(_INSERT_REFUSAL, [_refusal_row(*pair) for pair in refused])
    served = select_served(connection, [each.key for each in fresh])
    for each in fresh:
        if each.key not in served:
            raise StoreDamaged(
                f"the answer to key {each.key.hex()} cannot be stored, its place is taken by "
                "another's: `taco cache verify` names every such row; restore the store from a "
                "backup"
            )
    differing = [
        _completion_row(each, answer)
        for each, answer in completed
        if each.content_digest != served[each.key].content_digest
    ]
    connection.executemany(_INSERT_ALTERNATE, differing)
    return [served[each.key] for each in fresh]


def insert_teacher(connection: Connection, identity: TeacherIdentity) -> None:
    """Add a teacher, or note that a known one is in use again."""
    definition = canonical_json(dict(identity.definition)).decode()
    connection.execute(
        _INSERT_TEACHER,
        (identity.digest, identity.name, identity.backend, definition, time.time()),
    )


def write_and_remove(connection: Connection, size: int = 1 << 16) -> None:
    """Write `size` bytes and take them back in the same transaction, to see whether it commits."""
    connection.execute(_INSERT_TEACHER, ("probe", "", "", "x" * size, 0.0))
    connection.execute("DELETE FROM teachers WHERE digest = 'probe'")


def _select(connection: Connection, query: str, place: str, values: Sequence[bytes]) -> list[_Row]:
    """The rows of a query that takes its values as a table with rows of the form `place`."""
    rows: list[_Row] = []
    for start in range(0, len(values), _VALUES_A_QUERY):
        part = values[start : start + _VALUES_A_QUERY]
        places = ",".join([place] * (len(part) // place.count("?")))
        rows += connection.execute(query.format(places=places), part)
    return rows


def _teacher_ids(connection: Connection, digests: set[str]) -> dict[str, int]:
    known = {}
    for digest in digests:
        row = connection.execute("SELECT id FROM teachers WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise StoreError(f"the teacher {digest} is not in the store: call register_teacher")
        known[digest] = row[0]
    return known


def _as_served(entry: NewEntry, now: float) -> StoredEntry:
    created_at = now if entry.created_at is None else entry.created_at
    digest = content_digest(entry.answer)
    return StoredEntry(entry.fingerprint.key, entry.answer, digest, created_at)


def _request_row(entry: NewEntry, teacher_id: int, now: float) -> _Row:
    text = entry.compressed_text
    sha256 = None if text is None else hashlib.sha256(text.encode()).digest()
    return entry.fingerprint.key, teacher_id, entry.fingerprint.document, text, sha256, now


def _completion_row(entry: StoredEntry, answer: Completion) -> _Row:
    return (
        answer.text,
        answer.finish_reason,
        _to_json(answer.usage),
        _to_json(answer.extra),
        _to_json(answer.provenance),
        answer.latency_ms,
        entry.content_digest,
        entry.created_at,
        entry.key,
    )


def _refusal_row(entry: StoredEntry, answer: Refusal) -> _Row:
    return (
        entry.key,
        answer.message,
        answer.reason,
        _to_json(answer.provenance),
        answer.latency_ms,
        entry.content_digest,
        entry.created_at,
    )


def _to_json(value: Mapping[str, JSON] | None) -> str | None:
    return None if value is None else canonical_json(dict(value)).decode()


# Few values recur in many rows, and parsing them would cost as much as reading the row.
_parse_shared = lru_cache(maxsize=4096)(json.loads)


def _stored_entry(
    refused: int,
    key: bytes,
    text: str | None,
    reason: str,
    usage: str | None,
    extra: str | None,
    provenance: str,
    latency_ms: float | None,
    digest: bytes,
    created_at: float,
) -> StoredEntry:
    made = _parse_shared(provenance)
    if refused:
        return StoredEntry(key, Refusal(reason, text or "", made, latency_ms), digest, created_at)
    completion = Completion(
        text,
        reason,
        None if usage is None else _parse_shared(usage),
        None if extra is None else json.loads(extra),
        made,
        latency_ms,
    )
    return StoredEntry(key, completion, digest, created_at)
