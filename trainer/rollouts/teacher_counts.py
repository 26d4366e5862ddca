"""How many items were asked and what became of them, for logs and summaries."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from operator import add

from trainer.types import Outcome, Served, TeacherReply


@dataclass(frozen=True, slots=True)
class TeacherCounts:
    """What became of the items that were asked, each counted once."""

    asked: int = 0
    hits: int = 0
    misses: int = 0
    collapsed: int = 0
    refused: int = 0
    failed: int = 0

    @classmethod
    def of(cls, replies: Iterable[TeacherReply]) -> "TeacherCounts":
        """Count replies; hits, misses and collapsed only where the server is ours."""
        outcomes = Counter(reply.outcome for reply in replies)
        served = Counter(reply.served for reply in replies)
        return cls(
            asked=outcomes.total(),
            hits=served[Served.HIT],
            misses=served[Served.MISS],
            collapsed=served[Served.COLLAPSED],
            refused=outcomes[Outcome.REFUSED],
            failed=outcomes[Outcome.FAILED],
        )

    def __add__(self, other: "TeacherCounts") -> "TeacherCounts":
        return TeacherCounts(*map(add, astuple(self), astuple(other)))
