"""The tables, the same on every database; `migrations/` is what creates them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.dialects.postgresql import TSVECTOR

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

# What a teacher answered to fixed prompts, by which a change of it is noticed.
canaries = Table(
    "canaries",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("teacher_id", _ID, ForeignKey("teachers.id"), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("text", Text),  # NULL: it did not answer alike when asked several times.
    Column("seen", Text),  # At the last check.
    Column("recorded_at", Float, nullable=False),
    Column("checked_at", Float),
    UniqueConstraint("teacher_id", "prompt"),
)

# Every request that was ever answered, so that a key can be computed again and a miss explained.
requests = Table(
    "requests",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("key", _HASH, nullable=False, unique=True),
    Column("teacher_id", _ID, ForeignKey("teachers.id"), nullable=False, index=True),
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


# What is served: the first completion that was committed for a key. Rows never change. A row has
# its request's number, so that one index of keys serves both tables: a second one would be a third
# of what an insert writes. `key` is there so that a row that came to another number, by damage or
# by hand, is never served.
completions = Table(
    "completions",
    metadata,
    Column("id", _ID, ForeignKey("requests.id"), primary_key=True, autoincrement=False),
    Column("key", _HASH, nullable=False),
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

# Who asks, as the client calls itself; '' stands for all that does not say.
runs = Table(
    "runs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("started_at", Float, nullable=False),
    Column("last_used_at", Float, nullable=False),
)

# Which run was served which key at which step. No foreign key on `key`: that a run needed an entry
# stays known when the entry is gone.
run_uses = Table(
    "run_uses",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("run_id", _ID, ForeignKey("runs.id"), nullable=False, index=True),
    Column("key", _HASH, nullable=False, index=True),
    Column("step", BigInteger),  # NULL: the client did not say.
    Column("served", String(16), nullable=False),  # hit, miss or collapsed
    Column("uses", BigInteger, nullable=False),  # Times; one step may use a key several times.
)

# What answers cost (miss), and what they would have cost (hit, collapsed), summed as they are used.
ledger = Table(
    "ledger",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("run_id", _ID, ForeignKey("runs.id"), nullable=False),
    Column("teacher_id", _ID, ForeignKey("teachers.id"), nullable=False),
    Column("served", String(16), nullable=False),
    Column("currency", String(16), nullable=False),  # '': there were no prices.
    Column("answers", BigInteger, nullable=False),
    Column("unmetered", BigInteger, nullable=False),  # Of these, without token counts.
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("money", Float, nullable=False),  # At the prices of the day.
    UniqueConstraint("run_id", "teacher_id", "served", "currency"),
)

# Which service asks upstream for a key, where several share a PostgreSQL database; see
# `cache.postgres.leases`. Empty on SQLite, which one process writes.
leases = Table(
    "leases",
    metadata,
    Column("token", _ID, primary_key=True),
    Column("key", _HASH, nullable=False, unique=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", Float, nullable=False),  # By the database's clock.
)

# The words by which entries are found, added by whoever searches; see `cache.postgres.word_table`.
# Empty on SQLite, where they are in a file of their own.
search_words = Table(
    "search_words",
    metadata,
    Column("id", _ID, ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
    Column("answered", Boolean, nullable=False),  # There was a completion when it was added.
    Column("words", TSVECTOR().with_variant(Text, "sqlite"), nullable=False),
)
Index("ix_search_words_words", search_words.c.words, postgresql_using="gin")
Index(
    "ix_search_words_refused",
    search_words.c.id,
    postgresql_where=search_words.c.answered == false(),
)
