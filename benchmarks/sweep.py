"""What a sweep costs when its runs learn from the rollouts of those before them.

Ten runs that differ in learning rate, entropy bonus and KL to the base, from one base on one data
set. `On policy` each is trained on its own. With reuse the first is, and the other nine learn from
its rollouts alone, for no call; then the three that are best on the validation set are trained
again and may ask ("successive halving"; Jamieson and Talwalkar, 2016), each about a share of its
examples, `reuse.max_asked`.

    calls_vs_one_run   training calls of all these runs / those of the first, cached or not
    best_f1_...        of the run that is best on the validation set, on the test set
    difference_low     lower end of the 95 % paired interval of the best with reuse minus the best
                       on policy, over the test set's contexts

The curve has the same for sweeps of one, about two and about four times the calls of one run: the
three finalists ask about nothing (there are none), a third and all of their examples.

    python -m benchmarks.sweep                      everything: 625 contexts, 30k calls a run
    python -m benchmarks.sweep --contexts 62        a tenth; writes no file
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.results import publish, show
from benchmarks.workbench import configure, make_demo_base, make_examples, recording_service
from trainer.config import Config
from trainer.evaluation import rows
from trainer.evaluation.intervals import paired_bootstrap
from trainer.learning.launch import train_new
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import Target
from trainer.policy.words import CompressionOptions
from trainer.rollouts.connection import connect
from trainer.types import Example

SEED = 0
CONTEXTS, VALIDATION, TEST = 625, 500, 2000
GRID = (
    # policy_lr, entropy_per_word (which stays, but in the finals), kl_coeff
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
FINALISTS = 3
MAX_ASKED = {"1x": 0.0, "2x": 1 / FINALISTS, "4x": 1.0}
"""Of a finalist's examples, by what the whole sweep then costs at most."""
HEADLINE = "2x"
REUSING_PASSES = 4
"""Of the runs that learn from others' rollouts; on policy two, the demo's, are better."""
SETTLED = 1 / 3
"""What a finalist's entropy bonus falls to, as a share of its setting's."""
MAX_KL = 0.01
"""Below the default, so that the allowance is used; in nats per word."""

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a sweep."""

    setting: tuple[float, float, float]
    folder: str
    model_path: str
    calls: int
    """Asked in training, cached or not."""
    bought: int
    """Of these, generations that the teacher made."""
    f1_by_context: np.ndarray
    """Of each validation context, the mean over its questions."""
    seconds: float

    @property
    def f1(self) -> float:
        """On the validation set."""
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
        self, setting: tuple[float, float, float], reused: Sequence[str], max_asked: float
    ) -> Measured:
        """Train one run of the grid, and validate it."""
        start = time.perf_counter()
        result = train_new(
            self._config(setting, reused, max_asked),
            "run",
            teacher_url=self.url,
            runs=self.folder / "runs",
            report=lambda _line: None,
        )
        seconds = time.perf_counter() - start
        assert result.backend_calls is not None
        return Measured(
            setting,
            result.folder,
            result.model_path,
            result.teacher_calls,
            result.backend_calls,
            self.judge(result.model_path, self.validation),
            seconds,
        )

    def judge(self, model_path: str, examples: Sequence[Example]) -> NDArray[np.float64]:
        """F1 of each context, deployed by the stock rule."""
        config = configure()
        compressor = PromptCompressorReinforce(model_path, "cpu", length_tokenizer="policy")
        target = Target(config.hyperparams.compression_rate)
        texts = rows.by_policy(compressor, examples, CompressionOptions(), target, exact=False)
        with connect(config, self.url) as teacher:
            row = rows.judge("run", texts, examples, teacher.complete, config.reward.metric)
        scores: NDArray[np.float64] = np.array(row.scores.values, dtype=float)
        by_context: NDArray[np.float64] = scores.reshape(len(examples), -1).mean(axis=1)
        return by_context

    def _config(
        self, setting: tuple[float, float, float], reused: Sequence[str], max_asked: float
    ) -> Config:
        lr, entropy, kl = setting
        passes = {"passes": REUSING_PASSES} if reused else {}
        is_finalist = bool(reused) and max_asked > 0
        return configure(
            data={"train_file_path": str(self.folder / "train.json"), "val_file_path": None},
            model={"model_load_path": self.base},
            hyperparams={"policy_lr": lr},
            policy={
                "entropy_per_word": entropy,
                "final_entropy_per_word": SETTLED * entropy if is_finalist else None,
                "kl_coeff": kl,
                **passes,
            },
            evaluation={"val_share": 0.0},
            run={"seed": SEED},
            reuse={"runs": list(reused), "max_asked": max_asked, "max_kl": MAX_KL},
        )


def main() -> None:
    """Run the sweeps, print the curve, write `results/sweep.json`."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--contexts", type=int, default=CONTEXTS, help="fewer write no file")
    parser.add_argument("--runs", type=int, default=len(GRID), help="likewise")
    parser.add_argument(
        "--points", nargs="+", choices=MAX_ASKED, default=list(MAX_ASKED), help="likewise"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, recording_service(Path(scratch)) as url:
        bench = prepare(Path(scratch), url, options.contexts)
        on_policy = sweep(bench, GRID[: options.runs])
        reference = bench.judge(best(on_policy).model_path, bench.test)
        free = sweep(bench, GRID[: options.runs], first=on_policy[0])
        curve = []
        for name in options.points:
            reusing = free + finals(bench, free, MAX_ASKED[name])
            on_test = bench.judge(best(reusing).model_path, bench.test)
            curve.append(compare(name, on_policy, reusing, reference, on_test))
            show_sweep(name, on_policy, reusing)
    show_curve(curve, on_policy, float(reference.mean()))
    whole = (CONTEXTS, len(GRID), list(MAX_ASKED))
    if (options.contexts, options.runs, options.points) != whole:
        return
    headline = next(point for point in curve if point["name"] == HEADLINE)
    figures = {
        "calls_vs_one_run": headline["calls_vs_one_run"],
        "best_f1_reuse": headline["best_f1"],
        "best_f1_on_policy": float(reference.mean()),
        "difference_low": headline["difference_interval"][0],
        "on_policy_calls_vs_one_run": cost(on_policy),
        "max_kl": MAX_KL,
        "reusing_passes": REUSING_PASSES,
        "finalists": FINALISTS,
        "finalists_settle_to": round(SETTLED, 3),
        "curve": curve,
        "on_policy": [describe(run) for run in on_policy],
    }
    publish("sweep", figures)


def prepare(folder: Path, url: str, contexts: int) -> Bench:
    """Make the data and the base."""
    make_examples(folder / "train.json", contexts, SEED, "train", url)
    return Bench(
        folder,
        url,
        make_demo_base(folder / "base", SEED),
        make_examples(folder / "validation.json", VALIDATION, SEED + 1, "test", url),
        make_examples(folder / "test.json", TEST, SEED, "test", url),
    )


def sweep(
    bench: Bench, grid: Sequence[tuple[float, float, float]], *, first: Measured | None = None
) -> list[Measured]:
    """The runs of a grid: each alone, or, where there is a first one, free on its rollouts."""
    runs = [] if first is None else [first]
    reused = [run.folder for run in runs]
    for setting in grid[len(runs) :]:
        runs.append(bench.run(setting, reused, max_asked=0.0 if reused else 1.0))
        _console.print(_line(runs[-1], "for nothing" if reused else "on policy"))
    return runs


def finals(bench: Bench, free: Sequence[Measured], max_asked: float) -> list[Measured]:
    """The best of a sweep's reusing runs, trained again on all that was recorded until then."""
    if max_asked == 0:
        return []
    reused, again = [free[0].folder], []
    for run in sorted(free[1:], key=lambda run: -run.f1)[:FINALISTS]:
        again.append(bench.run(run.setting, reused, max_asked))
        reused.append(again[-1].folder)
        _console.print(_line(again[-1], f"asking {max_asked:.0%}"))
    return again


def cost(runs: Sequence[Measured]) -> float:
    """Training calls of a sweep / those of its first run."""
    return sum(run.calls for run in runs) / runs[0].calls


def best(runs: Sequence[Measured]) -> Measured:
    """The run that does best on the validation set."""
    return max(runs, key=lambda run: run.f1)


def compare(
    name: str,
    on_policy: Sequence[Measured],
    reusing: Sequence[Measured],
    reference: np.ndarray,
    on_test: np.ndarray,
) -> dict[str, Any]:
    """A sweep with reuse against the one without.

    Args:
        name: of the point of the curve.
        on_policy: the runs that were trained alone.
        reusing: the same settings, on the first one's rollouts, and finalists.
        reference: F1 of the best of `on_policy` on each test context.
        on_test: likewise of `reusing`.
    """
    interval = paired_bootstrap(on_test, reference)
    pairs = list(zip(reusing, on_policy, strict=False))[1:]
    each = paired_bootstrap(
        np.stack([ours.f1_by_context for ours, _ in pairs]),
        np.stack([theirs.f1_by_context for _, theirs in pairs]),
    )
    return {
        "name": name,
        "max_asked": MAX_ASKED[name],
        "calls_vs_one_run": cost(reusing),
        "bought_vs_one_run": sum(run.bought for run in reusing) / reusing[0].bought,
        "best_f1": float(on_test.mean()),
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
        "validation_f1": run.f1,
        "seconds": round(run.seconds, 1),
    }


def show_sweep(name: str, on_policy: Sequence[Measured], reusing: Sequence[Measured]) -> None:
    """One sweep with reuse, run by run."""
    of_setting = {run.setting: run.f1 for run in on_policy}
    show(
        f"{name}: the first run's rollouts; finalists may ask about {MAX_ASKED[name]:.0%}",
        ("lr, entropy, KL", "calls", "validation F1", "on policy"),
        [
            (_name(ours), f"{ours.calls:,}", f"{ours.f1:.3f}", f"{of_setting[ours.setting]:.3f}")
            for ours in reusing
        ],
    )


def show_curve(
    curve: Sequence[Mapping[str, Any]], on_policy: Sequence[Measured], reference: float
) -> None:
    """What calls buy."""
    show(
        f"{len(on_policy)} runs: the best one's F1 on the test set, against the calls of all",
        ("at most", "calls / one run", "best F1", "minus on policy (95 %)"),
        [
            *(
                (
                    point["name"],
                    f"{point['calls_vs_one_run']:.2f}",
                    f"{point['best_f1']:.3f}",
                    "{:+.3f} to {:+.3f}".format(*point["difference_interval"]),
                )
                for point in curve
            ),
            ("on policy", f"{cost(on_policy):.2f}", f"{reference:.3f}", ""),
        ],
    )


def _name(run: Measured) -> str:
    return "  ".join(f"{value:g}" for value in run.setting)


def _line(run: Measured, how: str) -> str:
    return (
        f"{_name(run):<20} {how:<11} validation F1 {run.f1:.3f}  "
        f"{run.calls:,} calls, {run.bought:,} bought  {run.seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
