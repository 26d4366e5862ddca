"""REINFORCE for a prompt compressor (TACO-RL, arXiv 2409.13035), against a teacher over HTTP.

    for each batch of B examples:
        p       = keep probability of every word                 one forward pass, with gradient
        policy  = independent Bernoullis, p held at the target rate
        masks   ~ policy                             S per example; or an earlier run's, if near
        reward  = metric(teacher(masked text), teacher(original text))
        loss    = -(reward - mean of the group's others) * log policy(mask), summed
        one AdamW step on loss / number of valid rollouts
        policy.passes - 1 more, by clipped ratios of each word (PPO), while the policy stays near

Simplification: the next step begins once all completions of this one are there; within a step,
micro-batches run forward while those before them are answered. Run it with

    taco train configs/train_reinforce.yaml
    accelerate launch -m trainer configs/train_reinforce.yaml
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch

from trainer.errors import ReplayError, StepError
from trainer.learning import reinforce
from trainer.learning.act import deployed_masks, locked_batch, sample_batch
from trainer.learning.asking import Asking, in_order, prepare
from trainer.learning.batches import batches_of, epoch_order, rate_at, rate_of, share_of
from trainer.learning.credit import Credit, assign_credit, rewards_of
from trainer.learning.interrupt import StopSignal
from trainer.learning.passes import passes, policy_of
from trainer.learning.prepared import PreparedExample
from trainer.learning.processes import collected, stopping_together
from trainer.learning.recorded import RecordedGroup
from trainer.learning.run import Run
from trainer.learning.sampled import SampledBatch, describe_draws, joined
from trainer.learning.summary import (
    console_line,
    learning_metrics,
    mean_reward,
    outcome_metrics,
    replies_asked,
)
from trainer.learning.validation import validate
from trainer.policy.contexts import Target
from trainer.policy.sampling import MaskPolicy, uniform_noise
from trainer.rollouts.collect import check_failures
from trainer.types import Example, Rollout

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Batch:
    """One optimiser step's examples."""

    epoch: int
    step: int
    """Counted from 1 over the whole run."""
    examples: list[Example]


@dataclass(frozen=True, slots=True)
class Experience:
    """What one step learns from."""

    prepared: list[PreparedExample]
    """This process's examples."""
    policies: list[MaskPolicy]
    """What drew their masks, one a micro-batch, with its graph where memory allows."""
    sampled: SampledBatch
    """What was drawn."""
    own: list[Rollout]
    """This process's rollouts, as `sampled.texts`; empty where the process had no example."""
    rollouts: list[Rollout]
    """Every process's rollouts, in the order of example and sample."""


def train(run: Run, report: Report = print) -> None:
    """Train until the last epoch is done, saving as it goes.

    Raises:
        TeacherError: the teacher went away or failed too often; a checkpoint was saved first.
        StepError: a step could not be taken; likewise.
        KeyboardInterrupt: Ctrl-C or SIGTERM; likewise.
        ReplayError: a replayed run departs from its lock.
    """
    with StopSignal() as stop:
        run.times.lap()  # What came before is no step's.
        for batch in remaining_batches(run):
            if run.standing.is_over(run.config.evaluation.patience):
                report(f"no better validation than step {run.standing.best_step}'s: stopping here")
                break
            with saved_on_failure(run, report):
                if batch.step > run.finished_steps:
                    with naming(batch.step):
                        experience = gather_experience(run, batch, stop)
                        learn(run, batch, experience, report)
                if run.owes_validation(batch.step):
                    with run.times.phase("validate"):
                        validate(run, batch.epoch, batch.step, stop, report)
                if stop.requested:
                    raise KeyboardInterrupt
            if batch.step % run.config.logging.save_interval == 0:
                run.save()


@contextmanager
def saved_on_failure(run: Run, report: Report) -> Iterator[None]:
    """Save what was learnt before whatever ends the run."""
    try:
        yield
    except ReplayError:
        raise  # There is nothing to go on with: the run is another than its lock's.
    except BaseException:
        run.save()
        saved = "stopped where nothing can be saved" if run.torn else "saved"
        report(f"{saved}; go on with: taco train --resume {run.folder}")
        raise


@contextmanager
def naming(step: int) -> Iterator[None]:
    """Say which step it was that could not be taken."""
    try:
        yield
    except StepError as error:
        raise type(error)(f"step {step} was not taken: {error}") from error


def remaining_batches(run: Run) -> Iterator[Batch]:
    """Every batch after the last finished step, in order; that step's too if it owes validation."""
    step = 0
    for epoch in range(1, run.config.hyperparams.epochs + 1):
        order = epoch_order(run.train_examples, run.config.run.seed, epoch)
        for examples in batches_of(order, run.config.hyperparams.train_batch_size):
            step += 1
            if step > run.finished_steps or (
                step == run.finished_steps and run.owes_validation(step)
            ):
                yield Batch(epoch, step, examples)


