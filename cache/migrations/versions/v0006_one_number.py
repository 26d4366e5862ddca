"""A completion's row has its request's number, and no index of keys of its own."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, ForeignKey, Integer, LargeBinary, Text

from cache.errors import StoreDamaged

revision = "0006"
down_revision = "0005"

_ID = BigInteger().with_variant(Integer, "sqlite")
_HASH = LargeBinary(32)

# In the order of the completions, which is nearly that of the requests: both tables are read and
# written from one end to the other, and only the index of keys here and there.
_COPY = """
INSERT INTO renumbered (id, key, text, finish_reason, usage, extra,
                        provenance, latency_ms, content_digest, created_at)
SELECT requests.id, completions.key, text, finish_reason, usage, extra,
       provenance, latency_ms, content_digest, completions.created_at
FROM completions CROSS JOIN requests ON requests.key = completions.key
ORDER BY completions.id
"""

# In place: a new table would be without the rights that others were given on this one.
_RENUMBER = """
ALTER TABLE completions
    DROP CONSTRAINT completions_pkey,
    DROP CONSTRAINT completions_key_key,
    DROP CONSTRAINT completions_key_fkey,
    ALTER COLUMN id DROP DEFAULT;
DROP SEQUENCE completions_id_seq;
UPDATE completions SET id = requests.id FROM requests WHERE requests.key = completions.key;
ALTER TABLE completions ADD PRIMARY KEY (id), ADD FOREIGN KEY (id) REFERENCES requests (id)
"""


def upgrade() -> None:
    """Write every completion once more."""
    if op.get_bind().dialect.name == "sqlite":
        _copy()
        return
    for statement in _RENUMBER.split(";"):
        op.execute(statement)


def _copy() -> None:
    """SQLite changes neither a primary key nor a constraint of a table that there is.

    Raises:
        StoreDamaged: a completion has no request, and would be lost.
    """
    op.create_table(
        "renumbered",
        Column("id", _ID, ForeignKey("requests.id"), primary_key=True, autoincrement=False),
        Column("key", _HASH, nullable=False),
        Column("text", Text),
        Column("finish_reason", Text, nullable=False),
        Column("usage", Text),
        Column("extra", Text),
        Column("provenance", Text, nullable=False),
        Column("latency_ms", Float),
        Column("content_digest", _HASH, nullable=False),
        Column("created_at", Float, nullable=False),
    )
    connection = op.get_bind()
    copied = connection.exec_driver_sql(_COPY).rowcount
    stored = connection.exec_driver_sql("SELECT count(*) FROM completions").scalar_one()
    if copied != stored:
        raise StoreDamaged(
            f"{stored - copied:,} of {stored:,} completions have no request, so the store cannot "
            "be brought up to date: restore it from a backup, or go on with the version before"
        )
    op.drop_table("completions")
    op.rename_table("renumbered", "completions")
