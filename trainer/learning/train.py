"""REINFORCE for a prompt compressor (TACO-RL, arXiv 2409.13035), against a teacher over HTTP.

    for each batch of B examples:
        p       = keep probability of every word                 one forward pass, with gradient
        policy  = independent Bernoullis, p held at the target rate
        masks   ~ policy                             S per example; or an earlier run's, if near
        reward  = metric(teacher(masked text), teacher(original text))
        loss    = -(reward - mean of the group's others) * log policy(mask), summed
        one AdamW step on loss / number of valid rollouts
        policy.passes - 1 more, by clipped ratios of each word (PPO), while the policy stays near

Simplification: the next step begins once all completions of this one are there, but with
policy.one_step_ahead; within a step, micro-batches run forward while those before them are
answered. Run it with

    taco train configs/train_reinforce.yaml
    accelerate launch -m trainer configs/train_reinforce.yaml
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from trainer.errors import ReplayError, StepError
from trainer.learning import reinforce
from trainer.learning.batches import Batch, batches_of, epoch_order, with_following
from trainer.learning.credit import Credit, assign_credit, rewards_of
from trainer.learning.gathering import Experience, Gathering
from trainer.learning.interrupt import StopSignal
from trainer.learning.passes import passes
from trainer.learning.run import Run
from trainer.learning.summary import (
    console_line,
    learning_metrics,
    mean_reward,
    outcome_metrics,
    replies_asked,
)
from trainer.learning.validation import validate

Report = Callable[[str], None]


def train(run: Run, report: Report = print) -> None:
    """Train until the last epoch is done, saving as it goes.

    Raises:
        TeacherError: the teacher went away or failed too often; a checkpoint was saved first.
        StepError: a step could not be taken; likewise.
        KeyboardInterrupt: Ctrl-C or SIGTERM; likewise.
        ReplayError: a replayed run departs from its lock.
    """
    with StopSignal() as stop, Gathering(run, stop) as gathering:
        run.times.lap()  # What came before is no step's.
        for batch, following in with_following(remaining_batches(run)):
            if run.standing.is_over(run.config.evaluation.patience):
                report(f"no better validation than step {run.standing.best_step}'s: stopping here")
                break
            with saved_on_failure(run, report):
                if batch.step > run.finished_steps:
                    with naming(batch.step):
                        experience = gathering.experience(batch, following)
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


def learn(run: Run, batch: Batch, experience: Experience, report: Report) -> None:
    """Turn rewards into weights: `policy.passes` optimiser steps on the same rollouts."""
    prepared, sampled, policies = experience.prepared, experience.sampled, experience.policies
    lr = float(run.scheduler.get_last_lr()[0])
    with run.times.phase("loss"):
        credit = credit_of(run, experience)
        updates = list(passes(run, prepared, sampled, experience.parts, policies, credit))
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
            "policy/staleness": int(experience.sampled.stale),
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
    refused = run.constants.refused if policy.is_reference else None
    rewards = rewards_of(experience.own, sampled, by_question=by_word, refused=refused)
    credit = assign_credit(
        rewards, sampled, policy.loss, by_word=by_word, average=run.reward_average
    )
    if not policy.is_reference:
        return credit
    # It averages log-probs over a text (or all positions of it), where we sum them.
    words_C = torch.cat([policy.free_CW.sum(-1) for policy in experience.policies])
    words_B = sampled.per_example(words_C).clamp_min(1)
    return replace(credit, advantage_SCW=credit.advantage_SCW / words_B[sampled.example_C, None])