def gather_experience(run: Run, batch: Batch, stop: StopSignal) -> Experience:
    """Draw masks, ask the teacher, score: everything before a weight changes."""
    config, accelerator = run.config, run.accelerator
    mine = share_of(batch.examples, accelerator.process_index, accelerator.num_processes)
    with run.times.phase("prepare"):
        # A process without an example still takes part in the backward pass.
        examples = mine or batch.examples[:1]
        prepared = prepare(run, examples, training_targets(run, batch, examples))
    asking = Asking(run, batch.step, len(prepared))
    with stopping_together(run.accelerator):
        policies, sampled = draw(run, batch, prepared, asking if mine else None)
        with run.times.phase("teacher"), stop.waiting():
            own = asking.judge(sampled.texts) if mine else []
    rollouts = in_order(collected(accelerator, own), batch.examples)
    run.check_replay("train", batch.step, rollouts)
    check_failures(rollouts, config.teacher.max_failed_share)
    return Experience(prepared, policies, sampled, own, rollouts)


def draw(
    run: Run, batch: Batch, prepared: Sequence[PreparedExample], asking: Asking | None
) -> tuple[list[MaskPolicy], SampledBatch]:
    """Run the compressor forward, micro-batch by micro-batch, and draw S masks per example.

    What is drawn is asked about at once, if there is somebody to ask.
    """
    policies: list[MaskPolicy] = []
    drawn: list[SampledBatch] = []

    def forward_and_draw() -> None:
        for start, stop in run.memory.parts(len(prepared)):
            part = prepared[start:stop]
            with torch.set_grad_enabled(run.memory.keep_graphs):
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
        sampled = joined(drawn)
        run.compressor.clear_rl_info()
        run.compressor.record_rl_info(describe_draws(sampled))
        return policies, sampled


def training_targets(run: Run, batch: Batch, examples: Sequence[Example]) -> list[Target]:
    """The run's target for each example, one on the way to it, or one of `policy.rates`."""
    policy, seed = run.config.policy, run.config.run.seed
    if policy.rates:
        rates = [rate_of(example.id, seed, batch.epoch, policy.rates) for example in examples]
        return list(map(Target, rates))
    if policy.start_rate:
        steps = policy.start_rate_steps
        rate = rate_at(batch.step, policy.start_rate, run.target.rate, steps)
        return [Target(rate)] * len(examples)
    return [run.target] * len(examples)


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


def learn(run: Run, batch: Batch, experience: Experience, report: Report) -> None:
    """Turn rewards into weights: `policy.passes` optimiser steps on the same rollouts."""
    prepared, sampled, policies = experience.prepared, experience.sampled, experience.policies
    lr = float(run.scheduler.get_last_lr()[0])
    with run.times.phase("loss"):
        credit = credit_of(run, experience)
        updates = list(passes(run, prepared, sampled, policies, credit))
        run.scheduler.step()
    run.finished_steps = batch.step
    run.teacher_calls += len(replies_asked(experience.rollouts))
    run.reward_average = reinforce.averaged(
        run.reward_average, mean_reward(experience.rollouts), batch.step
    )
    with run.times.phase("record"):
        run.record("train", batch.step, experience.rollouts)
        metrics = {
            **outcome_metrics(experience.rollouts),
            **learning_metrics(credit.advantage_SCW, updates, lr=lr),
            "teacher/calls_so_far": run.teacher_calls,
            **{f"seconds/{phase}": seconds for phase, seconds in run.times.lap().items()},
        }
        run.log_step(batch.epoch, batch.step, metrics)
        if batch.step % run.config.logging.log_interval == 0 or batch.step == run.total_steps:
            run.log_rewards("TrainR", batch.epoch, batch.step, experience.rollouts)
            if run.watch is None:
                report(console_line(batch.step, run.total_steps, metrics))
        if run.watch:
            run.watch(batch.step, run.total_steps, metrics)
        if warning := run.stuck.see(metrics):
            report(f"warning: {warning}")
    run.torn = False


def credit_of(run: Run, experience: Experience) -> Credit:
    """What each action earned beyond its baseline."""
    policy, sampled = run.config.policy, experience.sampled
    by_word = policy.credit == "word"
    # Only the reference pays for a refusal; otherwise it says nothing of the compression.
    refused = run.constants.refused if policy.loss == "reference" else None
    rewards = rewards_of(experience.own, sampled, by_question=by_word, refused=refused)
    credit = assign_credit(
        rewards, sampled, policy.loss, by_word=by_word, average=run.reward_average
    )
    if policy.loss != "reference":
        return credit
    # It averages log-probs over a text, where we sum them.
    words_C = torch.cat([policy.free_CW.sum(-1) for policy in experience.policies])
    words_B = sampled.per_example(words_C).clamp_min(1)
    return replace(credit, advantage_SCW=credit.advantage_SCW / words_B[sampled.example_C, None])
