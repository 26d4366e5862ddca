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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.results import publish
from benchmarks.task_tables import TRAINED, BenchmarkTask, Measured, show_task, summarize
from taco.data import make_data
from taco.distill import Order, distill_command
from taco.evaluate import BASE, measure
from taco.own_service import own_service
from taco.prepare import fill_references
from trainer.config_file import load_config, overridden
from trainer.learning.launch import train_new
from trainer.policy.families import BERT
from trainer.policy.saving import deployable_path
from trainer.tasks.assembling import SPLITS
from trainer.tasks.data import load_examples

CONFIGS = Path(__file__).parents[1] / "configs/tasks"
SEEDS = (0, 1, 2)
SUMMARY_METRICS = ("rougeL", "rouge1", "rouge2", "bleu", "chrf")

_console = Console(highlight=False, soft_wrap=True)

TASKS = (
    BenchmarkTask("meeting-qa", "meeting_qa.yaml", 1250, 400, ("f1", "exact_match")),
    BenchmarkTask("meeting-summary", "meeting_summary.yaml", 1500, 400, SUMMARY_METRICS),
    BenchmarkTask("code-summary", "code_summary.yaml", 0, 400, SUMMARY_METRICS),
)


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
        show_task(name, task_figures)
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
