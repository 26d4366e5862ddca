"""How a step's examples become texts that the teacher judges."""

from collections.abc import Sequence
from functools import partial

from trainer.learning.act import PreparedExample, prepare_batch
from trainer.learning.run import Run
from trainer.policy.contexts import Target
from trainer.rollouts.collect import CompressedText, collect
from trainer.types import Example, Rollout


def prepare(
    run: Run, examples: Sequence[Example], targets: Sequence[Target]
) -> list[PreparedExample]:
    """Cut examples up into chunks and words."""
    return prepare_batch(examples, run.compressor, run.segmenter, targets, run.context_filter)


def judge(run: Run, phase: str, step: int, texts: Sequence[CompressedText]) -> list[Rollout]:
    """Have texts judged by length, teacher and metric."""
    return collect(
        texts,
        partial(run.ask, step),
        run.metric,
        run.lengths,
        run.constants,
        run.recorded_replies(phase, step, texts),
    )


def in_order(rollouts: Sequence[Rollout], examples: Sequence[Example]) -> list[Rollout]:
    """Rollouts of all processes in the order of example and sample."""
    place = {example.id: index for index, example in enumerate(examples)}
    return sorted(rollouts, key=lambda rollout: (place[rollout.example_id], rollout.sample_index))
