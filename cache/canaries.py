"""Canaries: what a teacher answered to fixed prompts, by which a change of it is noticed."""

from collections.abc import Sequence
from dataclasses import dataclass

from cache.database import Connection


@dataclass(frozen=True, slots=True)
class CanaryProbe:
    """One fixed prompt: what the teacher said when it was registered, and what it said last."""

    prompt: str
    text: str | None  # None: asked several times, it did not answer alike; the prompt is left out.
    seen: str | None  # At the last check; None: never checked, or left out.
    recorded_at: float  # Seconds since the epoch.
    checked_at: float | None  # The same, of the last check; None: never.

    @property
    def counts(self) -> bool:
        """Whether a teacher that answers it differently has changed."""
        return self.text is not None

    @property
    def changed(self) -> bool:
        """Whether the last check found another answer."""
        return self.counts and self.checked_at is not None and self.seen != self.text


_SELECT = """
SELECT prompt, text, seen, recorded_at, checked_at FROM canaries
WHERE teacher_id = (SELECT id FROM teachers WHERE digest = ?) ORDER BY id
"""
_INSERT = """
INSERT INTO canaries (teacher_id, prompt, text, recorded_at)
VALUES ((SELECT id FROM teachers WHERE digest = ?), ?, ?, ?) ON CONFLICT DO NOTHING
"""
_NOTE = """
UPDATE canaries SET seen = ?, checked_at = ?
WHERE teacher_id = (SELECT id FROM teachers WHERE digest = ?) AND prompt = ? AND text IS NOT NULL
"""


def select_canary(connection: Connection, teacher_digest: str) -> list[CanaryProbe]:
    """The teacher's probes in the order of their recording; none: it was never asked."""
    return [CanaryProbe(*row) for row in connection.execute(_SELECT, (teacher_digest,))]


def insert_canary(
    connection: Connection, teacher_digest: str, probes: Sequence[CanaryProbe]
) -> None:
    """Add probes; what another service recorded first stays."""
    rows = [(teacher_digest, one.prompt, one.text, one.recorded_at) for one in probes]
    connection.executemany(_INSERT, rows)


def note_check(connection: Connection, teacher_digest: str, probes: Sequence[CanaryProbe]) -> None:
    """Keep what was seen at a check; what was recorded stays."""
    rows = [(one.seen, one.checked_at, teacher_digest, one.prompt) for one in probes]
    connection.executemany(_NOTE, rows)
