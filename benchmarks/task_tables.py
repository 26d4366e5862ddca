"""What the benchmark of the three tasks makes of its seeds: rows, margins, intervals, tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.results import show
from taco.evaluate import BASE
from trainer.evaluation.evaluate import Evaluation, RowFigures, example_means
from trainer.evaluation.intervals import Interval, paired_bootstrap
from trainer.types import Example

TRAINED = "trained"
RULES = ("first words", "random", "stop words", "rarest")
"""The rows that take no compressor; none of them was trained."""

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """One task, and how much of it."""

    name: str
    """As `taco data` calls it."""
    config: str
    """Its file in configs/tasks/."""
    count: int
    """Training records, where they are generated."""
    test: int
    """Examples to judge by, at most."""
    metrics: tuple[str, ...]
    """The reward's first."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One seed of one task."""

    exact: Evaluation
    """Every row, cut at the exact rate."""
    stock: Evaluation
    """The same by the stock package's cut."""
    examples: tuple[Example, ...]
    train_records: int
    teacher_calls: int
    """In training."""
    train_seconds: float
    seconds: float
    """From raw data to the figures."""
    signature: Mapping[str, Any]


def summarize(task: BenchmarkTask, seeds: Sequence[Measured]) -> dict[str, Any]:
    """One task's figures over its seeds."""
    first = seeds[0]
    names = [row.name for row in first.exact.rows]
    deployments = {
        name: {
            rule: fmean(
                next(iter(getattr(one, f"{rule}_deviation").values()))
                for seed in seeds
                for one in seed.exact.deployments
                if one.name == name
            )
            for rule in ("stock", "exact")
        }
        for name in (BASE, TRAINED)
    }
    return {
        "config": task.config,
        "rate": next(iter(first.exact.deployments[0].stock_deviation)),
        "train_records": first.train_records,
        "test_examples": len(first.examples),
        "teacher_calls": round(fmean(seed.teacher_calls for seed in seeds)),
        "train_seconds": round(fmean(seed.train_seconds for seed in seeds), 1),
        "seconds": round(fmean(seed.seconds for seed in seeds), 1),
        "signature": dict(first.signature) | _metric_signatures(first.exact),
        "rows": [_row(name, seeds) for name in names],
        "margins": {
            cut: {
                other: _margin(other, [(getattr(seed, cut), seed.examples) for seed in seeds])
                for other in (BASE, _best_rule(seeds))
            }
            for cut in ("exact", "stock")
        },
        "rate_deviation_points": deployments,
    }


def _metric_signatures(evaluation: Evaluation) -> dict[str, Any]:
    return {"metrics": {scores.metric: scores.signature for scores in evaluation.rows[0].agreement}}


def _row(name: str, seeds: Sequence[Measured]) -> dict[str, Any]:
    rows = [_row_of(seed.exact, name) for seed in seeds]
    figures: dict[str, Any] = {
        "name": name,
        "achieved_rate": fmean(row.achieved_rate for row in rows),
    }
    for measure_name in _measures(rows[0]):
        figures[measure_name] = {}
        for index, scores in enumerate(getattr(rows[0], measure_name)):
            by_example = _means(rows, measure_name, index, [seed.examples for seed in seeds])
            interval = paired_bootstrap(by_example, np.zeros_like(by_example))
            figures[measure_name][scores.metric] = _interval(interval) | {
                "by_seed": by_example.mean(axis=1).tolist()
            }
    return figures


def _best_rule(seeds: Sequence[Measured]) -> str:
    """The simple rule that agrees best with the teacher, by the reward's metric."""

    def score(name: str) -> float:
        return fmean(_row_of(seed.exact, name).agreement[0].mean or 0.0 for seed in seeds)

    return max(RULES, key=score)


def _margin(other: str, seeds: Sequence[tuple[Evaluation, tuple[Example, ...]]]) -> dict[str, Any]:
    """Trained minus another row: by measure and metric."""
    ours, theirs = (
        [_row_of(evaluation, name) for evaluation, _ in seeds] for name in (TRAINED, other)
    )
    examples = [of_seed for _, of_seed in seeds]
    margins: dict[str, Any] = {
        "achieved_rates": {
            name: fmean(row.achieved_rate for row in rows)
            for name, rows in ((TRAINED, ours), (other, theirs))
        }
    }
    for measure_name in _measures(ours[0]):
        margins[measure_name] = {
            scores.metric: _interval(
                paired_bootstrap(
                    _means(ours, measure_name, index, examples),
                    _means(theirs, measure_name, index, examples),
                )
            )
            for index, scores in enumerate(getattr(ours[0], measure_name))
        }
    return margins


def _measures(row: RowFigures) -> list[str]:
    return ["agreement", *(["correctness"] if row.correctness else [])]


def _row_of(evaluation: Evaluation, name: str) -> RowFigures:
    return next(row for row in evaluation.rows if row.name == name)


def _means(
    rows: Sequence[RowFigures],
    measure_name: str,
    index: int,
    examples: Sequence[tuple[Example, ...]],
) -> NDArray[np.float64]:
    """(K, N): each seed's score of each example, the mean over its questions."""
    by_seed = [
        example_means([getattr(row, measure_name)[index]], of_seed)
        for row, of_seed in zip(rows, examples, strict=True)
    ]
    return np.concatenate([mean_1N for mean_1N in by_seed if mean_1N is not None])


def _interval(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.difference, "interval": [interval.low, interval.high]}


def show_task(name: str, figures: Mapping[str, Any]) -> None:
    """Print a task's tables, and what training gained."""
    what = (
        f"{name}, rate {figures['rate']}, {figures['train_records']:,} training records, "
        f"{figures['teacher_calls']:,} teacher calls, {figures['train_seconds']:.0f} s of training"
    )
    for measure_name, against in (("agreement", "the teacher's"), ("correctness", "people's")):
        if measure_name not in figures["rows"][0]:
            continue  # The data has no people's answers.
        metrics = list(figures["rows"][0][measure_name])
        show(
            f"{what}: against {against} answers",
            ("row", "rate", metrics[0], "95 %", *metrics[1:]),
            [_cells(row, row[measure_name], metrics) for row in figures["rows"]],
        )
        for cut, margins in figures["margins"].items():
            for other, margin in margins.items():
                reward = margin[measure_name][metrics[0]]
                _console.print(
                    f"{name}, {cut} cut: trained - {other}, {metrics[0]}, {against}: "
                    "{:+.3f}, 95 % {:+.3f} to {:+.3f}".format(reward["mean"], *reward["interval"])
                )
    for compressor, points in figures["rate_deviation_points"].items():
        _console.print(
            f"{name}: {compressor} is off the rate by {points['stock']:.2f} points by the stock "
            f"rule, {points['exact']:.2f} by the exact one"
        )


def _cells(
    row: Mapping[str, Any], scores: Mapping[str, Any], metrics: Sequence[str]
) -> tuple[str, ...]:
    return (
        row["name"],
        f"{row['achieved_rate']:.3f}",
        f"{scores[metrics[0]]['mean']:.3f}",
        "{:.3f}-{:.3f}".format(*scores[metrics[0]]["interval"]),
        *(f"{scores[metric]['mean']:.3f}" for metric in metrics[1:]),
    )
