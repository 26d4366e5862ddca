"""The first tables: teachers, requests, completions, alternates, refusals."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)

revision = "0001"
down_revision = None

_ID = BigInteger().with_variant(Integer, "sqlite")
_HASH = LargeBinary(32)


def upgrade() -> None:
    """Create the tables. What a migration did stays as it was, so `models.py` is not used here."""
    op.create_table(
        "teachers",
        Column("id", _ID, primary_key=True),
        Column("digest", String(64), nullable=False, unique=True),
        Column("name", Text, nullable=False),
        Column("backend", Text, nullable=False),
        Column("definition", Text, nullable=False),
        Column("registered_at", Float, nullable=False),
    )
    op.create_table(
        "requests",
        Column("id", _ID, primary_key=True),
        Column("key", _HASH, nullable=False, unique=True),
        Column("teacher_id", _ID, ForeignKey("teachers.id"), nullable=False),
        Column("document", Text, nullable=False),
        Column("compressed_text", Text),
        Column("compressed_sha256", _HASH, index=True),
        Column("created_at", Float, nullable=False),
    )
    op.create_table(
        "completions",
        Column("id", _ID, primary_key=True),
        Column("key", _HASH, ForeignKey("requests.key"), nullable=False, unique=True),
        *_answer_columns(),
    )
    op.create_table(
        "alternates",
        Column("id", _ID, primary_key=True),
        Column("key", _HASH, ForeignKey("requests.key"), nullable=False),
        *_answer_columns(),
        UniqueConstraint("key", "content_digest"),
    )
    op.create_table(
        "refusals",
        Column("id", _ID, primary_key=True),
        Column("key", _HASH, ForeignKey("requests.key"), nullable=False),
        Column("reason", Text, nullable=False),
        Column("message", Text, nullable=False),
        Column("provenance", Text, nullable=False),
        Column("latency_ms", Float),
        Column("content_digest", _HASH, nullable=False),
        Column("created_at", Float, nullable=False),
        UniqueConstraint("key", "content_digest"),
    )


def _answer_columns() -> list[Column[object]]:
    return [
        Column("text", Text),
        Column("finish_reason", Text, nullable=False),
        Column("usage", Text),
        Column("extra", Text),
        Column("provenance", Text, nullable=False),
        Column("latency_ms", Float),
        Column("content_digest", _HASH, nullable=False),
        Column("created_at", Float, nullable=False),
    ]
