"""`taco evaluate`: what a trained compressor is worth beside its base and the simple rules."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from taco.compress import model_of_run
from taco.errors import UserError
from taco.train import teacher_for
from trainer.config import Config
from trainer.config_file import load_config, overridden, restored
from trainer.rollouts.scoring import load_scorer, open_judge
from trainer.rollouts.teacher_counts import TeacherCounts
from trainer.tasks.data import (
    data_digest,
    load_examples,
    shared_texts,
    split_validation,
)
from trainer.types import Example

if TYPE_CHECKING:
    from trainer.evaluation.evaluate import Evaluation
    from trainer.policy.compressor import PromptCompressorReinforce

BASE = "base"
OUTPUT = "evaluation"

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    target: Path
    """A run's folder, or a config: then the base alone is evaluated."""
    overrides: tuple[str, ...]
    seed_runs: tuple[Path, ...]
    """Runs of the same config with other seeds."""
    rates: tuple[float, ...]
    """(): the config's."""
    metrics: tuple[str, ...]
    """(): the config's."""
    data: Path | None
    """None: the config's validation data."""
    limit: int | None
    """Only so many examples, the first ones."""
    usd_per_million: float | None
    usd_per_hour: float | None
    output: Path | None
    """None: `evaluation` in the run's folder, or in the current one."""


def evaluate_command(request: Request, teacher: Path | None, store: Path | str | None) -> None:
    """Evaluate, and write `report.json`, `report.md` and `quality.png`.

    Raises:
        UserError: there is nothing to evaluate, or the report cannot be written.
    """
    config = _config(request)
    rates = request.rates or (config.hyperparams.compression_rate,)
    if bad := [rate for rate in rates if not 0 < rate < 1]:
        raise UserError(f"--rates: expected numbers between 0 and 1, such as 0.2,0.5; got {bad[0]}")
    metrics = request.metrics or (config.reward.metric,)
    for metric in metrics:
        # A misspelt one is said now, before anything is paid for; a model is loaded once.
        load_scorer(config, metric)
    paths = _compressor_paths(request, config)
    data, examples = held_out_examples(config, request.data, request.limit)
    with teacher_for(config, teacher, store) as url:
        measured = measure(config, paths, data, examples, url, rates=rates, metrics=metrics)
    _report(request, measured)


def _config(request: Request) -> Config:
    if not request.target.is_dir():
        if request.seed_runs:
            raise UserError("--seed-run: expected a run's folder to evaluate, of another seed")
        return load_config(request.target, request.overrides)
    from trainer.learning.run_folder import DESCRIPTION, read_description

    source = request.target / DESCRIPTION
    recorded = restored(read_description(request.target)["config"], source)
    return overridden(recorded, request.overrides, source)


def held_out_examples(
    config: Config, data: Path | None, limit: int | None
) -> tuple[Path, list[Example]]:
    """The data file that a run was not trained on, and its first examples.

    Args:
        config: of the run.
        data: the file; None: the config's validation data.
        limit: how many examples, at most; None: all.

    Raises:
        UserError: there are none.
    """
    chosen = data or (config.data.val_file_path and Path(config.data.val_file_path))
    if chosen:
        path, examples = chosen, load_examples(chosen)
    else:
        path = Path(config.data.train_file_path)
        _, examples = split_validation(load_examples(path), config.evaluation.val_share)
    if not examples:
        raise UserError(
            f"{path}: evaluation.val_share ({config.evaluation.val_share}) of it leaves no example "
            "to evaluate on; name a file with --data"
        )
    return path, examples[:limit]


@dataclass(frozen=True, slots=True)
class Measured:
    """An evaluation, and where its figures come from."""

    evaluation: "Evaluation"
    signature: dict[str, Any]
    """What was evaluated: models, data, template, teacher, how texts were compressed."""
    counts: TeacherCounts
    """Of the teacher's answers, those as a judge among them."""


