"""What the sweep's benchmark makes of its runs, and the configs that it trains."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import sweep

N = 40


def measured(calls, f1, place=0):
    """A run whose validation contexts all have the same F1."""
    setting = sweep.GRID[place]
    return sweep.Measured(setting, f"run-{place}", "model", calls, calls, np.full(N, f1), 1.0)


def test_a_sweep_costs_what_its_runs_ask_beside_the_first():
    """And its best run is that of the validation set."""
    runs = [measured(100, 0.8), measured(20, 0.9), measured(0, 0.7)]
    assert sweep.cost(runs) == 1.2
    assert sweep.best(runs) is runs[1]


def test_best_runs_are_compared_on_the_test_set_and_all_others_on_the_validation_set():
    """The first run is the same in both sweeps, and no pair; a finalist counts by its calls."""
    on_policy = [measured(100, 0.80), measured(100, 0.70), measured(100, 0.60)]
    reusing = [on_policy[0], measured(0, 0.83), measured(0, 0.55), measured(40, 0.84)]
    point = sweep.compare("2x", on_policy, reusing, np.full(N, 0.75), np.full(N, 0.78))
    assert point["calls_vs_one_run"] == 1.4
    assert point["best_f1"] == pytest.approx(0.78)
    assert point["difference_interval"] == pytest.approx([0.03, 0.03])
    assert point["mean_difference_of_a_run"] == pytest.approx((0.13 - 0.05) / 2)


class Rehearsal:
    """Notes what it is to train; a bench in all else."""

    def __init__(self):
        self.asked = []

    def run(self, setting, reused, max_asked):
        """Another run of that setting."""
        self.asked.append((setting, list(reused), max_asked))
        return measured(10, 0.9, sweep.GRID.index(setting))


def test_the_best_of_the_free_runs_are_trained_again_each_on_those_before():
    """Not the first, which asked already."""
    bench, f1 = Rehearsal(), [0.9, 0.5, 0.8, 0.6, 0.7]
    free = [measured(100 if place == 0 else 0, value, place) for place, value in enumerate(f1)]
    again = sweep.finals(bench, free, 1 / 3)
    assert [setting for setting, _, _ in bench.asked] == [sweep.GRID[at] for at in (2, 4, 3)]
    assert [reused for _, reused, _ in bench.asked] == [
        ["run-0"],
        ["run-0", "run-2"],
        ["run-0", "run-2", "run-4"],
    ]
    assert sweep.cost(free + again) == pytest.approx(1.3)
    assert sweep.finals(bench, free, 0.0) == []


def test_without_a_first_run_each_is_on_policy_and_with_one_none_asks():
    """The nine further runs of a sweep have the first one's rollouts alone."""
    bench = Rehearsal()
    on_policy = sweep.sweep(bench, sweep.GRID[:3])
    sweep.sweep(bench, sweep.GRID[:3], first=on_policy[0])
    assert bench.asked == [
        *((setting, [], 1.0) for setting in sweep.GRID[:3]),
        *((setting, ["run-0"], 0.0) for setting in sweep.GRID[1:3]),
    ]


@pytest.mark.parametrize("setting", sweep.GRID)
def test_every_run_of_the_grid_can_be_configured(setting):
    """Ten of them, all different."""
    bench = sweep.Bench(Path("folder"), "http://127.0.0.1:1", "base", (), ())
    config = bench._config(setting, ["runs/a"], 0.1)
    assert config.reuse.runs == ("runs/a",)
    assert (config.hyperparams.policy_lr, config.policy.entropy_per_word) == setting[:2]
    assert len(set(sweep.GRID)) == 10
    free = bench._config(setting, ["runs/a"], 0.0)
    assert free.policy.final_entropy_per_word is None
    assert config.policy.final_entropy_per_word == pytest.approx(setting[1] / 3)
    assert free.policy.passes == config.policy.passes == sweep.REUSING_PASSES
    assert bench._config(setting, [], 1.0).policy.passes == 2
