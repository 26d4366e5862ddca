"""How large a report is, and how soon it is open: `make bench-report`.

    python -m benchmarks.report [--steps N]

The report of a run of 10,000 steps, with an evaluation at 17 rates of six rows, and three texts of
300 words that two compressors cut at 17 rates, each with two answers.

write_seconds   reading the run's files and drawing everything
megabytes       of the one file
paint_ms        from opening the file until Chromium has painted some of it (median of new windows)
open_ms         until all of it is there and its script has run
bare_open_ms    the same of a page of one word, in turns with it: what the browser and the machine
                take for themselves
open_cpu_ms, bare_cpu_ms
                of that, what the page's thread in Chromium computed: the same beside other work
All are null where there is no Chromium, but for the first two.
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.browsing import BARE, openings
from benchmarks.results import publish, show
from trainer.evaluation.run_report.compressed import Compressed
from trainer.evaluation.run_report.examples import Gallery, arrange, items_of
from trainer.evaluation.run_report.page import write_report
from trainer.evaluation.run_report.panels import LEARNING, TEACHER
from trainer.evaluation.run_report.run_files import read_run
from trainer.policy.cuts import Cut
from trainer.policy.inference import Compression
from trainer.types import Example, Outcome, Question, TeacherReply

STEPS = 10_000
RATES = tuple(percent / 100 for percent in range(10, 95, 5))
_WORDS = 300
_ROWS = {"none": 0.4, "random": 0.0, "rarest": 0.1, "rule": 0.15, "base": 0.2, "trained": 0.35}


def main() -> None:
    """Write a report, open it, print, write `results/report.json`."""
    parser = argparse.ArgumentParser(description="The report of a long run.")
    parser.add_argument("--steps", type=int, default=STEPS)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory(prefix="taco-report-") as scratch:
        figures = measure(Path(scratch), steps)
    show(
        f"The report of a run of {steps:,} steps",
        ("figure", "value"),
        [(name, str(value)) for name, value in figures.items()],
    )
    publish("report", figures)


def measure(folder: Path, steps: int) -> dict[str, Any]:
    """Every figure."""
    write_run(folder / "run", steps)
    report, bare = folder / "report.html", folder / "bare.html"
    bare.write_text(BARE, encoding="utf-8")
    started = time.perf_counter()
    write_report([read_run(folder / "run")], report, gallery())
    written = time.perf_counter() - started
    opened = openings({"report": report.as_uri(), "bare": bare.as_uri()})
    return {
        "steps": steps,
        "write_seconds": round(written, 1),
        "megabytes": round(report.stat().st_size / 1e6, 2),
        "paint_ms": opened["report"].paint,
        "open_ms": opened["report"].whole,
        "bare_open_ms": opened["bare"].whole,
        "open_cpu_ms": opened["report"].cpu,
        "bare_cpu_ms": opened["bare"].cpu,
    }


def write_run(folder: Path, steps: int) -> None:
    """The files of a run that never was: every figure a curve of its own, with noise."""
    logs = folder / "logs"
    logs.mkdir(parents=True)
    config = {"logging": {"log_dir": "logs"}, "hyperparams": {"compression_rate": 0.3}}
    (folder / "run.json").write_text(json.dumps({"run_id": "long", "config": config}))
    lines = [json.dumps(_step(step, steps)) for step in range(1, steps + 1)]
    (logs / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    header, last = "Train/Val,Epoch,Step,Rewards,Comp Ratio", f"ValR,1,{steps},0.75,3.3"
    (logs / "rewards_logs_updated.csv").write_text(f"{header}\n{last}\n")
    (folder / "evaluation").mkdir()
    rows = [_row(name, lift, rate) for rate in RATES for name, lift in _ROWS.items()]
    evaluation = {"signature": {"rows": "made up"}, "rows": rows}
    (folder / "evaluation/report.json").write_text(json.dumps(evaluation))


def gallery() -> Gallery:
    """Three texts, two compressors, two questions each."""
    words = tuple(f" word{number}" for number in range(_WORDS))
    questions = tuple(Question(f"What is {each}?", "It is so.") for each in "ab")
    examples = [Example(str(number), ("".join(words),), questions) for number in range(3)]
    random = np.random.default_rng(0)
    sides = [
        Compressed(
            name, tuple(tuple(_cut(words, rate, random) for _ in examples) for rate in RATES)
        )
        for name in ("base", "trained")
    ]
    reply = TeacherReply(Outcome.SCORED, "It is so, and will be for a long time.")
    heard = [(reply, 1.0)] * len(items_of(sides, examples))
    return arrange(sides, examples, RATES, 0.3, heard, "f1")


def _step(step: int, steps: int) -> dict[str, Any]:
    """Every figure that a panel shows, and none of them smooth."""
    names = {each.metric for each in (*LEARNING, *TEACHER)} - {"seconds/"}
    figures = {
        name: step / steps + 0.1 * math.sin(step * (number + 1))
        for number, name in enumerate(sorted(names))
    }
    seconds = {f"seconds/{phase}": 0.05 + 0.01 * math.sin(step) for phase in ("teacher", "forward")}
    return {"phase": "train", "step": step, **figures, **seconds}


def _row(name: str, lift: float, rate: float) -> dict[str, Any]:
    mean = min(1.0, rate + lift)
    score = {"mean": mean, "scored": 500, "of": 500, "interval": [mean - 0.02, mean + 0.02]}
    agreement = {"f1": score, "rouge_l": score}
    return {"row": name, "requested_rate": rate, "achieved_rate": rate, "agreement": agreement}


def _cut(words: tuple[str, ...], rate: float, random: np.random.Generator) -> Compression:
    cut = Cut(words, random.random(len(words)) < rate)
    return Compression("", (cut,), len(words), round(rate * len(words)))


if __name__ == "__main__":
    main()
