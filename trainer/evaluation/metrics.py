"""How well replies agree with their references, as figures that carry their signature."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from trainer.rollouts.scores import Metric, best_of
from trainer.types import Outcome, TeacherReply


@dataclass(frozen=True, slots=True)
class Scores:
    """One metric over many replies."""

    metric: str
    signature: str
    """Name, options and version of the metric: what reproduces the figure."""
    values: tuple[float | None, ...]
    """One per reply; None where the teacher refused or failed, which is no score of zero."""

    @property
    def answered(self) -> int:
        """Replies that have a score."""
        return sum(value is not None for value in self.values)

    @property
    def mean(self) -> float | None:
        """Mean over the replies that were answered; None where none was."""
        answered = [value for value in self.values if value is not None]
        return fmean(answered) if answered else None


def score_pairs(metric: Metric, pairs: Sequence[tuple[TeacherReply, str]]) -> Scores:
    """Score (reply, reference) pairs."""
    return score_replies(
        metric, [reply for reply, _ in pairs], [(reference,) for _, reference in pairs]
    )


def score_replies(
    metric: Metric, replies: Sequence[TeacherReply], references: Sequence[Sequence[str]]
) -> Scores:
    """Score replies, each against the nearest of its own references.

    Args:
        metric: what to score by.
        replies: what the teacher said.
        references: for each reply; none gives no score.
    """
    scored = [
        reply.outcome is Outcome.SCORED and bool(its_own)
        for reply, its_own in zip(replies, references, strict=True)
    ]
    answered = [
        (reply.text, its_own)
        for reply, its_own, has_score in zip(replies, references, scored, strict=True)
        if has_score
    ]
    scores = iter(best_of(metric, answered))
    values = tuple(next(scores) if has_score else None for has_score in scored)
    return Scores(metric.name, metric.signature, values)
