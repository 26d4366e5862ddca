"""What REINFORCE adds to a base compressor, against simple rules and the reference's plain loss.

500 fresh contexts with three questions each, rate 0.3, lengths in the policy's own tokens, deployed
by the stock rule, three seeds (data, noise and base). Every trained row starts from its seed's base
and reaches the teacher over HTTP.

    rows     none, oracle, random, rule, base, reference, ours, ours-30k, and ours-30k with one
             option changed, each with a 95 % bootstrap interval over seeds and contexts
    long     texts of 13 meetings, 1,000 words and more, three of their questions each: the base,
             what short texts taught (ours-30k), and what was learnt from 5,000 calls on such texts
    margins  ours minus rule, base and reference: 95 % paired bootstrap over seeds and contexts

A picture beside the figures, `learning.png`, has F1 against teacher calls.

`reference` is the reference's loss (no baseline, log-probs averaged over words, entropy 0.01 on the
mean) at the best of three learning rates, with as many teacher calls as `ours`; it draws from our
rate-held sampler, since its own wastes rollouts on texts of the wrong length. `oracle` keeps the
words that the teacher needs, within ours' budget.

    python -m benchmarks.learning                     everything
    python -m benchmarks.learning --only ours-30k     some rows, one seed; writes no file
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

from benchmarks.results import FOLDER, publish, show
from benchmarks.workbench import (
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
from trainer.policy.inference import Compression
from trainer.policy.words import CompressionOptions
from trainer.rollouts.connection import connect
from trainer.tasks.rules import document_frequencies
from trainer.types import Example

SEEDS = (0, 1, 2)
RATE = 0.3
CONTEXTS = {10_000: 417, 30_000: 1250, 90_000: 3750}
"""Training contexts by teacher calls: 8 masks a context, 3 questions a mask."""
LONG = 200
"""Long texts to learn from, and as many to judge by."""
REFERENCE_LRS = (1e-4, 3e-4, 1e-3)
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "ours-30k": {},
    "30k, credit by rollout": {"policy": {"credit": "rollout"}},
    "30k, group-normalized": {"policy": {"credit": "rollout", "loss": "group_normalized"}},
    "30k, greedy": {"policy": {"credit": "rollout", "loss": "greedy"}},
    "30k, moving average": {"policy": {"credit": "rollout", "loss": "moving_average"}},
    "30k, no baseline": {"policy": {"credit": "rollout", "loss": "none"}},
    "30k, plain Bernoulli": {"policy": {"credit": "rollout", "sampler": "bernoulli"}},
    "30k, plain Bernoulli, smooth length penalty": {
        "policy": {"credit": "rollout", "sampler": "bernoulli"},
        "reward": {"length_penalty": 1.0},
    },
    "30k, rate falling from 0.6": {"policy": {"start_rate": 0.6, "start_rate_steps": 80}},
    "30k, four passes": {"policy": {"passes": 4}, "hyperparams": {"policy_lr": 5e-4}},
}
"""What is learnt from 30,000 teacher calls: the demo's config with some values changed. The greedy
baseline asks about one more text for each example, so that row has an eighth more of them."""

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of one seed."""

    row: rows.Row
    teacher_calls: int
    seconds: float


