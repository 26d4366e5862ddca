"""How records and teachers become rows; SQLAlchemy writes the SQL."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from cache.canonical import JSON, canonical_json
from cache.entries import Completion, Refusal, StoredEntry, TeacherIdentity
from cache.models import alternates, completions, refusals, requests, teachers
from cache.records import Record


def insert_teachers(connection: Connection, identities: Sequence[TeacherIdentity]) -> int:
    """Add the teachers that are not known yet; returns how many those are.

    Of several descriptions of one teacher the one registered last counts, in whatever order.
    """
    known = set(connection.execute(select(teachers.c.digest)).scalars())
    ranked = sorted(identities, key=lambda each: (each.registered_at or 0.0, each.name))
    fresh = {each.digest: each for each in ranked if each.digest not in known}
    _insert(connection, teachers, map(_teacher_row, fresh.values()))
    return len(fresh)


def insert_records(
    connection: Connection, wanted: Sequence[Record], known: Mapping[bytes, Record]
) -> None:
    """Add what `wanted` has and `known`, the stored records of the same keys, has not."""
    ids = {
        row.digest: row.id for row in connection.execute(select(teachers.c.id, teachers.c.digest))
    }
    fresh = [record for record in wanted if record.key not in known]
    _insert(connection, requests, (_request_row(each, ids[each.teacher_digest]) for each in fresh))
    completed = [
        record.completion
        for record in wanted
        if record.completion and not _stored_completion(known.get(record.key))
    ]
    numbers = _numbers(connection, [entry.key for entry in completed])
    _insert(
        connection,
        completions,
        ({"id": numbers[entry.key], **completion_row(entry)} for entry in completed),
    )
    digests = {
        key: {entry.content_digest for entry in record.answers} for key, record in known.items()
    }
    others = [entry for record in wanted for entry in record.alternates]
    refused = [entry for record in wanted for entry in record.refusals]
    _insert(connection, alternates, map(completion_row, _unknown(others, digests)))
    _insert(connection, refusals, map(refusal_row, _unknown(refused, digests)))


def completion_row(entry: StoredEntry) -> dict[str, Any]:
    """A row of `alternates`, or of `completions` less the request's number."""
    assert isinstance(entry.answer, Completion)
    return {
        "key": entry.key,
        "text": entry.answer.text,
        "finish_reason": entry.answer.finish_reason,
        "usage": _to_json(entry.answer.usage),
        "extra": _to_json(entry.answer.extra),
        **_how_it_came(entry),
    }


def refusal_row(entry: StoredEntry) -> dict[str, Any]:
    """A row of `refusals`."""
    assert isinstance(entry.answer, Refusal)
    return {
        "key": entry.key,
        "reason": entry.answer.reason,
        "message": entry.answer.message,
        **_how_it_came(entry),
    }


def _how_it_came(entry: StoredEntry) -> dict[str, Any]:
    return {
        "provenance": _to_json(entry.answer.provenance),
        "latency_ms": entry.answer.latency_ms,
        "content_digest": entry.content_digest,
        "created_at": entry.created_at,
    }


def _teacher_row(identity: TeacherIdentity) -> dict[str, Any]:
    return {
        "digest": identity.digest,
        "name": identity.name,
        "backend": identity.backend,
        "definition": _to_json(identity.definition),
        "registered_at": identity.registered_at or time.time(),
    }


def _request_row(record: Record, teacher_id: int) -> dict[str, Any]:
    text = record.compressed_text
    return {
        "key": record.key,
        "teacher_id": teacher_id,
        "document": record.document,
        "compressed_text": text,
        "compressed_sha256": None if text is None else hashlib.sha256(text.encode()).digest(),
        "created_at": record.created_at,
    }


def _numbers(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, int]:
    """The rows' numbers of the requests with these keys; at most `PAGE` keys."""
    query = select(requests.c.key, requests.c.id).where(requests.c.key.in_(keys))
    return {row.key: row.id for row in connection.execute(query)}


def _stored_completion(known: Record | None) -> StoredEntry | None:
    return known.completion if known else None


def _unknown(
    entries: Iterable[StoredEntry], digests: Mapping[bytes, set[bytes]]
) -> list[StoredEntry]:
    return [each for each in entries if each.content_digest not in digests.get(each.key, ())]


def _insert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    if listed := list(rows):
        connection.execute(insert(table), listed)


def _to_json(value: Mapping[str, JSON] | None) -> str | None:
    return None if value is None else canonical_json(dict(value)).decode()
