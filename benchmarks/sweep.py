"""What a sweep costs when each of its runs learns from the rollouts of those before it.

Ten runs that differ in learning rate, entropy bonus and KL to the base, from one base on one data
set: once each on its own (`on policy`), and once each on the rollouts of all runs before it, asking
the teacher only where those no longer cover the policy. The first run is on policy in both.

    calls_vs_one_run   training calls of the ten runs / those of the first, cached or not
    best_f1_...        of the run that is best on a validation set, on the test set
    difference_low     lower end of the 95 % paired interval of the best with reuse minus the best
                       on policy, over the test set's contexts

The curve has the same for other bounds on the KL: with none, nothing is asked after the first run.

    python -m benchmarks.sweep                      everything: 1,250 contexts, 30k calls a run
    python -m benchmarks.sweep --contexts 125       a tenth; writes no file
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.results import publish, show
from benchmarks.workbench import configure, make_demo_base, make_examples, recording_service
from trainer.config import Config, Reuse
from trainer.evaluation import rows
from trainer.evaluation.intervals import paired_bootstrap
from trainer.learning.launch import Result, train_new
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import Target
from trainer.policy.words import CompressionOptions
from trainer.rollouts.connection import connect
from trainer.types import Example

SEED = 0
CONTEXTS, VALIDATION, TEST = 1250, 200, 500
GRID = (
    # policy_lr, entropy_per_word, kl_coeff; the first is the demo's
    (1e-3, 0.006, 0.0),
    (5e-4, 0.006, 0.0),
    (2e-3, 0.006, 0.0),
    (1e-3, 0.003, 0.0),
    (1e-3, 0.012, 0.0),
    (1e-3, 0.006, 0.003),
    (1e-3, 0.006, 0.01),
    (5e-4, 0.003, 0.0),
    (2e-3, 0.012, 0.0),
    (2e-3, 0.006, 0.003),
)
UNBOUNDED = 1e9

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a sweep."""

    setting: tuple[float, float, float]
    folder: str
    calls: int
    """Asked in training, cached or not."""
    bought: int
    """Of these, generations that the teacher made."""
    validation_f1: float
    f1_by_context: np.ndarray
    """Of each test context, the mean over its questions."""
    seconds: float

    @property
    def f1(self) -> float:
        """On the test set."""
        return float(self.f1_by_context.mean())


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share."""

    folder: Path
    url: str
    base: str
    validation: Sequence[Example]
    test: Sequence[Example]

    def run(
        self, setting: tuple[float, float, float], reused: Sequence[str], max_kl: float
    ) -> Measured:
        """Train one run of the grid, and evaluate it."""
        start = time.perf_counter()
        result = train_new(
            self._config(setting, reused, max_kl),
            "run",
            teacher_url=self.url,
            runs=self.folder / "runs",
            report=lambda _line: None,
        )
        seconds = time.perf_counter() - start
        return self._measured(setting, result, seconds)

    def _config(
        self, setting: tuple[float, float, float], reused: Sequence[str], max_kl: float
    ) -> Config:
        lr, entropy, kl = setting
        return configure(
            data={"train_file_path": str(self.folder / "train.json"), "val_file_path": None},
            model={"model_load_path": self.base},
            hyperparams={"policy_lr": lr},
            policy={"entropy_per_word": entropy, "kl_coeff": kl},
            evaluation={"val_share": 0.0},
            run={"seed": SEED},
            reuse={"runs": list(reused), "max_kl": max_kl},
        )

    def _measured(
        self, setting: tuple[float, float, float], result: Result, seconds: float
    ) -> Measured:
        assert result.backend_calls is not None
        compressor = PromptCompressorReinforce(result.model_path, "cpu", length_tokenizer="policy")
        return Measured(
            setting,
            result.folder,
            result.teacher_calls,
            result.backend_calls,
            float(self._f1(compressor, self.validation).mean()),
            self._f1(compressor, self.test),
            seconds,
        )

    def _f1(self, compressor: PromptCompressorReinforce, examples: Sequence[Example]) -> np.ndarray:
        """Of each context, deployed by the stock rule."""
        config = configure()
        target = Target(config.hyperparams.compression_rate)
        texts = rows.by_policy(compressor, examples, CompressionOptions(), target, exact=False)
        with connect(config, self.url) as teacher:
            row = rows.judge("run", texts, examples, teacher.complete, config.reward.metric)
        return np.array(row.scores.values, dtype=float).reshape(len(examples), -1).mean(axis=1)


def main() -> None:
    """Run the sweeps, print the curve, write `results/sweep.json`."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--contexts", type=int, default=CONTEXTS, help="fewer write no file")
    parser.add_argument("--runs", type=int, default=len(GRID), help="fewer write no file")
    options = parser.parse_args()
    bound = Reuse().max_kl
    with tempfile.TemporaryDirectory() as scratch, recording_service(Path(scratch)) as url:
        bench = prepare(Path(scratch), url, options.contexts)
        on_policy = sweep(bench, GRID[: options.runs])
        curve = []
        for max_kl in (UNBOUNDED, bound, bound / 4):
            first = on_policy[0]
            reusing = sweep(bench, GRID[: options.runs], first=first, max_kl=max_kl)
            curve.append(compare(on_policy, reusing, max_kl))
            show_sweep(on_policy, reusing, curve[-1])
    show_curve(curve, on_policy)
    headline = next(point for point in curve if point["max_kl"] == bound)
    figures = {
        "calls_vs_one_run": headline["calls_vs_one_run"],
        "best_f1_reuse": headline["best_f1"],
        "best_f1_on_policy": best(on_policy).f1,
        "difference_low": headline["difference_interval"][0],
        "on_policy_calls_vs_one_run": cost(on_policy),
        "curve": curve,
        "on_policy": [describe(run) for run in on_policy],
    }
    if (options.contexts, options.runs) == (CONTEXTS, len(GRID)):
        publish("sweep", figures)


