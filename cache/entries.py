"""What goes into the store and what comes out of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias

from cache.canonical import JSON, canonical_json
from cache.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer that the teacher gave."""

    text: str | None  # None: the answer has no text, only `extra` (a tool call).
    finish_reason: str  # As in the OpenAI API.
    usage: Mapping[str, JSON] | None = None  # Token counts as reported; None: not reported.
    extra: Mapping[str, JSON] | None = None  # The choice's other fields; None for plain text.
    provenance: Mapping[str, JSON] = field(default_factory=dict)  # Who computed it, and how.
    latency_ms: float | None = None  # Time that the backend took; None: not measured.


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that the API declared it would not give."""

    reason: str  # The API's code, such as "content_filter".
    message: str
    provenance: Mapping[str, JSON] = field(default_factory=dict)
    latency_ms: float | None = None


Answer: TypeAlias = Completion | Refusal


@dataclass(frozen=True, slots=True)
class NewEntry:
    """One answer on its way into the store."""

    fingerprint: Fingerprint
    teacher_digest: str
    compressed_text: str | None  # What the compressor made; None for a plain chat request.
    answer: Answer
    created_at: float | None = None  # When it was made, seconds since the epoch; None: now.


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """The answer that the store serves for a key.

    Its mappings may be shared with other entries: read them, never change them.
    """

    key: bytes
    answer: Answer
    content_digest: bytes  # 32 bytes, see `content_digest`.
    created_at: float  # Seconds since the epoch.


@dataclass(frozen=True, slots=True)
class TeacherIdentity:
    """What defines a teacher's answers, and never where or with which credential to reach it."""

    digest: str  # 64 hex digits: SHA-256 of the canonical JSON of `definition`.
    name: str
    backend: str
    definition: Mapping[str, JSON]
    registered_at: float | None = None  # Last registration, seconds since the epoch; None: never.

    @classmethod
    def from_definition(cls, name: str, backend: str, definition: Mapping[str, JSON]) -> Self:
        """The identity that `definition` implies.

        Raises:
            CanonicalError: `definition` has no canonical JSON.
        """
        return cls(_sha256(dict(definition)).hex(), name, backend, definition)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How much a store holds."""

    completions: int
    refusals: int
    alternates: int
    requests: int
    teachers: int
    file_bytes: int  # The database file and its write-ahead log.
    schema_version: str


def content_digest(answer: Answer) -> bytes:
    """SHA-256 (32 bytes) of the canonical JSON of what a client sees of `answer`.

    Usage, provenance and latency are left out: they differ between two equal answers.

    Raises:
        CanonicalError: the answer has no canonical JSON.
    """
    if isinstance(answer, Refusal):
        return _sha256({"refusal": {"reason": answer.reason, "message": answer.message}})
    seen: dict[str, JSON] = {"text": answer.text, "finish_reason": answer.finish_reason}
    if answer.extra is not None:
        seen["extra"] = dict(answer.extra)
    return _sha256(seen)


def _sha256(value: JSON) -> bytes:
    return hashlib.sha256(canonical_json(value)).digest()
