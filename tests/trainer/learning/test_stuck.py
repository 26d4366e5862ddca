"""Learning that goes nowhere is noticed, with its cause."""

import re

import pytest

from tests.tiny_runs import tiny_config
from trainer.learning.launch import train_new
from trainer.learning.stuck import WINDOW, StuckWatch, why_stuck

HEALTHY = {
    "outcome/out_of_range": 0.1,
    "outcome/refused": 0.0,
    "rate/achieved": 0.3,
    "policy/entropy_per_word": 0.3,
    "reward/zero_variance_groups": 0.2,
    "reward/scored": 0.5,
}


def steps(**changes: float) -> list[dict[str, float]]:
    """As many steps as it takes, with other figures than a healthy run's (`__` is a slash)."""
    changed = {name.replace("__", "/"): value for name, value in changes.items()}
    return [{**HEALTHY, **changed}] * WINDOW


@pytest.mark.parametrize(
    ("changes", "cause", "advice"),
    [
        (
            {"outcome__out_of_range": 1.0, "rate__achieved": 0.62},
            "texts of a wrong length",
            r"100% of them miss the target \(their mean rate is 0.62\).*compression_tolerance",
        ),
        ({"outcome__refused": 0.6}, "refusals", "refuses 60% of the texts.*content filter"),
        (
            {"policy__entropy_per_word": 0.001, "reward__zero_variance_groups": 0.7},
            "nothing is explored",
            "entropy of 0.0010 nats.*policy_lr",
        ),
        (
            {"reward__zero_variance_groups": 0.95, "reward__scored": 0.0},
            "groups without variance",
            "in 95% of them all rollouts earn the same, 0.00 on average; .*task.prompt",
        ),
        (
            {"reward__zero_variance_groups": 0.95, "reward__scored": 1.0},
            "groups without variance",
            "every answer is right already",
        ),
        (
            {"reward__zero_variance_groups": 0.95, "reward__scored": 0.4},
            "groups without variance",
            "rollouts_per_example",
        ),
    ],
)
def test_the_likely_cause_is_named(changes, cause, advice):
    """With the figures that show it, and what to change."""
    stuck = why_stuck(steps(**changes))
    assert stuck is not None
    assert stuck.cause == cause
    assert re.search(advice, stuck.advice), stuck.advice


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"outcome__out_of_range": 0.8},
        {"outcome__refused": 0.4},
        {"policy__entropy_per_word": 0.001},
        {"reward__zero_variance_groups": 0.8},
    ],
)
def test_a_run_that_can_learn_is_left_alone(changes):
    """One bad figure in part of the rollouts is no stand-still."""
    assert why_stuck(steps(**changes)) is None


def test_a_few_steps_prove_nothing():
    """Nor does a window with good steps in it."""
    bad = steps(outcome__out_of_range=1.0)
    assert why_stuck(bad[1:]) is None
    assert why_stuck([*bad[4:], *steps()[:4]]) is None


def test_a_cause_is_said_when_it_begins():
    """Not at every step, but again where it comes back, and at once where it is another."""
    watch = StuckWatch()
    lengths, refusals = steps(outcome__out_of_range=1.0), steps(outcome__refused=0.9)
    said = [watch.see(step) for step in [*lengths, *lengths, *steps(), *lengths, *refusals]]
    words = [(at, line.split(":")[0]) for at, line in enumerate(said) if line]
    assert words == [
        (WINDOW - 1, "learning is stuck, texts of a wrong length"),
        (4 * WINDOW - 3, "learning is stuck, texts of a wrong length"),
        (5 * WINDOW - 9, "learning is stuck, refusals"),
    ]


def test_a_run_whose_texts_all_miss_the_length_says_so(meetings, base, teacher_url, tmp_path):
    """Once, above the figures that go on; the teacher was asked for nothing."""
    config = tiny_config(
        meetings,
        base,
        hyperparams={"epochs": 7},
        reward={"compression_tolerance": 0.0, "out_of_tolerance": -0.1},
        policy={"sampler": "bernoulli"},
    )
    said = []
    train_new(config, "trial", teacher_url=teacher_url, runs=tmp_path, report=said.append)
    [warning] = [line for line in said if line.startswith("warning")]
    assert warning.startswith("warning: learning is stuck, texts of a wrong length: ")
