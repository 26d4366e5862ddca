"""CI's check of the demo's summary fails where the demo did."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.check_demo import problems

SCRIPT = Path(__file__).parents[1] / "check_demo.py"


@pytest.fixture
def summary(finished):
    """A summary as it must be, with a real compressor."""
    return {
        "base_f1": 0.34,
        "trained_f1": 0.95,
        "random_f1": 0.07,
        "rule_f1": 0.35,
        "achieved_rate": 0.286,
        "teacher_calls": 29_928,
        "replay_teacher_calls": 0,
        "weights_digest": "a" * 64,
        "replay_weights_digest": "a" * 64,
        "model_path": finished.model_path,
        "seconds": 136.5,
    }


def test_a_good_summary_passes_as_a_plain_script(summary, tmp_path):
    """From any folder; the stock package loads the compressor without a network."""
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(summary))
    command = [sys.executable, str(SCRIPT), str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}: the demo shows what it must\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"trained_f1": 0.87},
        {"base_f1": 0.8},
        {"random_f1": 0.30},
        {"achieved_rate": 0.4},
        {"teacher_calls": 300},
        {"replay_teacher_calls": 1},
        {"replay_weights_digest": "b" * 64},
        {"seconds": 181},
        {"model_path": "nowhere"},
    ],
)
def test_each_bound_is_checked(summary, tmp_path, changes):
    """One failure, one message."""
    summary["model_path"] = changes.get("model_path", str(tmp_path))  # The model is not loaded.
    found = list(problems({**summary, **changes}, tmp_path))
    assert len([problem for problem in found if "stock llmlingua" not in problem]) == 1


def test_all_failures_are_told_and_the_exit_code_says_so(summary, tmp_path):
    """Here two, and a compressor that cannot be loaded."""
    path = tmp_path / "summary.json"
    broken = {**summary, "trained_f1": 0.2, "seconds": 999, "model_path": str(tmp_path)}
    path.write_text(json.dumps(broken))
    command = [sys.executable, str(SCRIPT), str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "trained_f1 is at least 0.88" in done.stderr
    assert "three minutes" in done.stderr
    assert "stock llmlingua" in done.stderr


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_no_summary_is_a_failure(tmp_path, content, capsys):
    """Missing, empty, or without its keys."""
    from tests.check_demo import main

    path = tmp_path / "summary.json"
    if content is not None:
        path.write_text(content)
    assert main(path) == 1
    assert "expected the" in capsys.readouterr().err
