"""What a compressed text is worth: the length rules first, then the teacher's answers.

Source: TACO-RL, arXiv 2409.13035, and the reference implementation (LLMLingua pull request 222).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from trainer.rollouts.scores import Metric, load_metric

_ROUNDING = 1e-9
"""A length that lies exactly on a limit obeys it, whatever rate * length rounds to."""


class LengthCase(StrEnum):
    """Which rule of the length check a compressed text broke."""

    OVER_COMPRESSED = "over_compressed"
    OUT_OF_TOLERANCE = "out_of_tolerance"


@dataclass(frozen=True, slots=True)
class RewardConstants:
    """The rewards that are no metric; the defaults are the reference's."""

    over_compressed: float = -0.4
    out_of_tolerance: float = -0.1
    refused: float = 0.4
    """Used under the reference's loss only: otherwise a refusal is masked, not rewarded."""

    def for_case(self, case: str) -> float:
        """The reward of a text that broke a length rule."""
        if LengthCase(case) is LengthCase.OVER_COMPRESSED:
            return self.over_compressed
        return self.out_of_tolerance


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


def length_penalty(rate: float, target: float, tolerance: float, price: float) -> float:
    """What a length costs: price * max(0, |rate - target| - tolerance), all shares of the original.

    Without the step of `length_case`, so that a text which almost has the right length is worth
    almost as much as one which has it.
    """
    return price * max(0.0, abs(rate - target) - tolerance - _ROUNDING)


def calculate_rewards(
    *,
    original_tokens: int,
    compressed_tokens: int,
    rate: float,
    answers: Sequence[str],
    references: Sequence[str],
    relaxation_tokens: int = 30,
    metric: str = "bleu",
    constants: RewardConstants = RewardConstants(),
) -> dict[str, float]:
    """Reward one compressed text, under the reference's name and with its result.

    Args:
        original_tokens: length of the original text.
        compressed_tokens: length of the compressed text.
        rate: target, compressed / original tokens.
        answers: the teacher's answers on the compressed text; not read when the length is wrong.
        references: its answers on the original, in the same order.
        relaxation_tokens: tolerance around the target length.
        metric: as in the config: `bleu`, `0.7*f1 + 0.3*rougeL`, `your_package.module:function`.
        constants: rewards of the length cases.

    Returns:
        `comp_ratio`, original / compressed tokens (an empty text counts as one token), and
        `reward`.

    Raises:
        ConfigError: there is no such metric.
        ValueError: answers and references differ in number, or there are none to score.
    """
    case = length_case(original_tokens, compressed_tokens, rate, relaxation_tokens)
    reward = (
        constants.for_case(case) if case else _mean_score(answers, references, load_metric(metric))
    )
    return {"comp_ratio": original_tokens / max(compressed_tokens, 1), "reward": reward}


def _mean_score(answers: Sequence[str], references: Sequence[str], metric: Metric) -> float:
    if not references or len(answers) != len(references):
        raise ValueError(
            f"expected one answer for each reference completion and at least one; "
            f"got {len(answers)} answers for {len(references)} references"
        )
    return fmean(metric.score(list(zip(answers, references, strict=True))))
