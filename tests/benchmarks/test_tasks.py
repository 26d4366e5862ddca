"""The benchmark of the three tasks: from raw data to the table, small."""

import pytest

from benchmarks import tasks
from benchmarks.task_tables import RULES, BenchmarkTask, summarize
from benchmarks.tasks import measure_seed
from trainer.config_file import load_config
from trainer.tasks.registry import TASKS

TINY = BenchmarkTask("meeting-qa", "meeting_qa.yaml", 24, 5, ("f1", "exact_match"))
ROWS = ["none", "first words", "random", "stop words", "rarest", "base", "trained"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One seed, three steps."""
    return measure_seed(tmp_path_factory.mktemp("scratch"), TINY, 3)


@pytest.mark.parametrize("task", tasks.TASKS, ids=lambda task: task.name)
def test_every_task_has_its_data_its_config_and_its_rewards_metric_first(task):
    """The metric that the table leads with is the one that training is paid by."""
    assert task.name in TASKS
    config = load_config(tasks.CONFIGS / task.config)
    assert task.metrics[0] == config.reward.metric


def test_a_seed_gives_every_row_by_both_cuts(measured):
    """From raw data; training asked the teacher, and every row has the length asked for."""
    assert [row.name for row in measured.exact.rows] == ROWS
    assert [row.name for row in measured.stock.rows] == ROWS
    assert (measured.train_records, len(measured.examples)) == (24, 4)
    assert 0 < measured.teacher_calls <= 24 * 16 * 3
    for row in measured.exact.rows[1:]:
        assert row.achieved_rate == pytest.approx(0.3, abs=0.02)
        assert [scores.metric for scores in row.correctness] == list(TINY.metrics)


def test_seeds_are_put_together_in_one_table(measured):
    """Means with intervals by row, and trained minus base by both cuts."""
    figures = summarize(TINY, [measured, measured])
    rows = {row["name"]: row for row in figures["rows"]}
    assert list(rows) == ROWS
    assert rows["none"]["agreement"]["f1"]["interval"] == [1.0, 1.0]
    trained, base = (rows[name]["agreement"]["f1"] for name in ("trained", "base"))
    assert trained["by_seed"] == [trained["mean"]] * 2
    for cut in ("exact", "stock"):
        base_margin, rule_margin = figures["margins"][cut].values()
        assert set(base_margin) == set(rule_margin)
        assert set(base_margin) == {"achieved_rates", "agreement", "correctness"}
    margin = figures["margins"]["exact"]["base"]["agreement"]["f1"]
    assert margin["mean"] == pytest.approx(trained["mean"] - base["mean"])
    assert margin["interval"][0] <= margin["mean"] <= margin["interval"][1]
    (best_rule,) = figures["margins"]["exact"].keys() - {"base"}
    assert rows[best_rule]["agreement"]["f1"]["mean"] == max(
        rows[name]["agreement"]["f1"]["mean"] for name in RULES
    )
    off = figures["rate_deviation_points"]["trained"]
    assert off["exact"] < off["stock"]