def measure(
    config: Config,
    paths: Mapping[str, str],
    data: Path,
    examples: Sequence[Example],
    url: str,
    *,
    rates: tuple[float, ...],
    metrics: tuple[str, ...],
    report: Callable[[str], None] = _console.print,
) -> Measured:
    """Load compressors, compress, ask, score.

    Args:
        config: of the run.
        paths: name -> where to load a compressor from; the base first.
        data: where the examples are from.
        examples: with reference completions.
        url: where the teacher is.
        rates: to compress at.
        metrics: as in the config.
        report: told of the progress.
    """
    import torch

    from trainer.evaluation.evaluate import Plan, evaluate
    from trainer.learning.setup import compression_options, context_filter
    from trainer.policy.compressor import PromptCompressorReinforce
    from trainer.rollouts.connection import connect
    from trainer.tasks.rules import document_frequencies

    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    device = config.device.device_map if config.device.use_cuda else "cpu"
    compressors = {
        name: PromptCompressorReinforce(
            path, device, length_tokenizer=config.policy.length_tokenizer
        )
        for name, path in paths.items()
    }
    train_examples = load_examples(Path(config.data.train_file_path), require_references=False)
    if warning := shared_texts(train_examples, examples, str(data)):
        report(f"warning: {warning}")
    with connect(config, url) as teacher:
        teacher_digest = teacher.digest()
        scorers = [load_scorer(config, name, teacher=teacher_digest) for name in metrics]
        judge = open_judge(config.judge, teacher)
        plan = Plan(
            rates=rates,
            scorers=tuple(scorers),
            options=compression_options(config),
            context_filter=context_filter(config),
            exact=config.evaluation.rate == "exact",
            thresholds=_thresholds(config, compressors, rates),
            frequencies=document_frequencies(example.original_prompt for example in train_examples),
            seed=config.run.seed,
        )
        evaluation = evaluate(compressors, examples, teacher.complete, plan, report, judge.complete)
        counts = teacher.counts + judge.counts
    signature = {
        "models": {name: _named_model(path) for name, path in paths.items()},
        "data": f"{data} sha256:{data_digest(data)[:16]}, {len(examples)} examples",
        "template": f"sha256:{_template_digest(config)[:16]}",
        "teacher": f"{config.task.gpt_model} {teacher_digest or 'not ours, no digest'}",
        "length_tokenizer": compressors[BASE].length_tokenizer.name,
        "rate_rule": config.evaluation.rate,
    }
    return Measured(evaluation, signature, counts)


def _report(request: Request, measured: Measured) -> None:
    from trainer.evaluation.report import Prices, as_json, as_markdown

    counts = measured.counts
    prices = Prices(request.usd_per_million, request.usd_per_hour)
    document = as_json(measured.evaluation, measured.signature, prices) | {
        "teacher": {
            "asked": counts.asked,
            "from_the_store": counts.hits,
            "generated": counts.misses,
            "unanswered": counts.refused + counts.failed,
        }
    }
    folder = request.output or (request.target if request.target.is_dir() else Path()) / OUTPUT
    markdown = as_markdown(measured.evaluation, document)
    _write(folder, document, markdown)
    _plot(measured.evaluation, folder)
    _console.print(markdown, markup=False)
    _console.print(
        f"{folder}: asked {counts.asked}, {counts.hits} from the store, {counts.misses} generated"
    )


def _thresholds(
    config: Config,
    compressors: "Mapping[str, PromptCompressorReinforce]",
    rates: Sequence[float],
) -> dict[str, dict[float, float]] | None:
    """For each compressor and rate one threshold on all texts, if the config cuts by such.

    Calibrated as after training, on the run's texts for validation, or else on those for training.
    """
    if config.evaluation.rate != "threshold":
        return None
    from trainer.learning.setup import compression_options, load_data
    from trainer.policy.calibration import calibrate

    train_examples, val_examples = load_data(config, require_references=False)
    prompts = [example.contexts for example in val_examples or train_examples]
    options, length = compression_options(config), config.hyperparams.max_seq_len
    return {
        name: {
            each.rate: each.threshold
            for each in calibrate(compressor, compressor.segmenter(options, length), prompts, rates)
        }
        for name, compressor in compressors.items()
    }


def _compressor_paths(request: Request, config: Config) -> dict[str, str]:
    """Name -> where to load it from; the base first."""
    runs = [request.target, *request.seed_runs] if request.target.is_dir() else []
    trained = {
        "trained" if number == 1 else f"trained-{number}": model_of_run(run)
        for number, run in enumerate(runs, start=1)
    }
    return {BASE: config.model.model_load_path, **trained}


def _named_model(path: str) -> str:
    """A model as reports name it; one from the hub has no folder to take a digest of."""
    from trainer.learning.run_folder import saved_weights_digest

    folder = Path(path)
    return f"{path} sha256:{saved_weights_digest(folder)[:16]}" if folder.is_dir() else path


def _plot(evaluation: "Evaluation", folder: Path) -> None:
    from trainer.evaluation.plot import can_plot, write_plot

    if can_plot():
        write_plot(evaluation, folder / "quality.png")
    else:
        _console.print("no plot: it needs matplotlib, pip install 'taco-rewards[plot]'")


def _template_digest(config: Config) -> str:
    task = config.task
    return hashlib.sha256(json.dumps([task.system_message, task.prompt]).encode()).hexdigest()


def _write(folder: Path, document: Mapping[str, Any], markdown: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        (folder / "report.md").write_text(markdown, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: the report cannot be written: {error.strerror}") from error
