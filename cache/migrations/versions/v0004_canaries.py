"""Canaries: fixed prompts with a teacher's answers, by which a change of it is noticed."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, ForeignKey, Integer, Text, UniqueConstraint

revision = "0004"
down_revision = "0003"

_ID = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Create the table; teachers that are known already are asked at their next start."""
    op.create_table(
        "canaries",
        Column("id", _ID, primary_key=True),
        Column("teacher_id", _ID, ForeignKey("teachers.id"), nullable=False),
        Column("prompt", Text, nullable=False),
        Column("text", Text),
        Column("seen", Text),
        Column("recorded_at", Float, nullable=False),
        Column("checked_at", Float),
        UniqueConstraint("teacher_id", "prompt"),
    )
