"""The demo's first process with torch: make a base, train it, compare both with simple rules.

    python -m taco.demo_training FOLDER CONFIG TEACHER_URL

Writes `base/`, the training run `train/` with its report, and `rows.json` into FOLDER.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from taco.demo import SEED, TEXTS
from taco.progress import live_progress
from taco.report import Request, report_runs
from trainer.config import Config
from trainer.config_file import load_config
from trainer.errors import TrainerError
from trainer.evaluation import rows
from trainer.evaluation.evaluate import mean_interval
from trainer.evaluation.report import as_means
from trainer.learning.base import make_base
from trainer.learning.launch import Result, train_new
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import Target
from trainer.policy.inference import Compression
from trainer.policy.words import CompressionOptions
from trainer.rollouts.connection import connect
from trainer.tasks.data import load_examples
from trainer.tasks.meetings import generate_meetings
from trainer.tasks.rules import document_frequencies
from trainer.types import Example

CLOSE_ENOUGH = 0.01
"""Rows whose achieved rates lie further apart than this are no fair comparison."""

SHOWN_EXAMPLES = 4

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Timed:
    """What was made, and how long that took."""

    path: str
    seconds: float


def main(folder: Path, config_path: Path, teacher_url: str) -> None:
    """Run the three steps, and leave their figures for the parent process."""
    config = load_config(config_path)
    torch.set_num_threads(config.run.threads or 1)
    texts = [record["original_prompt"] for record in generate_meetings(TEXTS, SEED, "train")]

    start = time.perf_counter()
    base = make_base(
        folder / "base",
        texts,
        rate=config.hyperparams.compression_rate,
        seed=config.run.seed,
        report=_console.print,
    )
    base_seconds = time.perf_counter() - start

    start = time.perf_counter()
    with live_progress(_console) as watch:
        result = train_new(
            config,
            "train",
            teacher_url=teacher_url,
            runs=folder,
            report=_console.print,
            watch=watch,
        )
    train_seconds = time.perf_counter() - start

    _console.print("comparing on fresh meetings, with people, projects and places never seen")
    table = _compare(
        config,
        teacher_url,
        texts,
        _examples(folder, "test"),
        Timed(str(base), base_seconds),
        Timed(result.model_path, train_seconds),
        result,
    )
    (folder / "rows.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    _report(Path(result.folder), folder / "data" / "test.json")


def _report(run: Path, data: Path) -> None:
    """Show the run as a page; the teacher is named by TACO_TEACHER_URL."""
    request = Request((run,), None, SHOWN_EXAMPLES, (), data, None, None, ask=True)
    try:
        report_runs(request)
    except TrainerError as error:  # Without the extra `plot` the demo is whole all the same.
        _console.print(f"no report: {error}")


def _examples(folder: Path, split: str) -> list[Example]:
    return load_examples(folder / "data" / f"{split}.json")


def _compare(
    config: Config,
    teacher_url: str,
    texts: list[str],
    examples: list[Example],
    base: Timed,
    trained: Timed,
    result: Result,
) -> list[dict[str, object]]:
    """The table: every row judged on the same examples, at the trained row's achieved rate."""
    target = Target(config.hyperparams.compression_rate)
    options = CompressionOptions()

    def deployed(path: str, exact: bool) -> list[Compression]:
        compressor = PromptCompressorReinforce(path, "cpu", length_tokenizer="policy")
        return rows.by_policy(compressor, examples, options, target, exact=exact)

    by_base, by_trained = (deployed(model.path, exact=False) for model in (base, trained))
    if abs(rows.achieved_rate(by_base) - rows.achieved_rate(by_trained)) > CLOSE_ENOUGH:
        by_base, by_trained = (deployed(model.path, exact=True) for model in (base, trained))

    compressor = PromptCompressorReinforce(base.path, "cpu", length_tokenizer="policy")
    segmenter = compressor.segmenter(options)
    budgets = [compression.compressed_tokens for compression in by_trained]
    rarest = rows.rarest_words(document_frequencies(texts))
    compressed = {
        "none": rows.uncompressed(examples, segmenter),
        "random": rows.by_rule(rows.random_words(config.run.seed), examples, segmenter, budgets),
        "rule": rows.by_rule(rarest, examples, segmenter, budgets),
        "base": by_base,
        "trained": by_trained,
    }
    seconds = {"base": base.seconds, "trained": trained.seconds}
    with connect(config, teacher_url) as teacher:
        judged = [
            rows.judge(name, compressions, examples, teacher.complete, config.reward.metric)
            for name, compressions in compressed.items()
        ]
    _keep_evaluation(Path(result.folder), judged, target, examples, config.run.seed)
    return [
        {
            "name": row.name,
            "f1": row.score,
            "requested_rate": 1.0 if row.name == "none" else target.rate,
            "achieved_rate": row.achieved_rate,
            "teacher_calls": result.teacher_calls if row.name == "trained" else 0,
            "seconds": seconds.get(row.name, 0.0),
            "metric": row.scores.signature,
        }
        for row in judged
    ]


def _keep_evaluation(
    run: Path,
    judged: Sequence[rows.Row],
    target: Target,
    examples: Sequence[Example],
    seed: int,
) -> None:
    """Leave the table in the run's folder, as `taco evaluate` would, for its report."""
    document = {
        "signature": {
            "data": f"{len(examples)} fresh meetings",
            "metrics": {row.scores.metric: row.scores.signature for row in judged},
        },
        "rows": [
            {
                "row": row.name,
                "requested_rate": 1.0 if row.name == "none" else target.rate,
                "achieved_rate": row.achieved_rate,
                "agreement": as_means([row.scores], [mean_interval(row.scores, examples, seed)]),
            }
            for row in judged
        ],
    }
    (run / "evaluation").mkdir()
    text = json.dumps(document, indent=2)
    (run / "evaluation" / "report.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
