"""The fingerprint of a request: the hash of everything that determines its completion."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cache.canonical import JSON, canonical_json
from cache.errors import CanonicalError

# Raised by hand when the same request must get another key; old entries are then never hit.
FINGERPRINT_VERSION = 1

# What cannot change an answer. Everything else counts, also fields that nobody has thought of yet:
# a field missing from an allow-list serves wrong answers, one missing here costs a second call.
DENIED_FIELDS = frozenset(
    {
        "metadata",
        "n",  # One choice at a time: `sample_index` says which.
        "prompt_cache_key",
        "safety_identifier",
        "store",
        "stream",
        "stream_options",
        "timeout",
        "user",
    }
)

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A key and the document that it is the hash of."""

    key: bytes  # 32 bytes: SHA-256 of `document` in UTF-8.
    document: str  # Canonical JSON of {v, teacher, request, sample_index}.


def fingerprint(
    teacher_digest: str, request: Mapping[str, JSON], sample_index: int = 0
) -> Fingerprint:
    """The fingerprint of `request`, asked of one teacher for the `sample_index`-th time.

    Args:
        teacher_digest: `TeacherIdentity.digest`, 64 hexadecimal digits in lower case.
        request: The upstream body as it is sent. Fields that are null count as not set, and
            those of `DENIED_FIELDS` do not count at all.
        sample_index: 0 unless one request asks for several completions.

    Raises:
        CanonicalError: the request has no canonical JSON, or an argument is out of its range.
    """
    if not _DIGEST.fullmatch(teacher_digest):
        raise CanonicalError(f"a teacher's digest has 64 hex digits, not {teacher_digest!r}")
    if not 0 <= sample_index < 2**53:
        raise CanonicalError(f"sample_index counts from 0, below 2**53; it was {sample_index}")
    # Its own keys are in order and its own values plain: so written, it is canonical.
    document = b'{"request":%b,"sample_index":%d,"teacher":"%b","v":%d}' % (
        canonical_json(_what_counts(request)),
        sample_index,
        teacher_digest.encode(),
        FINGERPRINT_VERSION,
    )
    return Fingerprint(hashlib.sha256(document).digest(), document.decode())


def _what_counts(request: Mapping[str, JSON]) -> dict[str, JSON]:
    return {
        field: value
        for field, value in request.items()
        if value is not None and field not in DENIED_FIELDS
    }