def prepare(folder: Path, url: str, contexts: int) -> Bench:
    """Make the data and the base."""
    train = make_examples(folder / "train.json", contexts, SEED, "train", url)
    return Bench(
        folder,
        url,
        make_demo_base(folder / "base", train, SEED),
        make_examples(folder / "validation.json", VALIDATION, SEED, "validation", url),
        make_examples(folder / "test.json", TEST, SEED, "test", url),
    )


def sweep(
    bench: Bench,
    grid: Sequence[tuple[float, float, float]],
    *,
    first: Measured | None = None,
    max_kl: float = UNBOUNDED,
) -> list[Measured]:
    """The runs of a grid: each alone, or on all before it where there is a first one."""
    runs = [] if first is None else [first]
    for setting in grid[len(runs) :]:
        reused = [] if first is None else [run.folder for run in runs]
        runs.append(bench.run(setting, reused, max_kl))
        _console.print(_line(runs[-1], f"on {len(reused)} runs" if reused else "on policy"))
    return runs


def cost(runs: Sequence[Measured]) -> float:
    """Training calls of a sweep / those of its first run."""
    return sum(run.calls for run in runs) / runs[0].calls


def best(runs: Sequence[Measured]) -> Measured:
    """The run that does best on the validation set."""
    return max(runs, key=lambda run: run.validation_f1)


def compare(
    on_policy: Sequence[Measured], reusing: Sequence[Measured], max_kl: float
) -> dict[str, Any]:
    """A sweep with reuse against the one without."""
    interval = paired_bootstrap(best(reusing).f1_by_context, best(on_policy).f1_by_context)
    pairs = list(zip(reusing, on_policy, strict=True))[1:]
    each = paired_bootstrap(
        np.stack([ours.f1_by_context for ours, _ in pairs]),
        np.stack([theirs.f1_by_context for _, theirs in pairs]),
    )
    return {
        "max_kl": max_kl,
        "calls_vs_one_run": cost(reusing),
        "bought_vs_one_run": sum(run.bought for run in reusing) / reusing[0].bought,
        "best_f1": best(reusing).f1,
        "best_setting": best(reusing).setting,
        "difference": interval.difference,
        "difference_interval": [interval.low, interval.high],
        "mean_difference_of_a_run": each.difference,
        "mean_difference_of_a_run_interval": [each.low, each.high],
        "runs": [describe(run) for run in reusing],
    }


def describe(run: Measured) -> dict[str, Any]:
    """One run of a sweep, for the results file."""
    lr, entropy, kl = run.setting
    return {
        "policy_lr": lr,
        "entropy_per_word": entropy,
        "kl_coeff": kl,
        "calls": run.calls,
        "bought": run.bought,
        "validation_f1": run.validation_f1,
        "f1": run.f1,
        "seconds": round(run.seconds, 1),
    }


def show_sweep(
    on_policy: Sequence[Measured], reusing: Sequence[Measured], point: Mapping[str, Any]
) -> None:
    """One sweep with reuse, run by run."""
    show(
        f"Each run on the rollouts of those before it, up to {point['max_kl']:g} nats a word",
        ("lr, entropy, KL", "calls", "F1 with reuse", "F1 on policy"),
        [
            (_name(ours), f"{ours.calls:,}", f"{ours.f1:.3f}", f"{theirs.f1:.3f}")
            for ours, theirs in zip(reusing, on_policy, strict=True)
        ],
    )


def show_curve(curve: Sequence[Mapping[str, Any]], on_policy: Sequence[Measured]) -> None:
    """What calls buy."""
    show(
        "Ten runs: the best one's F1 against the calls of all",
        ("bound, nats a word", "calls / one run", "best F1", "minus on policy (95 %)"),
        [
            *(
                (
                    "none" if point["max_kl"] == UNBOUNDED else f"{point['max_kl']:g}",
                    f"{point['calls_vs_one_run']:.2f}",
                    f"{point['best_f1']:.3f}",
                    "{:+.3f} to {:+.3f}".format(*point["difference_interval"]),
                )
                for point in curve
            ),
            ("on policy", f"{cost(on_policy):.2f}", f"{best(on_policy).f1:.3f}", ""),
        ],
    )
    mean_f1 = fmean(run.f1 for run in on_policy)
    _console.print(f"mean F1 of a run on policy: {mean_f1:.3f}")


def _name(run: Measured) -> str:
    return "  ".join(f"{value:g}" for value in run.setting)


def _line(run: Measured, how: str) -> str:
    return (
        f"{_name(run):<20} {how:<11} F1 {run.f1:.3f} (validation {run.validation_f1:.3f})  "
        f"{run.calls:,} calls, {run.bought:,} bought  {run.seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