def main() -> None:
    """Measure all rows, print the table, write `results/learning.json`."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="these, for one seed")
    if only := parser.parse_args().only:
        with tempfile.TemporaryDirectory() as scratch, recording_service(Path(scratch)) as url:
            measure_seed(Path(scratch), SEEDS[0], url, only)
        return
    with tempfile.TemporaryDirectory() as scratch, recording_service(Path(scratch)) as url:
        measured = [measure_seed(Path(scratch), seed, url) for seed in SEEDS]
    seeds = [of_short for of_short, _ in measured]
    long_rows = [
        summarize(name, [of_long[name] for _, of_long in measured]) for name in measured[0][1]
    ]
    reference = max(
        (name for name in seeds[0] if name.startswith("reference")),
        key=lambda name: fmean(seed[name].row.score for seed in seeds),
    )
    for seed in seeds:
        seed["reference"] = seed[reference]
    names = ["none", "oracle", "random", "rule", "base", "reference", "ours", "ours-10k", *VARIANTS]
    table = [summarize(name, [seed[name] for seed in seeds]) for name in names]
    margins = {name: margin(seeds, name) for name in ("rule", "base", "reference")}
    figures = {
        "rate": RATE,
        "rows": table,
        "f1_at_30k": next(row["f1_mean"] for row in table if row["name"] == "ours-30k"),
        "margins": margins,
        "long_rows": long_rows,
        "reference_variants": [
            summarize(name, [seed[name] for seed in seeds])
            for name in seeds[0]
            if name.startswith("reference (")
        ],
    }
    show(
        f"F1 against the answer on the original, rate {RATE}, three seeds",
        ("row", "F1 by seed", "mean", "95 %", "achieved", "teacher calls", "seconds"),
        [_cells(row) for row in table],
    )
    show(
        "The same on texts of 13 meetings",
        ("row", "F1 by seed", "mean", "95 %", "achieved", "teacher calls", "seconds"),
        [_cells(row) for row in long_rows],
    )
    for name, (low, high) in margins.items():
        _console.print(f"ours - {name}: 95 % between {low:+.3f} and {high:+.3f}")
    draw(table, FOLDER / "learning.png")
    publish("learning", figures)


def measure_seed(
    scratch: Path, seed: int, url: str, only: Sequence[str] = ()
) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Every row of one seed, or the trained ones named, judged on the same 500 fresh contexts; and
    those of long texts, which `long` names.
    """
    folder = scratch / f"seed-{seed}"
    (folder / "data").mkdir(parents=True)
    train = {
        calls: make_examples(folder / f"data/train-{calls}.json", count, seed, "train", url)
        for calls, count in CONTEXTS.items()
    }
    test = make_examples(folder / "data/test.json", 500, seed, "test", url)
    base = make_demo_base(folder / "base", train[30_000], seed)

    def trained(calls: int | str, **sections: dict[str, Any]) -> tuple[str, int, float]:
        config = _config(folder, calls, base, seed, sections)
        start = time.perf_counter()
        result = train_new(
            config, "run", teacher_url=url, runs=folder / "runs", report=lambda _line: None
        )
        return result.model_path, result.teacher_calls, time.perf_counter() - start

    rows_to_train: dict[str, tuple[int, dict[str, dict[str, Any]]]] = {
        "ours": (90_000, {}),
        "ours-10k": (10_000, {}),
        **{name: (30_000, sections) for name, sections in VARIANTS.items()},
        **{f"reference (lr {lr:g})": (90_000, _reference(lr)) for lr in REFERENCE_LRS},
    }
    models = {"base": (base, 0, 0.0)} | {
        name: trained(calls, **sections)
        for name, (calls, sections) in rows_to_train.items()
        if not only or name in only
    }
    on_short = judge_rows(models, base, train[30_000], test, seed, url)
    if only and "long" not in only:
        return on_short, {}
    _console.print("long texts")
    make_long_examples(folder / "data/train-long.json", LONG, seed, "train", url)
    long_test = make_long_examples(folder / "data/test-long.json", LONG, seed, "test", url)
    long_models = {name: models[name] for name in ("base", "ours-30k") if name in models}
    long_models["ours, 5k on long texts"] = trained("long")
    return on_short, judge_rows(long_models, base, train[30_000], long_test, seed, url)


def judge_rows(
    models: Mapping[str, tuple[str, int, float]],
    base: str,
    train: Sequence[Example],
    test: Sequence[Example],
    seed: int,
    url: str,
) -> dict[str, Measured]:
    """Compress the test contexts every way, and have the teacher answer; rules get ours' tokens."""
    config, options, target = configure(), CompressionOptions(), Target(RATE)
    compressed: dict[str, list[Compression]] = {}
    for name, (path, _, _) in models.items():
        compressor = PromptCompressorReinforce(path, "cpu", length_tokenizer="policy")
        compressed[name] = rows.by_policy(compressor, test, options, target, exact=False)
    segmenter = PromptCompressorReinforce(base, "cpu", length_tokenizer="policy").segmenter(options)
    ours = compressed.get("ours", compressed["base"])
    budgets = [compression.compressed_tokens for compression in ours]
    rarest = rows.rarest_words(document_frequencies(x.original_prompt for x in train))
    compressed["none"] = rows.uncompressed(test, segmenter)
    compressed["oracle"] = [
        compression
        for example, budget in zip(test, budgets, strict=True)
        for compression in rows.by_rule(rows.oracle_words(example), [example], segmenter, [budget])
    ]
    compressed["random"] = rows.by_rule(rows.random_words(seed), test, segmenter, budgets)
    compressed["rule"] = rows.by_rule(rarest, test, segmenter, budgets)
    measured = {}
    with connect(config, url) as teacher:
        for name, compressions in compressed.items():
            row = rows.judge(name, compressions, test, teacher.complete, config.reward.metric)
            _, calls, seconds = models.get(name, ("", 0, 0.0))
            measured[name] = Measured(row, calls, seconds)
            _console.print(f"seed {seed}  {name:<20} F1 {row.score:.3f} at {row.achieved_rate:.3f}")
    return measured


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
        "teacher_calls": round(fmean(one.teacher_calls for one in measured)),
        "seconds": fmean(one.seconds for one in measured),
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
    for name in ("reference", *VARIANTS):
        if name != "ours-30k":
            row = rows_by_name[name]
            axes.plot(row["teacher_calls"], row["f1_mean"], "x", label=name)
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


def _by_context(measured: Measured) -> np.ndarray:
    """Mean score of each context: its questions are no independent draws."""
    values = np.array(measured.row.scores.values, dtype=float)
    return values.reshape(len(measured.row.tokens), -1).mean(axis=1)


def _reference(lr: float) -> dict[str, dict[str, Any]]:
    return {
        "hyperparams": {"policy_lr": lr, "entropy_coeff": 0.01, "epochs": 8},
        "policy": {"loss": "reference", "credit": "rollout", "entropy_per_word": 0.0},
    }


def _config(
    folder: Path, calls: int | str, base: str, seed: int, sections: Mapping[str, dict[str, Any]]
) -> Config:
    given = {
        "data": {
            "train_file_path": str(folder / f"data/train-{calls}.json"),
            "val_file_path": None,
        },
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
