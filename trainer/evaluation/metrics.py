"""How well replies agree with their references, as figures that carry their signature."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from trainer.rollouts.judge import Comparison
from trainer.rollouts.scores import Metric
from trainer.rollouts.scoring import Scorer, Verdict
from trainer.types import Ask, Outcome, TeacherReply


@dataclass(frozen=True, slots=True)
class Scores:
    """One metric over many replies."""

    metric: str
    signature: str
    """Name, options and version of the metric: what reproduces the figure."""
    values: tuple[float | None, ...]
    """One per reply; None where the teacher refused or failed, or its judge did not say: that is no
    score of zero."""

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
    """Score (reply, reference) pairs by a metric that needs no judge."""
    scorer = Scorer(metric.name, metric.signature, metric)
    replies = [reply for reply, _ in pairs]
    return score_replies(scorer, replies, [[Comparison(r.text, ref, None, "")] for r, ref in pairs])


def score_replies(
    scorer: Scorer,
    replies: Sequence[TeacherReply],
    answers: Sequence[Sequence[Comparison]],
    ask: Ask | None = None,
) -> Scores:
    """Score replies, each against the nearest of its own references.

    Args:
        scorer: what to score by.
        replies: what the teacher said.
        answers: each reply's text beside every one of its references; none gives no score.
        ask: the scorer's judge, where it has one.
    """
    scored = [
        its_own if reply.outcome is Outcome.SCORED else ()
        for reply, its_own in zip(replies, answers, strict=True)
    ]
    verdicts = iter(scorer.score([answer for its_own in scored for answer in its_own], ask))
    values = tuple(_best(islice(verdicts, len(its_own))) for its_own in scored)
    return Scores(scorer.name, scorer.signature, values)


def _best(verdicts: Iterable[Verdict]) -> float | None:
    """The highest score; None where there is none."""
    return max((each.score for each in verdicts if each.score is not None), default=None)
