"""Which step a run ends with, and which run `--resume auto` goes on with."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.tiny_runs import phases, rows_of
from trainer.config import Config
from trainer.errors import ConfigError
from trainer.learning.checkpoint import load_best
from trainer.learning.launch import resume, train_new, train_or_resume

EVERY_STEP = {"val_interval": 1}


@pytest.fixture
def runs(tmp_path):
    """Where the test's runs are."""
    return tmp_path / "runs"


@pytest.fixture
def train(document, teacher_url, runs):
    """Train with changed sections, or go on; (the result, what it reported)."""

    def train(begin=train_new, report=lambda _: None, **sections):
        config = Config.model_validate(document(**sections))
        reported = []

        def note(line):
            reported.append(line)
            report(line)

        return begin(config, "trial", teacher_url=teacher_url, runs=runs, report=note), reported

    return train


def _validations(folder):
    log = Path(folder) / "logs/validation.jsonl"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _stop_at(text):
    return lambda line: os.kill(os.getpid(), signal.SIGINT) if text in line else None


def test_the_best_validation_is_what_the_run_ends_with(train, finished, runs, teacher_url):
    """Not the last step; also if the run was stopped after it, in between two checkpoints."""
    sections = {"evaluation": {**EVERY_STEP, "keep_best": True}, "hyperparams": {"policy_lr": 0.1}}
    result, reported = train(**sections)
    scores = {line["step"]: line["validation/reward"] for line in _validations(result.folder)}
    best = max(scores, key=lambda step: (scores[step], -step))
    assert best < 8
    assert f"trained compressor: {result.model_path} (of step {best})" in reported
    weights = load_best(Path(result.folder) / "checkpoints", best)
    last = torch.load(Path(result.folder) / "checkpoints/step-00000008.pt", weights_only=True)[
        "tensors"
    ]["model"]
    assert any(not torch.equal(weights[name], last[name]) for name in weights)
    shutil.move(runs / "trial", runs / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(report=_stop_at("step 5  validation"), **sections)
    again = resume(runs / "trial", teacher_url=teacher_url, report=lambda _: None)
    assert again.weights_digest == result.weights_digest


def test_a_run_stops_where_validation_gets_no_better(train, finished):
    """After so many that are no better; resumed, it is over, and its rows end there."""
    result, reported = train(
        evaluation={**EVERY_STEP, "patience": 2, "select_by": "answers"},
        hyperparams={"policy_lr": 1e-9},
    )
    assert phases(rows_of(Path(result.folder) / "logs/rewards_logs_updated.csv"))[-1] == ("ValR", 3)
    assert "no better validation than step 1's: stopping here" in reported
    assert len(_validations(result.folder)) == 3


def test_validation_is_also_against_peoples_answers(finished):
    """In the log, beside agreement with the teacher; for generated meetings they are the same."""
    for line in _validations(finished.folder):
        assert line["validation/answers"] == line["validation/reward"]
        assert 0 < line["validation/rate"] < 1


def test_what_cannot_be_selected_by_is_refused(train, tmp_path, document):
    """Without validation, and by answers that nobody wrote."""
    with pytest.raises(ConfigError, match="expected validation examples to select by"):
        train(data={"val_file_path": None}, evaluation={"val_share": 0.0, "keep_best": True})
    bare = json.loads(Path(document()["data"]["val_file_path"]).read_text())
    for record in bare.values():
        for question in record["questions"]:
            del question["answer"]
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    with pytest.raises(ConfigError, match="written by people"):
        train(
            data={"val_file_path": str(tmp_path / "bare.json")},
            evaluation={"patience": 1, "select_by": "answers"},
        )


def test_resume_auto_begins_goes_on_and_ends(train, finished, runs):
    """The same call each time, as by a scheduler; a damaged checkpoint costs some steps."""
    for line in ("step 2/8", "step 6/8"):
        with pytest.raises(KeyboardInterrupt):
            train(train_or_resume, _stop_at(line), logging={"keep_checkpoints": 3})
    newest = runs / "trial/checkpoints/step-00000006.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    result, _ = train(train_or_resume, logging={"keep_checkpoints": 3})
    assert result.weights_digest == finished.weights_digest
    assert result.lock_root == finished.lock_root
    again, reported = train(train_or_resume, logging={"keep_checkpoints": 3})
    assert again == result
    assert "is finished" in reported[0]
    assert [folder.name for folder in runs.iterdir()] == ["trial"]


def test_resume_auto_leaves_other_runs_alone(train, runs):
    """One of another config, and one that was killed before its first checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        train(report=_stop_at("step 2/8"))
    with pytest.raises(KeyboardInterrupt):
        train(train_or_resume, _stop_at("step 2/8"), hyperparams={"policy_lr": 2e-3})
    assert sorted(folder.name for folder in runs.iterdir()) == ["trial", "trial-2"]
    shutil.rmtree(runs / "trial/checkpoints")
    with pytest.raises(KeyboardInterrupt):
        train(train_or_resume, _stop_at("step 2/8"))
    assert sorted(folder.name for folder in runs.iterdir()) == ["trial", "trial-2", "trial-3"]
    with pytest.raises(KeyboardInterrupt):
        train(train_or_resume, _stop_at("step 4/8"), budget={"calls": 10_000})
    assert (runs / "trial-3/checkpoints/step-00000004.pt").exists()
