"""Leases: which service asks upstream for what, where several share a PostgreSQL database."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table; on SQLite, which one process writes, it stays empty."""
    op.create_table(
        "leases",
        Column("token", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("key", LargeBinary(32), nullable=False, unique=True),
        Column("holder", Text, nullable=False),
        Column("expires_at", Float, nullable=False),
    )
