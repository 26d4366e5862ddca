"""What REINFORCE adds to a base compressor, against simple rules and the reference's plain loss.

500 fresh contexts with three questions each, rate 0.3, lengths in the policy's own tokens, deployed
by the stock rule, three seeds (data, noise and base). Every trained row starts from its seed's base
and reaches the teacher over HTTP; its config is the demo's with some values changed.

    rows     none, oracle, random, rule, base, reference, ours, ours-30k, and ours-30k with one
             option changed, each with a 95 % bootstrap interval over seeds and contexts
    long     texts of 13 meetings, 1,000 words and more, three of their questions each: the base,
             what short texts taught (ours-30k), and what 5,000 calls on such texts taught to either
    margins  ours minus rule, base and reference: 95 % paired bootstrap over seeds and contexts

A picture beside the figures, `learning.png`, has F1 against teacher calls.

`reference` is the reference's loss (no baseline, log-probs averaged over words, entropy 0.01 on the
mean) at the best of three learning rates, with as many teacher calls as `ours`, eight passes over
twice its contexts; it draws from our rate-held sampler, since its own wastes rollouts on texts of
the wrong length. `oracle` keeps the words that the teacher needs, within ours' budget.

Rows are measured in a process a core side by side (`--jobs`), which changes no figure but the
seconds.

    python -m benchmarks.learning                     everything
    python -m benchmarks.learning --only ours-30k     some rows, one seed; writes no file
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.results import FOLDER, publish, show
from benchmarks.workbench import (
    base_texts,
    configure,
    make_demo_base,
    make_examples,
    make_long_examples,
    recording_service,
)
from trainer.config import Config
from trainer.evaluation import rows
from trainer.evaluation.intervals import paired_bootstrap
from trainer.learning.launch import train_new
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import Target
from trainer.policy.families import BERT
from trainer.policy.inference import Compression
from trainer.policy.saving import deployable_path
from trainer.policy.words import CompressionOptions
from trainer.rollouts.connection import connect
from trainer.tasks.data import load_examples
from trainer.tasks.meetings import Split
from trainer.tasks.rules import document_frequencies

SEEDS = (0, 1, 2)
RATE = 0.3
CONTEXTS = {"10k": 208, "30k": 625, "90k": 1875, "reference": 3750}
"""Training contexts by teacher calls: 16 masks a context, 3 questions a mask. The reference draws
one mask, and makes 90,000 calls in eight passes over its own."""
LONG_CONTEXTS = {"long": 100, "test-long": 200}
TESTED = 500
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "ours-30k": {},
    "30k, credit by rollout": {"policy": {"credit": "rollout"}},
    "30k, group-normalized": {"policy": {"loss": "group_normalized"}},
    "30k, greedy": {"policy": {"loss": "greedy"}},
    "30k, moving average": {"policy": {"loss": "moving_average"}},
    "30k, no baseline": {"policy": {"loss": "none"}},
    "30k, exact count": {"policy": {"sampler": "exact_count"}},
    "30k, plain Bernoulli": {"policy": {"sampler": "bernoulli"}},
    "30k, plain Bernoulli, smooth length penalty": {
        "policy": {"sampler": "bernoulli"},
        "reward": {"length_penalty": 1.0},
    },
    "30k, rate falling from 0.6": {"policy": {"start_rate": 0.6, "start_rate_steps": 80}},
    "30k, one pass": {"policy": {"passes": 1}},
    "30k, four passes": {"policy": {"passes": 4}, "hyperparams": {"policy_lr": 5e-4}},
    "30k, clipped at 0.2": {"policy": {"clip_ratio": 0.2}},
    "30k, same entropy bonus throughout": {"policy": {"final_entropy_per_word": None}},
}
"""What is learnt from 30,000 teacher calls: the demo's config with one option changed. The greedy
baseline asks about one more text for each example, so that row has a sixteenth more of them."""
REFERENCES: dict[str, dict[str, dict[str, Any]]] = {
    f"reference (lr {lr:g})": {
        "hyperparams": {
            "policy_lr": lr,
            "entropy_coeff": 0.01,
            "epochs": 8,
            "train_batch_size": 8,
        },
        "policy": {
            "loss": "reference",
            "credit": "rollout",
            "passes": 1,
            "entropy_per_word": 0.0,
            "final_entropy_per_word": None,
        },
    }
    for lr in (1e-4, 3e-4, 1e-3)
}
ON_LONG: dict[str, Any] = {"entropy_per_word": 0.0007, "final_entropy_per_word": None}
"""The bonus is summed over words, the reward is not: a text of 13 meetings gets a 13th of it."""
LONG_ROWS = ("5k on long texts", "ours-30k, then 5k on long texts")
TRAINED: dict[str, tuple[str, Mapping[str, dict[str, Any]]]] = {
    # The longest first, so that side by side none is waited for at the end.
    **{name: ("reference", sections) for name, sections in REFERENCES.items()},
    LONG_ROWS[0]: ("long", {"policy": ON_LONG}),
    LONG_ROWS[1]: ("long", {"policy": ON_LONG, "hyperparams": {"policy_lr": 3e-4}}),
    "ours": ("90k", {}),
    **{name: ("30k", sections) for name, sections in VARIANTS.items()},
    "ours-10k": ("10k", {}),
}
"""Every row that is trained: its data, and what its config changes of the demo's."""

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Trained:
    """A compressor of one seed, and what it cost."""

    path: str
    teacher_calls: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of one seed."""

    row: rows.Row
    trained: Trained


@dataclass(frozen=True, slots=True)
class Bench:
    """One seed's data, base and teacher: what each process is given."""

    folder: Path
    seed: int
    url: str

    @property
    def base(self) -> str:
        """The compressor that every row starts from."""
        return str(deployable_path(self.folder / "base", BERT))

    def data(self, name: str) -> Path:
        """A data file."""
        return self.folder / f"{name}.json"

    def prepare(self) -> None:
        """Make the data and the base."""
        self.folder.mkdir()
        for name, count in CONTEXTS.items():
            make_examples(self.data(name), count, self.seed, "train", self.url)
        make_examples(self.data("test"), TESTED, self.seed, "test", self.url)
        for name, count in LONG_CONTEXTS.items():
            split: Split = "test" if name == "test-long" else "train"
            make_long_examples(self.data(name), count, self.seed, split, self.url)
        make_demo_base(self.folder / "base", self.seed)

    def train(self, name: str, start: str | None = None) -> Trained:
        """Train one row, from the base or another compressor."""
        data, sections = TRAINED[name]
        config = _config(self.data(data), start or self.base, self.seed, sections)
        runs = Path(tempfile.mkdtemp(dir=self.folder))
        began = time.perf_counter()
        result = train_new(
            config, "run", teacher_url=self.url, runs=runs, report=lambda _line: None
        )
        seconds = time.perf_counter() - began
        _console.print(f"seed {self.seed}  {name}: trained in {seconds:.0f} s")
        return Trained(result.model_path, result.teacher_calls, seconds)

    def judge(self, models: Mapping[str, Trained], tests: str) -> dict[str, Measured]:
        """Compress the test contexts every way, and have the teacher answer.

        Rules get the tokens of `ours`.
        """
        config, options, target = configure(), CompressionOptions(), Target(RATE)
        test = load_examples(self.data(tests))
        compressed: dict[str, list[Compression]] = {}
        for name, trained in models.items():
            compressor = PromptCompressorReinforce(trained.path, "cpu", length_tokenizer="policy")
            compressed[name] = rows.by_policy(compressor, test, options, target, exact=False)
        base = PromptCompressorReinforce(self.base, "cpu", length_tokenizer="policy")
        segmenter = base.segmenter(options)
        ours = compressed.get("ours", compressed["base"])
        budgets = [compression.compressed_tokens for compression in ours]
        compressed["none"] = rows.uncompressed(test, segmenter)
        compressed["oracle"] = [
            compression
            for example, budget in zip(test, budgets, strict=True)
            for compression in rows.by_rule(
                rows.oracle_words(example), [example], segmenter, [budget]
            )
        ]
        rarest = rows.rarest_words(document_frequencies(base_texts(self.seed)))
        random = rows.random_words(self.seed)
        compressed["random"] = rows.by_rule(random, test, segmenter, budgets)
        compressed["rule"] = rows.by_rule(rarest, test, segmenter, budgets)
        measured = {}
        with connect(config, self.url) as teacher:
            for name, texts in compressed.items():
                row = rows.judge(name, texts, test, teacher.complete, config.reward.metric)
                measured[name] = Measured(row, models.get(name, Trained("")))
                _console.print(
                    f"seed {self.seed}  {tests}  {name:<20} F1 {row.score:.3f} "
                    f"at {row.achieved_rate:.3f}"
                )
        return measured


