"""A store of completions, keyed by everything that can change the answer.

Start with `CompletionStore.open` and `fingerprint`; what goes in is a `NewEntry`.
"""

from cache.canaries import CanaryProbe
from cache.canonical import JSON, canonical_json, parse_json
from cache.entries import (
    Answer,
    Completion,
    NewEntry,
    Refusal,
    StoredEntry,
    StoreStats,
    TeacherIdentity,
    content_digest,
)
from cache.errors import (
    CacheError,
    CanonicalError,
    ConflictError,
    ExportError,
    LockFileError,
    SchemaTooNew,
    SearchTooLong,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnreachable,
    StoreUnwritable,
    UnsupportedFilesystem,
)
from cache.fingerprint import FINGERPRINT_VERSION, Fingerprint, fingerprint
from cache.places import migrate, parse_place, shown_place
from cache.store import CompletionStore, default_store_path
from cache.uses import Account, Amount, Use

__all__ = [
    "FINGERPRINT_VERSION",
    "JSON",
    "Account",
    "Amount",
    "Answer",
    "CacheError",
    "CanaryProbe",
    "CanonicalError",
    "Completion",
    "CompletionStore",
    "ConflictError",
    "ExportError",
    "Fingerprint",
    "LockFileError",
    "NewEntry",
    "Refusal",
    "SchemaTooNew",
    "SearchTooLong",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreReadOnly",
    "StoreStats",
    "StoreUnreachable",
    "StoreUnwritable",
    "StoredEntry",
    "TeacherIdentity",
    "UnsupportedFilesystem",
    "Use",
    "canonical_json",
    "content_digest",
    "default_store_path",
    "fingerprint",
    "migrate",
    "parse_json",
    "parse_place",
    "shown_place",
]
