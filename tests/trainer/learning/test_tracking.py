"""Figures for TensorBoard, read back from its real event files."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_runs import tiny_config
from trainer.errors import ConfigError
from trainer.learning import tracking
from trainer.learning.launch import resume, train_new


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of every event below a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def lines(run: Path) -> Iterator[dict[str, float]]:
    """The run's own figures."""
    for line in (run / "logs/metrics.jsonl").read_text().splitlines():
        yield json.loads(line)


class Killed(BaseException):
    """Ends a run where no handler of errors looks."""


def test_tensorboard_gets_what_the_run_logs(meetings, base, teacher_url, tmp_path):
    """Every figure of every step, the validation, and after a resume no step twice."""
    config = tiny_config(
        meetings,
        base,
        data={"val_file_path": str(meetings)},
        logging={"trackers": ["tensorboard"]},
    )

    def kill(step, total_steps, metrics):
        if step == 5:  # After the checkpoint of step 3.
            raise Killed

    with pytest.raises(Killed):
        train_new(config, "trial", teacher_url=teacher_url, runs=tmp_path, watch=kill)
    run = tmp_path / "trial"
    resume(run, teacher_url=teacher_url)
    found = scalars(run / "logs" / tracking.PROJECT)
    logged = list(lines(run))
    assert [line["step"] for line in logged] == list(range(1, 9))
    names = [name for name in logged[0] if "/" in name]
    assert len(names) > 20
    for name in names:
        expected = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in logged]
        assert found[name] == expected, name
    assert [step for step, _ in found["validation/reward"]] == [8]


def test_no_tracker_is_asked_unless_the_config_says_so(meetings, base, teacher_url, tmp_path):
    """Nothing but the run's own files."""
    config = tiny_config(meetings, base, hyperparams={"epochs": 1})
    watched = []
    said = []
    train_new(
        config, "trial", teacher_url=teacher_url, runs=tmp_path,
        report=said.append, watch=lambda *figures: watched.append(figures[:2]),
    )  # fmt: skip
    assert not list(tmp_path.rglob("*tfevents*"))
    # Whoever watches every step needs no line an interval.
    assert watched == [(step, 4) for step in range(1, 5)]
    assert not [line for line in said if line.startswith("step")]


def test_a_tracker_that_is_not_installed_is_said_at_once(
    meetings, base, teacher_url, tmp_path, monkeypatch
):
    """Accelerate itself would go on without it. No folder is left."""
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "trackio" else name)
    config = tiny_config(meetings, base, logging={"trackers": ["tensorboard", "trackio"]})
    with pytest.raises(ConfigError, match="trackio: it is not installed; pip install trackio"):
        train_new(config, "trial", teacher_url=teacher_url, runs=tmp_path)
    assert list(tmp_path.iterdir()) == []