def main() -> None:
    """Measure all rows, print the tables, write `results/learning.json`."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", nargs="+", choices=TRAINED, metavar="ROW", help="for one seed")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count(),
        help="processes side by side; default: one a core",
    )
    options = parser.parse_args()
    seeds, names = (SEEDS[:1], options.only) if options.only else (SEEDS, list(TRAINED))
    if LONG_ROWS[1] in names and "ours-30k" not in names:
        parser.error(f"{LONG_ROWS[1]}: name ours-30k too, from which it starts")
    with tempfile.TemporaryDirectory() as scratch, recording_service(Path(scratch)) as url:
        benches = [Bench(Path(scratch) / f"seed-{seed}", seed, url) for seed in seeds]
        short, long = measure(benches, names, options.jobs)
    if options.only:
        return
    figures = tabulate(short, long)
    draw(figures["rows"], FOLDER / "learning.png")
    publish("learning", figures)


def measure(
    benches: Sequence[Bench], names: Sequence[str], jobs: int
) -> tuple[list[dict[str, Measured]], list[dict[str, Measured]]]:
    """Every seed's rows on short texts, and on long ones; the trained rows are those named."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for made in [pool.submit(bench.prepare) for bench in benches]:
            made.result()
        training = {
            (name, bench): pool.submit(bench.train, name)
            for name in names
            for bench in benches
            if name != LONG_ROWS[1]
        }
        for bench in benches if LONG_ROWS[1] in names else ():
            start = training["ours-30k", bench].result().path
            training[LONG_ROWS[1], bench] = pool.submit(bench.train, LONG_ROWS[1], start)
        short, long = [], []
        for bench in benches:
            models = {"base": Trained(bench.base)}
            models |= {name: training[name, bench].result() for name in names}
            on_long = {name: models.pop(name) for name in LONG_ROWS if name in models}
            short.append(pool.submit(bench.judge, models, "test"))
            on_long |= {name: models[name] for name in ("base", "ours-30k") if name in models}
            long.append(pool.submit(bench.judge, on_long, "test-long"))
        return [rows.result() for rows in short], [rows.result() for rows in long]


