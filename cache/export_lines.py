"""The export format: canonical JSON, one document a line.

    {"export":"taco-completions","teachers":[...],"version":1}     the header
    {"alternates":[...],"completion":{...},"key":"...",...}        one record; keys ascend
    {"entries":2,"sha256":"..."}                                   the trailer

`sha256` is over all lines before the trailer, newlines included. Nothing in the file depends on
when or where it was made: equal content gives equal bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from cache.canonical import JSON, canonical_json, parse_json
from cache.checks import record_problem
from cache.entries import Completion, Refusal, StoredEntry, TeacherIdentity
from cache.records import Record

FORMAT = "taco-completions"
VERSION = 1

T = TypeVar("T")


def encode_header(teachers: Sequence[TeacherIdentity]) -> bytes:
    """The first line."""
    listed = [
        {
            "digest": teacher.digest,
            "name": teacher.name,
            "backend": teacher.backend,
            "definition": teacher.definition,
            "registered_at": teacher.registered_at,
        }
        for teacher in teachers
    ]
    return _line({"export": FORMAT, "version": VERSION, "teachers": listed})


def encode_record(record: Record) -> bytes:
    """One record as a line."""
    return _line(
        {
            "key": record.key.hex(),
            "document": parse_json(record.document),
            "compressed_text": record.compressed_text,
            "created_at": record.created_at,
            "completion": _from_completion(record.completion) if record.completion else None,
            "alternates": [_from_completion(entry) for entry in record.alternates],
            "refusals": [_from_refusal(entry) for entry in record.refusals],
        }
    )


def encode_trailer(entries: int, sha256: str) -> bytes:
    """The last line."""
    return _line({"entries": entries, "sha256": sha256})


def decode_header(line: bytes) -> list[TeacherIdentity]:
    """The teachers that an export's first line names.

    Raises:
        ValueError: it is no header, or of another version; the text says which.
    """
    header = parse_json(line)
    if not isinstance(header, Mapping) or header.get("export") != FORMAT:
        raise ValueError(f'expected the header of an export ("export": "{FORMAT}")')
    if header.get("version") != VERSION:
        raise ValueError(
            f"expected version {VERSION} of the format, got {header.get('version')}: "
            "use the version of taco-rewards that wrote it"
        )
    return [_to_teacher(listed) for listed in _field(header, "teachers", list)]


def decode_record(line: bytes) -> Record:
    """The record on a line, checked: document against key, answers against their digests.

    Raises:
        ValueError: what is wrong with it.
    """
    fields = _object(parse_json(line))
    key = _digest(fields, "key")
    document = _field(fields, "document", dict)
    record = Record(
        key,
        _field(document, "teacher", str),
        canonical_json(document).decode(),
        _optional(fields, "compressed_text", str),
        _number(fields, "created_at"),
        _to_completion(key, fields["completion"]) if fields.get("completion") else None,
        tuple(_to_completion(key, answer) for answer in _field(fields, "alternates", list)),
        tuple(_to_refusal(key, answer) for answer in _field(fields, "refusals", list)),
    )
    if problem := record_problem(record):
        raise ValueError(f"key {key.hex()}: {problem}")
    return record


def decode_trailer(line: bytes) -> tuple[int, str] | None:
    """Number of records and SHA-256 as the last line states them; None: it is a record.

    Raises:
        ValueError: it is no trailer after all.
    """
    if not line.startswith(b'{"entries":'):  # The first key of a record is "alternates".
        return None
    fields = _object(parse_json(line))
    return _field(fields, "entries", int), _field(fields, "sha256", str)


def _line(value: JSON) -> bytes:
    return canonical_json(value) + b"\n"


def _from_completion(entry: StoredEntry) -> dict[str, JSON]:
    assert isinstance(entry.answer, Completion)
    return {
        "text": entry.answer.text,
        "finish_reason": entry.answer.finish_reason,
        "usage": entry.answer.usage,
        "extra": entry.answer.extra,
        **_how_it_came(entry),
    }


def _from_refusal(entry: StoredEntry) -> dict[str, JSON]:
    assert isinstance(entry.answer, Refusal)
    return {
        "reason": entry.answer.reason,
        "message": entry.answer.message,
        **_how_it_came(entry),
    }


def _how_it_came(entry: StoredEntry) -> dict[str, JSON]:
    return {
        "provenance": entry.answer.provenance,
        "latency_ms": entry.answer.latency_ms,
        "content_digest": entry.content_digest.hex(),
        "created_at": entry.created_at,
    }


def _to_teacher(listed: JSON) -> TeacherIdentity:
    fields = _object(listed)
    name, backend = _field(fields, "name", str), _field(fields, "backend", str)
    teacher = TeacherIdentity.from_definition(name, backend, _field(fields, "definition", dict))
    if teacher.digest != fields.get("digest"):
        raise ValueError(
            f"the teacher {name!r}: its definition hashes to {teacher.digest}, "
            f"its digest is {fields.get('digest')}"
        )
    return TeacherIdentity(
        teacher.digest, name, backend, teacher.definition, _number(fields, "registered_at")
    )


def _to_completion(key: bytes, answer: JSON) -> StoredEntry:
    fields = _object(answer)
    completion = Completion(
        _optional(fields, "text", str),
        _field(fields, "finish_reason", str),
        _optional(fields, "usage", dict),
        _optional(fields, "extra", dict),
        _field(fields, "provenance", dict),
        _latency(fields),
    )
    digest = _digest(fields, "content_digest")
    return StoredEntry(key, completion, digest, _number(fields, "created_at"))


def _to_refusal(key: bytes, answer: JSON) -> StoredEntry:
    fields = _object(answer)
    refusal = Refusal(
        _field(fields, "reason", str),
        _field(fields, "message", str),
        _field(fields, "provenance", dict),
        _latency(fields),
    )
    digest = _digest(fields, "content_digest")
    return StoredEntry(key, refusal, digest, _number(fields, "created_at"))


def _object(value: JSON) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a JSON object, got {value!r:.60}")
    return value


def _field(fields: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = fields.get(name)
    if type(value) is not kind:
        raise ValueError(f"{name!r}: expected {kind.__name__}, got {value!r:.60}")
    return value


def _optional(fields: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    return None if fields.get(name) is None else _field(fields, name, kind)


def _number(fields: Mapping[str, Any], name: str) -> float:
    """Canonical JSON writes the double 1.0 as `1`."""
    value = fields.get(name)
    return float(value) if type(value) is int else _field(fields, name, float)


def _latency(fields: Mapping[str, Any]) -> float | None:
    return None if fields.get("latency_ms") is None else _number(fields, "latency_ms")


def _digest(fields: Mapping[str, Any], name: str) -> bytes:
    digest = bytes.fromhex(_field(fields, name, str))
    if len(digest) != 32:
        raise ValueError(f"{name!r}: expected 64 hexadecimal digits, got {len(digest) * 2}")
    return digest
