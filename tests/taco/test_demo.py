"""`taco demo`, with a fiftieth of its teacher calls."""

import json

import pytest

from taco import demo
from tests.check_demo import KEYS


@pytest.fixture
def small_demo(tmp_path, monkeypatch):
    """The demo in a folder of its own, with few meetings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "RECORDS", {"train": 12, "validation": 4, "test": 8})
    return tmp_path / "runs/demo"


def test_all_of_it_in_small(small_demo, capfd):
    """Data, teacher, base, training, comparison, replay: three steps instead of 157.

    An earlier demo is moved aside, so that call counts mean the same each time.
    """
    small_demo.mkdir(parents=True)
    (small_demo / "mine.txt").write_text("keep me")
    demo.run_demo()
    summary = json.loads((small_demo / "summary.json").read_text())
    assert summary.keys() == KEYS
    assert summary["replay_teacher_calls"] == 0
    assert summary["weights_digest"] == summary["replay_weights_digest"]
    assert summary["teacher_calls"] > 0
    assert (small_demo.parents[1] / summary["model_path"] / "model.safetensors").is_file()
    assert small_demo.with_name("demo-earlier-1").joinpath("mine.txt").read_text() == "keep me"

    rows = json.loads((small_demo / "rows.json").read_text())
    assert [row["name"] for row in rows] == ["none", "random", "rule", "base", "trained"]
    f1 = {row["name"]: row["f1"] for row in rows}
    assert f1["none"] == 1.0
    achieved = {row["name"]: row["achieved_rate"] for row in rows}
    assert achieved["random"] == pytest.approx(achieved["trained"], abs=0.05)
    assert achieved["base"] == pytest.approx(achieved["trained"], abs=0.01)

    page = (small_demo / "train/report.html").read_text()
    for text in ("Quality against rate", "Example 0", "reward "):
        assert text in page
    said = capfd.readouterr().out
    assert "runs/demo/train/report.html (open it in a browser)" in said
    for text in (*f1, "rule-based simulator", "0 backend calls", "bit-identical"):
        assert text in said


def test_the_summary_is_made_of_the_table_and_both_runs():
    """Each figure from its place."""
    rows = [
        {"name": name, "f1": f1, "achieved_rate": rate}
        for name, f1, rate in (
            ("base", 0.1, 0.2),
            ("trained", 0.3, 0.4),
            ("random", 0.5, 0.6),
            ("rule", 0.7, 0.8),
        )
    ]
    trained = {"teacher_calls": 9, "weights_digest": "a", "model_path": "m", "backend_calls": 7}
    replayed = {"weights_digest": "b", "backend_calls": 0, "model_path": "n", "teacher_calls": 9}
    assert demo.summarize(rows, trained, replayed) == {
        "base_f1": 0.1,
        "trained_f1": 0.3,
        "random_f1": 0.5,
        "rule_f1": 0.7,
        "achieved_rate": 0.4,
        "teacher_calls": 9,
        "replay_teacher_calls": 0,
        "weights_digest": "a",
        "replay_weights_digest": "b",
        "model_path": "m",
    }
