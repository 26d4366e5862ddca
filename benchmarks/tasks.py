"""The three tasks on what every machine has, from raw data to the table, over three seeds.

Each seed of a task has its own data (of code: the same functions), base and run, made as
docs/tasks.md makes them, with the task's shipped config: `taco data`, `taco prepare`,
`taco distill --small` (stage 1), `taco train` (stage 2), `taco evaluate`.

All texts are cut at the exact rate, so that `trained` and `base` are compared at the same length; a
rule gets, text by text, no more tokens than `trained`.

    rows     none, first words, random, stop words (dropped first), rarest (kept), base, trained:
             every metric against the teacher's answer on the original and, where the data has
             them, people's, each with a 95 % bootstrap interval over seeds and examples
    margins  trained minus base, and minus the best of the simple rules, at the same length and by
             the stock package's cut: 95 % paired bootstrap over seeds and examples

    python -m benchmarks.tasks                                    everything, in this process
    python -m benchmarks.tasks --jobs 4                           in four
    python -m benchmarks.tasks --only code-summary --seeds 7 policy.credit=word
                                                                  other settings; writes no file
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.results import publish, show
from taco.data import make_data
from taco.distill import Order, distill_command
from taco.evaluate import BASE, measure
from taco.own_service import own_service
from taco.prepare import fill_references
from trainer.config_file import load_config, overridden
from trainer.evaluation.evaluate import Evaluation, RowFigures, example_means
from trainer.evaluation.intervals import Interval, paired_bootstrap
from trainer.learning.launch import train_new
from trainer.policy.families import BERT
from trainer.policy.saving import deployable_path
from trainer.tasks.data import load_examples
from trainer.types import Example

CONFIGS = Path(__file__).parents[1] / "configs/tasks"
SEEDS = (0, 1, 2)
TRAINED = "trained"
SPLITS = ("train", "validation", "test")
RULES = ("first words", "random", "stop words", "rarest")
SUMMARY_METRICS = ("rougeL", "rouge1", "rouge2", "bleu", "chrf")

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


TASKS = (
    BenchmarkTask("meeting-qa", "meeting_qa.yaml", 2500, 400, ("f1", "exact_match")),
    BenchmarkTask("meeting-summary", "meeting_summary.yaml", 2500, 400, SUMMARY_METRICS),
    BenchmarkTask("code-summary", "code_summary.yaml", 0, 400, SUMMARY_METRICS),
)


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


def main() -> None:
    """Measure every task, print its tables, write `results/tasks.json`."""
    arguments = _arguments()
    chosen = [task for task in TASKS if not arguments.only or task.name in arguments.only]
    work = [(task, seed) for task in chosen for seed in arguments.seeds]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        run = partial(measure_seed, Path(scratch), overrides=tuple(arguments.overrides))
        measured = dict(zip(work, _in_processes(run, work, arguments.jobs), strict=True))
    figures = {
        task.name: summarize(task, [measured[task, seed] for seed in arguments.seeds])
        for task in chosen
    }
    for name, task_figures in figures.items():
        _show(name, task_figures)
    if arguments.only or arguments.overrides or tuple(arguments.seeds) != SEEDS:
        return  # Not what the results file is about.
    minutes = (time.perf_counter() - start) / 60
    publish("tasks", {"tasks": figures, "jobs": arguments.jobs, "minutes": round(minutes, 1)})


def _in_processes(
    run: Callable[[BenchmarkTask, int], Measured],
    work: Sequence[tuple[BenchmarkTask, int]],
    jobs: int,
) -> Iterator[Measured]:
    """In the order of `work`."""
    if jobs == 1:
        yield from (run(task, seed) for task, seed in work)
        return
    context = multiprocessing.get_context("spawn")  # Torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(run, *zip(*work, strict=True))


def measure_seed(
    scratch: Path, task: BenchmarkTask, seed: int, overrides: Sequence[str] = ()
) -> Measured:
    """Everything from raw data to figures, as a user's commands would."""
    start = time.perf_counter()
    folder = scratch / f"{task.name}-{seed}"
    data = folder / "data"
    make_data(task.name, data, source=None, count=max(task.count, 1), seed=seed)
    config = load_config(CONFIGS / task.config, [*_overrides(folder, seed), *overrides])
    rate = config.hyperparams.compression_rate
    with own_service(store=folder / "completions.sqlite") as url:
        for split in SPLITS:
            fill_references(data / f"{split}.json", data / f"{split}.json", config, url)
        order = Order(folder / "base", None, None, epochs=2, batch_size=10, lr=1e-3, small=True)
        asked = [*_overrides(folder, seed), f"teacher.url={url}"]
        distill_command(CONFIGS / task.config, asked, order, teacher=None, store=None)
        before = time.perf_counter()
        result = train_new(config, "run", teacher_url=url, runs=folder / "runs", report=_silent)
        train_seconds = time.perf_counter() - before
        paths = {BASE: config.model.model_load_path, TRAINED: result.model_path}
        test = data / "test.json"
        examples = load_examples(test)[: task.test]
        exact, stock = (
            measure(
                overridden(config, [f"evaluation.rate={rule}"], CONFIGS / task.config),
                paths, test, examples, url, rates=(rate,), metrics=task.metrics, report=_silent,
            )
            for rule in ("exact", "stock")
        )  # fmt: skip
    seconds = time.perf_counter() - start
    _console.print(f"{task.name}, seed {seed}: {seconds:.0f} s, training {train_seconds:.0f} s")
    return Measured(
        exact.evaluation,
        stock.evaluation,
        tuple(examples),
        len(load_examples(data / "train.json")),
        result.teacher_calls,
        train_seconds,
        seconds,
        {key: exact.signature[key] for key in ("template", "teacher", "length_tokenizer")},
    )


def _overrides(folder: Path, seed: int) -> list[str]:
    """What this folder and seed change in the task's shipped file."""
    return [
        f"data.train_file_path={folder / 'data/train.json'}",
        f"data.val_file_path={folder / 'data/validation.json'}",
        f"model.model_load_path={deployable_path(folder / 'base', BERT)}",
        f"run.seed={seed}",
    ]


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


def _show(name: str, figures: Mapping[str, Any]) -> None:
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


def _silent(_line: str) -> None:
    """What the parts report."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--only", nargs="+", default=[], metavar="TASK", help="these tasks")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), metavar="SEED")
    parser.add_argument("overrides", nargs="*", help="of the tasks' configs, SECTION.KEY=VALUE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
