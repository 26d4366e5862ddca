"""Learning that goes nowhere, seen in the last steps' figures, and the likely cause in words."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

WINDOW = 20
"""Steps without any progress that are no accident."""

_MOST = 0.9
_MANY = 0.5
_NOTHING = 0.01


@dataclass(frozen=True, slots=True)
class Stuck:
    """Why nothing is learnt."""

    cause: str
    """The same words for the same cause."""
    advice: str
    """The figures that show it, and what to do."""


class StuckWatch:
    """Sees every step, and says a cause when it begins, not again while it lasts."""

    def __init__(self) -> None:
        self._recent: deque[Mapping[str, float]] = deque(maxlen=WINDOW)
        self._said: str | None = None

    def see(self, metrics: Mapping[str, float]) -> str | None:
        """A warning in one sentence, where there is something new to warn of."""
        self._recent.append(metrics)
        stuck = why_stuck(self._recent)
        said_before, self._said = self._said, stuck.cause if stuck else None
        if stuck is None or stuck.cause == said_before:
            return None
        return f"learning is stuck, {stuck.cause}: {stuck.advice}"


def why_stuck(recent: Sequence[Mapping[str, float]]) -> Stuck | None:
    """The likely cause why nothing is learnt.

    Args:
        recent: the figures of the last `WINDOW` steps, as `metrics.jsonl` has them.

    Returns:
        None where there is no sign of it, or fewer steps are known.
    """
    if len(recent) < WINDOW:
        return None

    def mean(name: str) -> float:
        return fmean(step[name] for step in recent)

    if mean("outcome/out_of_range") >= _MOST:
        return Stuck(
            "texts of a wrong length",
            f"{mean('outcome/out_of_range'):.0%} of them miss the target (their mean rate is "
            f"{mean('rate/achieved'):.2f}), so that the teacher is hardly asked; allow more by "
            "reward.compression_tolerance or hyperparams.compression_relaxation_tokens, or set "
            "policy.sampler: rate_held, which meets the target",
        )
    if mean("outcome/refused") >= _MANY:
        return Stuck(
            "refusals",
            f"the teacher refuses {mean('outcome/refused'):.0%} of the texts, and nothing is "
            "learnt from those; read some in rollouts.jsonl, and look at the provider's content "
            "filter and at task.prompt",
        )
    flat, entropy = mean("reward/zero_variance_groups"), mean("policy/entropy_per_word")
    if entropy < _NOTHING and flat >= _MANY:
        return Stuck(
            "nothing is explored",
            f"with an entropy of {entropy:.4f} nats per word the policy draws nearly the same text "
            "each time; train again with a lower hyperparams.policy_lr, or a higher "
            "policy.entropy_per_word",
        )
    if flat >= _MOST:
        scored = mean("reward/scored")
        return Stuck(
            "groups without variance",
            f"in {flat:.0%} of them all rollouts earn the same, {scored:.2f} on average; "
            + _why_flat(scored),
        )
    return None


def _why_flat(scored: float) -> str:
    if scored <= _NOTHING:
        return (
            "see in rollouts.jsonl whether the answers are what task.prompt asks for, and whether "
            "reward.metric suits them"
        )
    if scored >= 1 - _NOTHING:
        return "every answer is right already: a lower hyperparams.compression_rate is harder"
    return "raise policy.rollouts_per_example, or choose a reward.metric that tells more apart"
