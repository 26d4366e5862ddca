"""What a step's figures are: pure functions from rollouts to numbers, with keys area/name."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from torch import Tensor

from trainer.types import Outcome, Rollout, Served, TeacherReply


@dataclass(frozen=True, slots=True)
class Update:
    """One optimiser step."""

    loss: float
    """The mean over the valid rollouts of all processes."""
    grad_norm: float
    """Before clipping."""
    entropy_per_word: float
    """Of this process's policy, in nats."""
    kl_to_start: float
    """Of this process's policy to the starting compressor's, in nats per word; 0 if not asked."""
    kl_to_recorded: float = 0.0
    """To it from those that drew what other runs recorded, in nats per word of that."""
    signal_to_noise: float = 0.0
    """Of the gradient, over the last ten steps or so."""


class StepTimes:
    """Wall time by phase, every moment in exactly one: a lap's phases add up to what it took.

    On a GPU, kernels still under way count where they are next waited for.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._charged_until = clock()
        self._open = ["other"]
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count this block towards a phase, but for what phases within it count for themselves."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def lap(self) -> dict[str, float]:
        """Seconds by phase since the last lap; `other` is what lay in none."""
        self._charge()
        seconds, self._seconds = dict(self._seconds), defaultdict(float)
        return seconds

    def _charge(self) -> None:
        now = self._clock()
        self._seconds[self._open[-1]] += now - self._charged_until
        self._charged_until = now


def outcome_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Rewards, rates, shares by outcome, and what was asked and served."""
    replies = replies_asked(rollouts)
    return {
        "reward/mean": mean_reward(rollouts),
        "reward/scored": _mean(
            rollout.reward or 0.0 for rollout in rollouts if rollout.outcome is Outcome.SCORED
        ),
        "reward/zero_variance_groups": _mean(map(_is_flat, _groups(rollouts))),
        "rate/achieved": compression_rate(rollouts),
        **{
            f"outcome/{outcome}": _mean(rollout.outcome is outcome for rollout in rollouts)
            for outcome in Outcome
        },
        "reuse/share": _mean(rollout.source is not None for rollout in rollouts),
        "teacher/calls": len(replies),
        **{
            f"teacher/{served}": sum(reply.served is served for reply in replies)
            for served in Served
        },
        **_judge_metrics(rollouts),
    }


def _judge_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What was asked of the judge and served; nothing where there is none."""
    judgements = [judgement for rollout in rollouts for judgement in rollout.judgements]
    if not judgements:
        return {}
    served = {
        f"judge/{served}": sum(each.served is served for each in judgements) for served in Served
    }
    return {"judge/calls": len(judgements), **served}


def replies_asked(rollouts: Sequence[Rollout]) -> list[TeacherReply]:
    """What the teacher was asked in this step; of a recorded rollout, nothing."""
    return [reply for rollout in rollouts if not rollout.source for reply in rollout.replies]


def learning_metrics(
    advantage_SCW: Tensor, updates: Sequence[Update], *, lr: float
) -> dict[str, float]:
    """What the optimiser saw: its first pass, how many there were, and what the last one left.

    Args:
        advantage_SCW: of this process's actions, 0 where a rollout does not count.
        updates: of this step, at least one.
        lr: learning rate of all of them.
    """
    first = updates[0]
    return {
        "loss/policy": first.loss,
        "loss/lr": lr,
        "loss/grad_norm": first.grad_norm,
        "loss/passes": len(updates),
        "loss/signal_to_noise": updates[-1].signal_to_noise,
        "advantage/scale": advantage_SCW.abs().mean().item(),
        "policy/entropy_per_word": first.entropy_per_word,
        "policy/kl_to_start": first.kl_to_start,
        "reuse/kl": first.kl_to_recorded,
    }


def mean_reward(rollouts: Sequence[Rollout]) -> float:
    """Mean over the rollouts that have a reward; NaN-free: 0 where none has."""
    return _mean(rollout.reward for rollout in rollouts if rollout.reward is not None)


def compression_rate(rollouts: Sequence[Rollout]) -> float:
    """Compressed / original tokens over all rollouts."""
    original = sum(rollout.original_tokens for rollout in rollouts)
    return sum(rollout.compressed_tokens for rollout in rollouts) / max(original, 1)


def compression_ratio(rollouts: Sequence[Rollout]) -> float:
    """Original / compressed tokens over all rollouts (the reference's "Comp Ratio")."""
    compressed = sum(rollout.compressed_tokens for rollout in rollouts)
    return sum(rollout.original_tokens for rollout in rollouts) / max(compressed, 1)


def console_line(step: int, total_steps: int, metrics: Mapping[str, float]) -> str:
    """The figures that matter, on one line."""
    return (
        f"step {step:>{len(str(total_steps))}}/{total_steps}"
        f"  {figures_line(metrics)}  lr {metrics['loss/lr']:.1e}"
    )


def figures_line(metrics: Mapping[str, float]) -> str:
    """What is worth watching of a step."""
    calls = metrics["teacher/calls"]
    stored = metrics[f"teacher/{Served.HIT}"] / calls if calls else 0.0
    reused = f", {metrics['reuse/share']:.0%} reused" if metrics["reuse/share"] else ""
    return (
        f"reward {metrics['reward/mean']:.3f}"
        f"  rate {metrics['rate/achieved']:.3f}"
        f"  out of range {metrics['outcome/out_of_range']:.0%}"
        f"  entropy/word {metrics['policy/entropy_per_word']:.3f}"
        f"  calls {metrics['teacher/calls_so_far']:.0f}, {stored:.0%} stored{reused}"
    )


def _groups(rollouts: Sequence[Rollout]) -> Iterator[list[Rollout]]:
    for _, group in groupby(rollouts, key=lambda rollout: rollout.example_id):
        yield list(group)


def _is_flat(group: Sequence[Rollout]) -> bool:
    """Whether a group's rewards are all alike: nothing can be learnt from it."""
    return len({rollout.reward for rollout in group if rollout.reward is not None}) < 2


def _mean(values: Iterator[float] | Iterator[bool]) -> float:
    numbers = [float(value) for value in values]
    return fmean(numbers) if numbers else 0.0
