"""What the service's page needs: entries by teacher, and on PostgreSQL the words in them."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, Text, text
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0005"
down_revision = "0004"

_ID = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Read every request once for the first index; the table of words is filled by who searches."""
    op.create_index("ix_requests_teacher_id", "requests", ["teacher_id"])
    op.create_table(
        "search_words",
        Column("id", _ID, ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
        Column("answered", Boolean, nullable=False),
        Column("words", TSVECTOR().with_variant(Text, "sqlite"), nullable=False),
    )
    op.create_index("ix_search_words_words", "search_words", ["words"], postgresql_using="gin")
    op.create_index(
        "ix_search_words_refused", "search_words", ["id"], postgresql_where=text("answered = false")
    )