def tabulate(
    seeds: Sequence[dict[str, Measured]], long_seeds: Sequence[Mapping[str, Measured]]
) -> dict[str, Any]:
    """Print the tables; what the results file holds."""
    reference = max(REFERENCES, key=lambda name: fmean(seed[name].row.score for seed in seeds))
    for seed in seeds:
        seed["reference"] = seed[reference]
    names = ["none", "oracle", "random", "rule", "base", "reference", "ours", "ours-10k", *VARIANTS]
    table = [summarize(name, [seed[name] for seed in seeds]) for name in names]
    long_rows = [summarize(name, [seed[name] for seed in long_seeds]) for name in long_seeds[0]]
    for title, of_title in (
        (f"F1 against the answer on the original, rate {RATE}, three seeds", table),
        ("The same on texts of 13 meetings", long_rows),
    ):
        show(
            title,
            ("row", "F1 by seed", "mean", "95 %", "achieved", "teacher calls", "seconds"),
            [_cells(row) for row in of_title],
        )
    margins = {name: margin(seeds, name) for name in ("rule", "base", "reference")}
    for name, (low, high) in margins.items():
        _console.print(f"ours - {name}: 95 % between {low:+.3f} and {high:+.3f}")
    return {
        "rate": RATE,
        "rows": table,
        "f1_at_30k": next(row["f1_mean"] for row in table if row["name"] == "ours-30k"),
        "margins": margins,
        "long_rows": long_rows,
        "reference_variants": [
            summarize(name, [seed[name] for seed in seeds]) for name in REFERENCES
        ],
    }


