"""A step's figures, against tables made by hand."""

from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from trainer.learning.summary import (
    StepTimes,
    Update,
    compression_ratio,
    console_line,
    learning_metrics,
    mean_reward,
    outcome_metrics,
    replies_asked,
)
from trainer.types import Outcome, Served, Source, TeacherReply


@pytest.fixture
def step(make_rollout):
    """Two groups: one whose rewards differ, one with a failure and one reward left."""
    hit = TeacherReply(Outcome.SCORED, "x", served=Served.HIT)
    return [
        make_rollout(sample_index=0, reward=1.0),
        make_rollout(sample_index=1, reward=0.5, replies=(hit, hit)),
        make_rollout(
            sample_index=2,
            reward=-0.1,
            outcome=Outcome.OUT_OF_RANGE,
            compressed_tokens=60,
            replies=(),
        ),
        make_rollout(example_id="b", sample_index=0, reward=0.0),
        make_rollout(
            example_id="b",
            sample_index=1,
            reward=None,
            outcome=Outcome.FAILED,
            replies=(TeacherReply(Outcome.FAILED),),
        ),
    ]


def test_what_became_of_a_step(step):
    """Means over what has a reward, shares over all, replies counted by how they were served."""
    metrics = outcome_metrics(step)
    assert metrics == pytest.approx(
        {
            "reward/mean": (1.0 + 0.5 - 0.1 + 0.0) / 4,
            "reward/scored": (1.0 + 0.5 + 0.0) / 3,
            "reward/zero_variance_groups": 0.5,
            "rate/achieved": 140 / 500,
            "outcome/scored": 0.6,
            "outcome/out_of_range": 0.2,
            "outcome/refused": 0.0,
            "outcome/unjudged": 0.0,
            "outcome/failed": 0.2,
            "reuse/share": 0.0,
            "teacher/calls": 5,
            "teacher/hit": 2,
            "teacher/miss": 2,
            "teacher/collapsed": 0,
        }
    )


def test_a_step_without_any_reward_is_zero_and_no_error(make_rollout):
    """Nobody divides by the number of rewards."""
    failed = make_rollout(reward=None, outcome=Outcome.FAILED)
    assert mean_reward([failed]) == 0.0
    assert outcome_metrics([failed])["reward/scored"] == 0.0


def test_the_compression_ratio_is_original_over_compressed(make_rollout):
    """The reference's "Comp Ratio", over all tokens; empty texts do not divide by zero."""
    long, short = make_rollout(), make_rollout(original_tokens=300, compressed_tokens=60)
    assert compression_ratio([long, short]) == 400 / 80
    empty = make_rollout(compressed_tokens=0)
    assert compression_ratio([empty]) == 100
    assert outcome_metrics([empty])["rate/achieved"] == 0.0


def test_what_the_optimiser_saw():
    """Mean size of the advantages that count, and entropy over all words."""
    updates = [Update(0.1, 2.0, 0.5, 0.03, 0.02, 0.1), Update(0.3, 1.0, 0.4, 0.04, 0.05, 0.2)]
    assert learning_metrics(torch.tensor([[[0.5]], [[-0.25]]]), updates, lr=0.01) == {
        "loss/policy": 0.1,
        "loss/lr": 0.01,
        "loss/grad_norm": 2.0,
        "loss/passes": 2,
        "loss/signal_to_noise": 0.2,
        "advantage/scale": 0.375,
        "policy/entropy_per_word": 0.5,
        "policy/kl_to_start": 0.03,
        "reuse/kl": 0.02,
    }


def test_the_console_line_has_the_figures_that_matter(step):
    """One line, in the same columns at every step."""
    metrics = {
        **outcome_metrics(step),
        "policy/entropy_per_word": 0.4,
        "loss/lr": 1e-5,
        "teacher/calls_so_far": 1234,
    }
    assert console_line(5, 100, metrics) == (
        "step   5/100  reward 0.350  rate 0.280  out of range 20%  entropy/word 0.400"
        "  calls 1234, 40% stored  lr 1.0e-05"
    )


@pytest.fixture
def clock():
    """A clock that shows what the test sets."""

    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    return Clock()


def test_the_phases_of_a_lap_add_up_to_its_wall_time(clock):
    """What is in no phase is `other`; a phase within another counts for itself alone."""
    times = StepTimes(clock)
    clock.now += 1
    with times.phase("loss"):
        clock.now += 2
        with times.phase("update"):
            clock.now += 4
        clock.now += 8
        with times.phase("update"):
            clock.now += 16
    clock.now += 32
    assert times.lap() == {"other": 1 + 32, "loss": 2 + 8, "update": 4 + 16}


def test_a_lap_begins_where_the_last_one_ended(clock):
    """Also in the midst of a phase: what is left of it counts in the next lap."""
    times = StepTimes(clock)
    with times.phase("record"):
        clock.now += 1
        assert times.lap() == {"other": 0, "record": 1}
        clock.now += 2
    clock.now += 4
    assert times.lap() == {"record": 2, "other": 4}


def test_a_phase_that_ends_with_an_error_is_counted_too(clock):
    """And what comes after it counts elsewhere."""
    times = StepTimes(clock)
    with suppress(ZeroDivisionError), times.phase("teacher"):
        clock.now += 1
        _ = 1 / 0
    clock.now += 2
    assert times.lap() == {"other": 2, "teacher": 1}


def test_a_recorded_rollout_is_no_call(step):
    """It counts as any other, but the teacher was not asked for it."""
    reused = [replace(rollout, source=Source(0, 7)) for rollout in step[:2]]
    asked = len(replies_asked(step[2:]))
    metrics = outcome_metrics([*reused, *step[2:]])
    assert metrics["reuse/share"] == 0.4
    assert metrics["teacher/calls"] == asked < len(replies_asked(step))
    assert metrics["reward/mean"] == outcome_metrics(step)["reward/mean"]
