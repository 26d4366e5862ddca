"""Masks drawn one update early, so that the teacher answers while the weights move."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from trainer.config import Config
from trainer.errors import TeacherUnreachable
from trainer.learning import passes
from trainer.learning.launch import resume, train_new
from trainer.learning.lockfile import Lock
from trainer.learning.run import Run

AHEAD = {"one_step_ahead": True}


@pytest.fixture(scope="module")
def train(document, teacher_url, tmp_path_factory):
    """Train ahead, with some keys changed; the result."""
    runs = tmp_path_factory.mktemp("ahead")

    def train(name, *, policy=AHEAD, report=lambda _line: None, replay=None, **sections):
        config = Config.model_validate(document(policy=policy, **sections))
        return train_new(
            config, name, teacher_url=teacher_url, runs=runs, replay=replay, report=report
        )

    return train


@pytest.fixture(scope="module")
def ahead(train):
    """A run that nobody stopped."""
    return train("whole")


def _texts_of(result, step):
    lines = (Path(result.folder) / "logs/rollouts.jsonl").read_text().splitlines()
    rollouts = [line for line in map(json.loads, lines) if line["phase"] == "train"]
    return [line["compressed_text"] for line in rollouts if line["step"] == step]


def test_the_next_step_is_asked_about_while_this_one_learns(train, monkeypatch):
    """A step's line is held back until the teacher has been asked about the next."""
    ask, log_step, asked = Run.ask, Run.log_step, threading.Semaphore(0)

    def noted(run, step, items):
        asked.release()
        return ask(run, step, items)

    def waiting(run, epoch, step, metrics):
        assert step == run.total_steps or all(asked.acquire(timeout=30) for _ in range(2))
        asked.release()
        log_step(run, epoch, step, metrics)

    monkeypatch.setattr(Run, "ask", noted)
    monkeypatch.setattr(Run, "log_step", waiting)
    train("noted", hyperparams={"epochs": 1}, evaluation={"val_interval": 100})


def test_masks_are_one_update_old(ahead, train):
    """Steps 1 and 2 are drawn by the first weights, step 3 by other ones; and the log says so."""
    still = train("still", policy={}, hyperparams={"policy_lr": 1e-30, "epochs": 1})
    assert [_texts_of(ahead, step) == _texts_of(still, step) for step in (1, 2, 3)] == [
        True,
        True,
        False,
    ]
    lines = (Path(ahead.folder) / "logs/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["policy/staleness"] for line in lines] == [0] + [1] * 7


def test_a_stopped_run_draws_again_by_the_weights_that_had_drawn(ahead, train, teacher_url):
    """Stopped twice, once in the middle of a pair of steps: bit for bit the run never stopped."""

    def stop_at(text):
        return lambda line: os.kill(os.getpid(), signal.SIGINT) if text in line else None

    with pytest.raises(KeyboardInterrupt):
        train("stopped", report=stop_at("step 4/8"))
    folder = Path(ahead.folder).with_name("stopped")
    with pytest.raises(KeyboardInterrupt):
        resume(folder, teacher_url=teacher_url, report=stop_at("step 6/8"))
    result = resume(folder, teacher_url=teacher_url, report=lambda _line: None)
    assert result.weights_digest == ahead.weights_digest
    assert result.lock_root == ahead.lock_root


def test_a_teacher_that_goes_away_loses_no_step(ahead, train, teacher_url, monkeypatch):
    """The step that learnt meanwhile is saved, and the run goes on from there."""
    ask = Run.ask

    def failing(run, step, items):
        if step == 5:
            raise TeacherUnreachable("it went away")
        return ask(run, step, items)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "ask", failing)
        with pytest.raises(TeacherUnreachable):
            train("deserted")
    folder = Path(ahead.folder).with_name("deserted")
    assert (folder / "checkpoints/step-00000004.pt").exists()
    result = resume(folder, teacher_url=teacher_url, report=lambda _line: None)
    assert result.weights_digest == ahead.weights_digest


def test_a_replay_draws_the_same_masks(ahead, train):
    """And ends with the same weights."""
    result = train("replayed", replay=Lock(Path(ahead.lock)))
    assert result.weights_digest == ahead.weights_digest


def test_memory_may_run_out_between_drawing_and_learning(train, monkeypatch):
    """The next step was drawn whole, and is learnt from in smaller micro-batches, twice."""
    loss, full = passes._loss, threading.Event()

    def failing(run, part, policy, *, first):
        if run.finished_steps == 1 and not full.is_set():
            full.set()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss(run, part, policy, first=first)

    monkeypatch.setattr(passes, "_loss", failing)
    result = train("short of memory", policy={**AHEAD, "passes": 2, "max_kl": 10.0})
    lines = (Path(result.folder) / "logs/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss/passes"] for line in lines] == [2] * 8
