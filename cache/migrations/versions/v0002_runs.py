"""Runs, what they used, and the ledger."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
)

revision = "0002"
down_revision = "0001"

_ID = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Create the tables; older stores start with an empty ledger."""
    op.create_table(
        "runs",
        Column("id", _ID, primary_key=True),
        Column("name", String(200), nullable=False, unique=True),
        Column("started_at", Float, nullable=False),
        Column("last_used_at", Float, nullable=False),
    )
    op.create_table(
        "run_uses",
        Column("id", _ID, primary_key=True),
        Column("run_id", _ID, ForeignKey("runs.id"), nullable=False, index=True),
        Column("key", LargeBinary(32), nullable=False, index=True),
        Column("step", BigInteger),
        Column("served", String(16), nullable=False),
        Column("uses", BigInteger, nullable=False),
    )
    op.create_table(
        "ledger",
        Column("id", _ID, primary_key=True),
        Column("run_id", _ID, ForeignKey("runs.id"), nullable=False),
        Column("teacher_id", _ID, ForeignKey("teachers.id"), nullable=False),
        Column("served", String(16), nullable=False),
        Column("currency", String(16), nullable=False),
        Column("answers", BigInteger, nullable=False),
        Column("unmetered", BigInteger, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
        Column("money", Float, nullable=False),
        UniqueConstraint("run_id", "teacher_id", "served", "currency"),
    )
