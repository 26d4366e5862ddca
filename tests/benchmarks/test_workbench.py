"""What the training benchmarks work with: their configs, and what they read from a run's log."""

import json
from pathlib import Path

import pytest

from benchmarks import learning, replay, step, workbench

DATA = Path("data.json")


@pytest.mark.parametrize(
    "make",
    [
        lambda: replay._config(DATA.parent, "base"),
        *(
            lambda sections=sections: learning._config(DATA, "base", 0, sections)
            for _, sections in learning.TRAINED.values()
        ),
        *(lambda batch=batch: step._config("base", batch, DATA) for batch in step.BATCH_SIZES),
    ],
)
def test_the_benchmarks_configs_agree_with_the_demos(make):
    """They change some values of the demo's file, whose other values must go with them."""
    assert make().evaluation.val_share == 0.0


def test_the_overhead_is_the_share_of_the_wall_time_that_is_not_the_models(tmp_path):
    """Means over the steps after the warm-up, each phase in however few of them it occurs."""
    steps = [
        {"step": 1, "seconds/forward": 90.0, "seconds/update": 90.0, "seconds/other": 90.0},
        {"step": 2, "seconds/forward": 2.0, "seconds/update": 3.0, "seconds/other": 1.0},
        {"step": 3, "seconds/forward": 2.0, "seconds/update": 3.0, "seconds/save": 9.0},
    ]
    lines = "".join(json.dumps(line) + "\n" for line in steps)
    (tmp_path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    seconds = workbench.seconds_by_phase(tmp_path, warm_up=1)
    assert seconds == {"forward": 2.0, "update": 3.0, "other": 0.5, "save": 4.5}
    assert workbench.overhead_share(seconds) == 0.5


def test_f1_is_drawn_against_teacher_calls(tmp_path):
    """Every row has its place in the picture: without one, it is not drawn."""
    names = ["oracle", "rule", "base", "ours-10k", "ours", "reference", *learning.VARIANTS]
    table = [
        {"name": name, "f1_mean": 0.5, "f1_interval": [0.4, 0.6], "teacher_calls": calls}
        for calls, name in enumerate(names)
    ]
    learning.draw(table, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(KeyError, match="ours-10k"):
        learning.draw([row for row in table if row["name"] != "ours-10k"], tmp_path / "no.png")
