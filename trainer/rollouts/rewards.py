"""What a rollout is worth: the length rules first, then the teacher's answers.

Source: TACO-RL, arXiv 2409.13035, and the reference implementation (LLMLingua pull request 222).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from trainer.rollouts.scores import Metric, load_metric
from trainer.types import Outcome, TeacherReply

_ROUNDING = 1e-9
"""A length that lies exactly on a limit obeys it, whatever rate * length rounds to."""


class LengthCase(StrEnum):
    """Which rule of the length check a compressed text broke."""

    OVER_COMPRESSED = "over_compressed"
    OUT_OF_TOLERANCE = "out_of_tolerance"


@dataclass(frozen=True, slots=True)
class RewardValues:
    """The rewards that are no metric; the defaults are the reference's."""

    over_compressed: float = -0.4
    out_of_tolerance: float = -0.1
    refused: float = 0.4
    """Used under the reference's loss only: otherwise a refusal is masked, not rewarded."""

    def of(self, case: LengthCase) -> float:
        """The reward of a text that broke a length rule."""
        if case is LengthCase.OVER_COMPRESSED:
            return self.over_compressed
        return self.out_of_tolerance


@dataclass(frozen=True, slots=True)
class LengthRule:
    """How far a compressed text may lie from its target; lengths in the run's length tokenizer."""

    relaxation_tokens: int = 30
    tolerance: float | None = None
    """A share of the original length; when set, it overrides `relaxation_tokens`."""

    def case(self, original_tokens: int, compressed_tokens: int, rate: float) -> LengthCase | None:
        """The rule that the text broke at this target rate; None when its length is right."""
        share = self.tolerance
        allowed = self.relaxation_tokens if share is None else share * original_tokens
        return length_case(original_tokens, compressed_tokens, rate, allowed)


def length_case(
    original_tokens: int, compressed_tokens: int, rate: float, tolerance_tokens: float
) -> LengthCase | None:
    """Check a compressed length before the teacher is asked.

    Args:
        original_tokens: length of the original text.
        compressed_tokens: length of the compressed text.
        rate: target, compressed / original tokens.
        tolerance_tokens: how far from `rate * original_tokens` is still right, limit included.

    Returns:
        Over-compressed at or below min(0.1, rate / 2) of the original; else out of tolerance;
        None when the length is right.
    """
    if compressed_tokens <= min(0.1, rate / 2) * original_tokens + _ROUNDING:
        return LengthCase.OVER_COMPRESSED
    if abs(compressed_tokens - rate * original_tokens) > tolerance_tokens + _ROUNDING:
        return LengthCase.OUT_OF_TOLERANCE
    return None


def judge(
    replies: Sequence[TeacherReply], references: Sequence[str], metric: Metric
) -> tuple[Outcome, float | None]:
    """Outcome and reward of a rollout whose length was right.

    Args:
        replies: one per question.
        references: the reference completions, in the same order.
        metric: scores each reply.

    Returns:
        FAILED when one reply failed, else REFUSED when one was refused, both without a reward;
        else SCORED with the mean over the questions.
    """
    outcomes = {reply.outcome for reply in replies}
    for outcome in (Outcome.FAILED, Outcome.REFUSED):
        if outcome in outcomes:
            return outcome, None
    return Outcome.SCORED, _mean_score([reply.text for reply in replies], references, metric)


def calculate_rewards(
    *,
    original_tokens: int,
    compressed_tokens: int,
    rate: float,
    answers: Sequence[str],
    references: Sequence[str],
    relaxation_tokens: int = 30,
    metric: str = "bleu",
    values: RewardValues = RewardValues(),
) -> dict[str, float]:
    """Reward one compressed text, under the reference's name and with its result.

    Args:
        original_tokens: length of the original text.
        compressed_tokens: length of the compressed text.
        rate: target, compressed / original tokens.
        answers: the teacher's answers on the compressed text; not read when the length is wrong.
        references: its answers on the original, in the same order.
        relaxation_tokens: tolerance around the target length.
        metric: `bleu`, `f1` or `your_package.module:function`.
        values: rewards of the length cases.

    Returns:
        `comp_ratio`, original / compressed tokens (an empty text counts as one token), and
        `reward`.

    Raises:
        ConfigError: there is no such metric.
        ValueError: answers and references differ in number, or there are none to score.
    """
    case = length_case(original_tokens, compressed_tokens, rate, relaxation_tokens)
    reward = values.of(case) if case else _mean_score(answers, references, load_metric(metric))
    return {"comp_ratio": original_tokens / max(compressed_tokens, 1), "reward": reward}


def _mean_score(answers: Sequence[str], references: Sequence[str], metric: Metric) -> float:
    if not references or len(answers) != len(references):
        raise ValueError(
            f"expected one answer for each reference completion and at least one; "
            f"got {len(answers)} answers for {len(references)} references"
        )
    return fmean(metric(*pair) for pair in zip(answers, references, strict=True))
