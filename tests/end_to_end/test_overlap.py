"""Micro-batches that run forward while those before them are answered."""

import itertools
import threading
import time
from pathlib import Path

import pytest

from trainer.config import Config
from trainer.errors import TeacherUnreachable
from trainer.learning import drawing, gathering, passes
from trainer.learning.launch import train_new
from trainer.learning.prepared import pieces_of_longest
from trainer.learning.run import Run

ONE_BY_ONE = {"micro_batch_size": 1}


@pytest.fixture
def train(tmp_path, document, teacher_url):
    """Train an epoch with a changed compute section; the result."""

    def train(name, compute, **sections):
        config = Config.model_validate(
            document(compute=compute, hyperparams={"epochs": 1}, **sections)
        )
        runs = tmp_path / "runs"
        return train_new(config, name, teacher_url=teacher_url, runs=runs, report=lambda _: None)

    return train


def test_the_order_of_arrival_changes_nothing(train, monkeypatch):
    """The later a micro-batch was asked about, the sooner its answer comes: the same weights."""
    plain = train("plain", {**ONE_BY_ONE, "overlap": False})
    ask, numbers, arrived = Run.ask, itertools.count(), []

    def late(run, step, items):
        number = next(numbers) % 3
        replies = ask(run, step, items)
        time.sleep(0.15 * (2 - number))
        arrived.append(number)
        return replies

    monkeypatch.setattr(Run, "ask", late)
    early = train("early", ONE_BY_ONE, evaluation={"val_interval": 100}, data={})
    assert arrived[:12] == [2, 1, 0] * 4
    assert early.weights_digest == plain.weights_digest
    # The lock has the rollouts in the order of example and sample.
    leaves = [Path(result.lock).read_text().splitlines()[1:] for result in (plain, early)]
    training = [[line for line in lines if '"train"' in line] for lines in leaves]
    assert training[0] == training[1]


def test_micro_batches_have_texts_of_like_length(train, monkeypatch):
    """Shortest first within a step of three examples; in one piece a batch stays in its order."""
    drawn, policy_of = [], drawing.policy_of

    def noted(run, prepared, *rest):
        drawn.extend(map(pieces_of_longest, prepared))
        return policy_of(run, prepared, *rest)

    monkeypatch.setattr(drawing, "policy_of", noted)
    train("whole", {})
    train("by-length", ONE_BY_ONE)
    whole, by_length = (
        [drawn[start : start + 3] for start in range(first, first + 12, 3)] for first in (0, 12)
    )
    assert by_length == [sorted(lengths) for lengths in whole]
    assert by_length != whole


def test_forward_passes_do_not_wait_for_answers(train, monkeypatch):
    """A step's last runs before the first is answered; without overlap all is asked at once."""
    events = []
    policy_of, ask, all_drawn = passes.policy_of, Run.ask, threading.Event()

    def noted(run, *rest):
        policy = policy_of(run, *rest)
        events.append("forward")
        if events.count("forward") == 3:
            all_drawn.set()
        return policy

    def waiting(run, step, items):
        assert all_drawn.wait(30)
        events.append("answer")
        return ask(run, step, items)

    monkeypatch.setattr("trainer.learning.drawing.policy_of", noted)
    monkeypatch.setattr(Run, "ask", waiting)
    train("early", ONE_BY_ONE)
    assert events[:6] == ["forward"] * 3 + ["answer"] * 3
    events.clear()
    train("late", {**ONE_BY_ONE, "overlap": False})
    assert events[:4] == ["forward"] * 3 + ["answer"]


def test_the_next_batch_is_cut_up_while_the_teacher_is_asked(train, monkeypatch):
    """The answer to step 1 is held back until the words of step 2 are known."""
    prepare, ask, prepared, both = gathering.prepare, Run.ask, [], threading.Event()

    def noted(run, examples, targets):
        prepared.append(prepare(run, examples, targets))
        if len(prepared) == 2:
            both.set()
        return prepared[-1]

    def waiting(run, step, items):
        assert step > 1 or both.wait(30)
        return ask(run, step, items)

    monkeypatch.setattr(gathering, "prepare", noted)
    monkeypatch.setattr(Run, "ask", waiting)
    train("trial", {}, evaluation={"val_interval": 100})


def test_a_budget_is_held_against_a_whole_step(train, monkeypatch):
    """So the micro-batches are not asked about one by one."""
    asked, ask = [], Run.ask

    def noted(run, step, items):
        asked.append(step)
        return ask(run, step, items)

    monkeypatch.setattr(Run, "ask", noted)
    train("trial", ONE_BY_ONE, budget={"calls": 10_000}, evaluation={"val_interval": 100})
    assert asked == [1, 2, 3, 4, 4]  # The last time for validation.


def test_a_teacher_that_fails_for_one_micro_batch_stops_the_run(train, monkeypatch):
    """With its error, once those under way have ended."""
    ask, numbers = Run.ask, itertools.count()

    def failing(run, step, items):
        if next(numbers) == 1:
            raise TeacherUnreachable("it went away")
        return ask(run, step, items)

    monkeypatch.setattr(Run, "ask", failing)
    with pytest.raises(TeacherUnreachable, match="it went away"):
        train("trial", ONE_BY_ONE)
