"""How well replies agree with their references, as figures that carry their signature."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from trainer.rollouts.scores import load_metric
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


def score_pairs(metric_name: str, pairs: Sequence[tuple[TeacherReply, str]]) -> Scores:
    """Score (reply, reference) pairs.

    Raises:
        ConfigError: there is no such metric.
    """
    return score_replies(
        metric_name, [reply for reply, _ in pairs], [(reference,) for _, reference in pairs]
    )


def score_replies(
    metric_name: str, replies: Sequence[TeacherReply], references: Sequence[Sequence[str]]
) -> Scores:
    """Score replies, each against the nearest of its own references.

    Args:
        metric_name: as in the config.
        replies: what the teacher said.
        references: for each reply; none gives no score.

    Raises:
        ConfigError: there is no such metric.
    """
    metric = load_metric(metric_name)
    values = tuple(
        max(metric(reply.text, each) for each in its_own)
        if reply.outcome is Outcome.SCORED and its_own
        else None
        for reply, its_own in zip(replies, references, strict=True)
    )
    return Scores(metric.name, metric.signature, values)