def summarize(name: str, measured: Sequence[Measured]) -> dict[str, Any]:
    """One row of the table over its seeds."""
    scores = [one.row.score for one in measured]
    by_context = np.stack([_by_context(one) for one in measured])
    interval = paired_bootstrap(by_context, np.zeros_like(by_context))
    return {
        "name": name,
        "f1_by_seed": scores,
        "f1_mean": fmean(scores),
        "f1_interval": [interval.low, interval.high],
        "achieved_rate": fmean(one.row.achieved_rate for one in measured),
        "teacher_calls": round(fmean(one.trained.teacher_calls for one in measured)),
        "seconds": fmean(one.trained.seconds for one in measured),
    }


def draw(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """F1 against teacher calls: a line for ours, a point for every other trained row."""
    from matplotlib.figure import Figure  # Of the extra `plot`.

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    rows_by_name = {row["name"]: row for row in table}
    ours = [rows_by_name[name] for name in ("base", "ours-10k", "ours-30k", "ours")]
    low, high = zip(*(row["f1_interval"] for row in ours), strict=True)
    calls = [row["teacher_calls"] for row in ours]
    axes.plot(calls, [row["f1_mean"] for row in ours], marker="o", label="ours")
    axes.fill_between(calls, low, high, alpha=0.2)
    # A marker for each turn of the colours, which come back after ten.
    markers = [marker for marker in "xsD" for _ in range(10)]
    others = [name for name in ("reference", *VARIANTS) if name != "ours-30k"]
    for name, marker in zip(others, markers[1:], strict=False):
        row = rows_by_name[name]
        axes.plot(row["teacher_calls"], row["f1_mean"], marker, label=name)
    for name in ("oracle", "rule"):
        axes.axhline(rows_by_name[name]["f1_mean"], color="grey", linestyle="--")
        axes.text(0, rows_by_name[name]["f1_mean"], name, va="bottom")
    axes.set_xlabel("teacher calls in training")
    axes.set_ylabel(f"F1 at rate {RATE}, mean of {len(SEEDS)} seeds")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def margin(seeds: Sequence[Mapping[str, Measured]], other: str) -> list[float]:
    """95 % interval of ours minus another row, over seeds and contexts."""
    interval = paired_bootstrap(
        np.stack([_by_context(seed["ours"]) for seed in seeds]),
        np.stack([_by_context(seed[other]) for seed in seeds]),
    )
    return [interval.low, interval.high]


def _by_context(measured: Measured) -> NDArray[np.float64]:
    """Mean score of each context: its questions are no independent draws."""
    values = np.array(measured.row.scores.values, dtype=float)
    means: NDArray[np.float64] = values.reshape(len(measured.row.tokens), -1).mean(axis=1)
    return means


def _config(data: Path, base: str, seed: int, sections: Mapping[str, dict[str, Any]]) -> Config:
    given: dict[str, dict[str, Any]] = {
        "data": {"train_file_path": str(data), "val_file_path": None},
        "model": {"model_load_path": base},
        "run": {"seed": seed},
        "evaluation": {"val_share": 0.0},
    }
    return configure(**given, **sections)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        "  ".join(f"{score:.3f}" for score in row["f1_by_seed"]),
        f"{row['f1_mean']:.3f}",
        "{:.3f} to {:.3f}".format(*row["f1_interval"]),
        f"{row['achieved_rate']:.3f}",
        f"{row['teacher_calls']:,}",
        f"{row['seconds']:.0f}",
    )


if __name__ == "__main__":
    main()
