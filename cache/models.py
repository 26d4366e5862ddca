"""The tables, the same on every database; `migrations/` is what creates them."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

# On SQLite only a column of type INTEGER is the row's own number.
_ID = BigInteger().with_variant(Integer, "sqlite")
_HASH = LargeBinary(32)  # SHA-256

metadata = MetaData()

teachers = Table(
    "teachers",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("definition", Text, nullable=False),  # JSON; its SHA-256 is `digest`.
    Column("registered_at", Float, nullable=False),
)

# Every request that was ever answered, so that a key can be computed again and a miss explained.
requests = Table(
    "requests",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("key", _HASH, nullable=False, unique=True),
    Column("teacher_id", _ID, ForeignKey("teachers.id"), nullable=False),
    Column("document", Text, nullable=False),  # Canonical JSON; its SHA-256 is `key`.
    Column("compressed_text", Text),
    # The text itself may be longer than a B-tree takes (PostgreSQL).
    Column("compressed_sha256", _HASH, index=True),
    Column("created_at", Float, nullable=False),
)


def _answer_columns() -> list[Column[object]]:
    return [
        Column("text", Text),
        Column("finish_reason", Text, nullable=False),
        Column("usage", Text),  # JSON
        Column("extra", Text),  # JSON
        Column("provenance", Text, nullable=False),  # JSON
        Column("latency_ms", Float),
        Column("content_digest", _HASH, nullable=False),
        Column("created_at", Float, nullable=False),
    ]


# What is served: the first completion that was committed for a key. Rows never change.
completions = Table(
    "completions",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("key", _HASH, ForeignKey("requests.key"), nullable=False, unique=True),
    *_answer_columns(),
)

# Later completions that differ from the first: evidence of drift.
alternates = Table(
    "alternates",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("key", _HASH, ForeignKey("requests.key"), nullable=False),
    *_answer_columns(),
    UniqueConstraint("key", "content_digest"),
)

# What the API declined to answer; the first is served until there is a completion.
refusals = Table(
    "refusals",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("key", _HASH, ForeignKey("requests.key"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("provenance", Text, nullable=False),  # JSON
    Column("latency_ms", Float),
    Column("content_digest", _HASH, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("key", "content_digest"),
)
