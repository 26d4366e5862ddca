"""Run folders of any state: what is there is read, what is not is said."""

import json

import numpy as np
import pytest

from tests.run_folders import metrics, write_run
from trainer.errors import CheckpointError
from trainer.evaluation.run_report.run_files import labels, read_run


def test_a_finished_run_is_read_whole(tmp_path):
    """Figures by step, validations, settings; nothing to complain about."""
    run = read_run(write_run(tmp_path / "trial", 40))
    assert run.steps.tolist() == list(range(1, 41))
    assert run.metrics["teacher/calls"].sum() == 40 * 24
    assert run.validation == ((40, 0.75),)
    assert run.setting("hyperparams", "compression_rate") == 0.3
    assert run.result is not None
    assert run.problems == ()


def test_a_killed_run_shows_what_it_wrote(tmp_path):
    """No result, no rewards yet, and a last line that was cut in the middle."""
    folder = write_run(tmp_path / "trial", 5)
    (folder / "result.json").unlink()
    with (folder / "logs/metrics.jsonl").open("a") as file:
        file.write(json.dumps(metrics(6, 6))[:70])
    run = read_run(folder)
    assert (run.result, len(run.steps), run.problems) == (None, 5, ())


def test_damaged_lines_are_left_out_and_counted(tmp_path):
    """A line that is no JSON, one without a step, and a figure that is none."""
    folder = write_run(tmp_path / "trial", 4)
    with (folder / "logs/metrics.jsonl").open("a") as file:
        file.write("\x00\x00\n[1, 2]\n")
        file.write(json.dumps(metrics(5, 5) | {"reward/mean": "high", "loss/lr": None}) + "\n")
        file.write('{"phase": "train", "step": 6, "reward/mean": NaN}\n')
    run = read_run(folder)
    assert run.steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isnan(run.metrics["reward/mean"][4:]).all()
    assert run.problems == ("trial/metrics.jsonl: 2 of 8 lines are damaged and left out",)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.json", None, "trial/run.json: there is no such file; the run's settings are not"),
        ("run.json", "{", "trial/run.json: it cannot be read"),
        ("run.json", "[]", "trial/run.json: expected a JSON object, got list"),
        ("result.json", "", "trial/result.json: it cannot be read"),
        ("logs/metrics.jsonl", None, "trial/metrics.jsonl: there is no such file in"),
        ("logs/rewards_logs_updated.csv", None, "the validation cannot be shown"),
        ("logs/rewards_logs_updated.csv", "ValR,1,x\n", "a row is damaged and left out: ValR,1,x"),
        ("evaluation/report.json", "{}", "expected what `taco evaluate` writes, and rows is none"),
    ],
)
def test_what_is_missing_or_damaged_is_a_sentence(tmp_path, name, content, said):
    """Which file, what is wrong, what cannot be shown; the rest is read all the same."""
    folder = write_run(tmp_path / "trial", 4)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    run = read_run(folder)
    assert len(run.problems) == 1
    assert said in run.problems[0]
    assert run.metrics or name.endswith("metrics.jsonl")


def test_a_folder_of_no_run_is_refused(tmp_path):
    """With what was expected."""
    with pytest.raises(CheckpointError, match=r"expected a run's folder.*found neither"):
        read_run(tmp_path)


def test_validations_stand_at_their_steps(tmp_path):
    """Beside the figures of the training; one whose step was cut off has no place."""
    folder = write_run(tmp_path / "trial", 4)
    (folder / "logs/validation.jsonl").write_text(
        '{"epoch": 1, "step": 2, "validation/answers": 0.25}\n'
        '{"epoch": 1, "step": 4, "validation/answers": 0.5}\n'
        '{"epoch": 1, "step": 6, "validation/answers": 0.75}\n'
    )
    answers = read_run(folder).metrics["validation/answers"]
    assert np.isnan(answers[[0, 2]]).all()
    assert answers[[1, 3]].tolist() == [0.25, 0.5]


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    """As two demos are."""
    folders = [write_run(tmp_path / name, 1) for name in ("a/train", "b/train", "c")]
    found = labels([read_run(folder) for folder in folders])
    assert found == [str(folders[0]), str(folders[1]), "c"]
