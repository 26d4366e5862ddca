"""What the sweep's benchmark makes of its runs, and the configs that it trains."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import sweep

N = 40


def measured(calls, f1):
    """A run whose validation contexts all have the same F1."""
    return sweep.Measured(sweep.GRID[0], "run", "model", calls, calls, np.full(N, f1), 1.0)


def test_a_sweep_costs_what_its_runs_ask_beside_the_first():
    """And its best run is that of the validation set."""
    runs = [measured(100, 0.8), measured(20, 0.9), measured(0, 0.7)]
    assert sweep.cost(runs) == 1.2
    assert sweep.best(runs) is runs[1]


def test_best_runs_are_compared_on_the_test_set_and_all_others_on_the_validation_set():
    """The first run is the same in both sweeps, and no pair."""
    on_policy = [measured(100, 0.80), measured(100, 0.70), measured(100, 0.60)]
    reusing = [on_policy[0], measured(10, 0.83), measured(30, 0.55)]
    point = sweep.compare("2x", on_policy, reusing, np.full(N, 0.75), np.full(N, 0.78))
    assert point["calls_vs_one_run"] == 1.4
    assert point["best_f1"] == pytest.approx(0.78)
    assert point["difference_interval"] == pytest.approx([0.03, 0.03])
    assert point["mean_difference_of_a_run"] == pytest.approx((0.13 - 0.05) / 2)


@pytest.mark.parametrize("setting", sweep.GRID)
def test_every_run_of_the_grid_can_be_configured(setting):
    """Ten of them, all different."""
    bench = sweep.Bench(Path("folder"), "http://127.0.0.1:1", "base", (), ())
    config = bench._config(setting, ["runs/a"], 0.1)
    assert config.reuse.runs == ("runs/a",)
    assert (config.hyperparams.policy_lr, config.policy.entropy_per_word) == setting[:2]
    assert len(set(sweep.GRID)) == 10
