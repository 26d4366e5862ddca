"""A step's masks: from the policy, from earlier runs, or from the lock that is replayed."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from trainer.learning.act import deployed_masks, locked_batch, sample_batch
from trainer.learning.asking import Asking
from trainer.learning.batches import Batch
from trainer.learning.passes import policy_of
from trainer.learning.prepared import PreparedExample
from trainer.learning.recorded import RecordedGroup
from trainer.learning.run import Run
from trainer.learning.sampled import SampledBatch, describe_draws, joined
from trainer.policy.sampling import MaskPolicy, uniform_noise


def draw(
    run: Run,
    batch: Batch,
    prepared: Sequence[PreparedExample],
    asking: Asking | None,
    *,
    stale: bool,
) -> tuple[list[MaskPolicy], SampledBatch]:
    """Run the compressor forward, micro-batch by micro-batch, and draw S masks per example.

    Args:
        run: whose policy draws.
        batch: the step.
        prepared: this process's examples.
        asking: is told of what is drawn; None: nobody is to be asked.
        stale: whether weights change before this is learnt from, so that no graph is of use.
    """
    policies: list[MaskPolicy] = []
    drawn: list[SampledBatch] = []

    def forward_and_draw() -> None:
        for start, stop in run.memory.parts(len(prepared)):
            part = prepared[start:stop]
            with torch.set_grad_enabled(run.memory.keep_graphs and not stale):
                policies.append(policy_of(run, part))
            with run.times.phase("sample"):
                before = (batch.step - 1) * len(prepared) + start
                recalled = recall(run, batch, policies[-1], part, before)
                drawn.append(take_masks(run, batch, policies[-1], part, recalled))
                if asking:
                    asking.begin(drawn[-1].texts)

    def give_up() -> None:
        policies.clear()
        drawn.clear()
        if asking:
            asking.forget()

    run.memory.fit(len(prepared), forward_and_draw, give_up)
    with run.times.phase("sample"):
        sampled = replace(joined(drawn), stale=stale)
        run.compressor.clear_rl_info()
        run.compressor.record_rl_info(describe_draws(sampled))
        return policies, sampled


def recall(
    run: Run, batch: Batch, policy: MaskPolicy, prepared: Sequence[PreparedExample], before: int
) -> list[RecordedGroup | None]:
    """For each example the rollouts of `reuse.runs` that cover the policy, so that none is asked.

    A replay with locked masks takes those that were taken.
    """
    if run.library is None:
        return [None] * len(prepared)
    if run.replay and run.replay.locked_masks:
        sources = run.replay.sources("train", batch.step, prepared)
        return [
            run.library.group(each.example.id, source) if source else None
            for each, source in zip(prepared, sources, strict=True)
        ]
    return run.library.covering(policy, prepared, before)


def take_masks(
    run: Run,
    batch: Batch,
    policy: MaskPolicy,
    prepared: Sequence[PreparedExample],
    recalled: Sequence[RecordedGroup | None],
) -> SampledBatch:
    """Draw S masks per example, but where some are recalled.

    A replay with locked masks takes the recorded ones. Under the greedy baseline, the last is what
    would be deployed.
    """
    samples = run.config.policy.samples
    if run.replay and run.replay.locked_masks:
        masks = run.replay.masks("train", batch.step, prepared, samples)
        return locked_batch(policy, prepared, run.segmenter, masks, recalled)
    noise = partial(uniform_noise, run.config.run.seed, batch.epoch)
    if run.config.policy.loss != "greedy":
        return sample_batch(policy, prepared, run.segmenter, noise, samples, recalled)
    exact = run.config.evaluation.rate == "exact"
    last = deployed_masks(prepared, run.compressor, run.segmenter, exact=exact)
    return sample_batch(policy, prepared, run.segmenter, noise, samples - 1, recalled, last)
