"""`taco distill`: stage 1, a base compressor from a teacher's delete-only compressions."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from taco.errors import UserError
from taco.train import teacher_for
from trainer.config import Config
from trainer.config_file import load_config
from trainer.rollouts.connection import connect

if TYPE_CHECKING:
    from trainer.learning.distill import Distilled

MAX_TOKENS = 1024
"""Of one extract: twice what a chunk can hold."""

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for."""

    output: Path
    """Where the compressor goes."""
    encoder: str | None
    """An encoder to start from, which gets a new head; None: `model.model_load_path`."""
    instruction: Path | None
    """A template with {transcript}; None: `DELETE_ONLY`."""
    epochs: int
    batch_size: int
    lr: float
    small: bool
    """Start from a fresh encoder of 0.7 million parameters."""


def distill_command(
    path: Path,
    overrides: Sequence[str],
    order: Order,
    teacher: Path | None,
    store: Path | str | None,
) -> None:
    """Ask, label, train, save; `labels.jsonl` and `distilled.json` lie beside the compressor.

    Raises:
        UserError: the instruction cannot be used, or the order names two things to start from.
    """
    if order.encoder and order.small:
        raise UserError("expected --encoder or --small, got both: say which to start from")
    config = load_config(path, overrides)
    import torch

    from trainer.learning.distill import Schedule, distill
    from trainer.learning.extracts import DELETE_ONLY
    from trainer.policy.compressor import PromptCompressorReinforce
    from trainer.policy.saving import deployable_path, require_place
    from trainer.tasks.data import load_examples

    instruction = _read(order.instruction) if order.instruction else DELETE_ONLY
    config = _asking(config, instruction)
    examples = load_examples(Path(config.data.train_file_path), require_references=False)
    require_place(order.output)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    with tempfile.TemporaryDirectory() as draft:  # What is not trained yet is nobody's to load.
        start = _starting_point(
            config, order, Path(draft), [one.original_prompt for one in examples]
        )
        compressor = PromptCompressorReinforce(
            start,
            config.device.device_map if config.device.use_cuda else "cpu",
            length_tokenizer=config.policy.length_tokenizer,
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with teacher_for(config, teacher, store) as url, connect(config, url) as client:
        with Progress(*columns, console=_console) as progress:
            bar = progress.add_task("texts shortened", total=None)

            def show(asked: int, total: int) -> None:
                progress.update(bar, completed=asked, total=total)
                if asked == total:
                    progress.stop()  # What is told of the training stands below.

            distilled = distill(
                compressor,
                examples,
                client.complete,
                Schedule(order.epochs, order.batch_size, order.lr, config.run.seed),
                max_seq_len=config.hyperparams.max_seq_len,
                max_failed_share=config.teacher.max_failed_share,
                report=_console.print,
                on_progress=show,
            )
        digest = client.digest()
    saved = compressor.save(deployable_path(order.output, compressor.family))
    _write_records(order.output, distilled, instruction, digest)
    _tell(distilled)
    _console.print(f"base compressor: {saved}")


def _asking(config: Config, instruction: str) -> Config:
    """The config, with the instruction in the place of the task's prompt."""
    task = {"prompt": instruction, "max_tokens": max(config.task.max_tokens, MAX_TOKENS)}
    return config.model_copy(update={"task": config.task.model_copy(update=task)})


def _read(path: Path) -> str:
    """An instruction."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected an instruction to read, got {error}") from error
    if "{transcript}" not in text:
        raise UserError(f"{path}: expected {{transcript}}, where the text goes; it has none")
    return text


def _starting_point(config: Config, order: Order, draft: Path, texts: Sequence[str]) -> str:
    """What is to be trained; an encoder or a fresh model becomes a compressor in `draft`."""
    from trainer.policy.encoder import make_classifier
    from trainer.policy.fresh import make_fresh_compressor

    if order.small:
        return str(make_fresh_compressor(draft, texts, seed=config.run.seed))
    if order.encoder:
        return str(make_classifier(order.encoder, draft, seed=config.run.seed))
    return config.model.model_load_path


def _write_records(
    folder: Path, distilled: "Distilled", instruction: str, teacher: str | None
) -> None:
    """What was learnt from, and how it went, for whoever wants to look or to learn again."""
    labels = [
        {
            "text": extract.text,
            "left": extract.left,
            "words": [word for chunk, _ in extract.labelled for word in chunk.words],
            "kept": [int(kept) for kept in extract.alignment.kept],
        }
        for extract in distilled.extracts
    ]
    about = {
        name: getattr(distilled, name)
        for name in distilled.__dataclass_fields__
        if name != "extracts"
    }
    about |= {
        "learnt_from": len(labels),
        "teacher": teacher,
        "instruction_sha256": sha256(instruction.encode()).hexdigest(),
    }
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in labels)
    try:
        (folder / "labels.jsonl").write_text(lines, encoding="utf-8")
        (folder / "distilled.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def _tell(distilled: "Distilled") -> None:
    _console.print(
        f"{distilled.texts} texts: {distilled.unanswered} unanswered, {distilled.left_out} aligned "
        f"too badly, {len(distilled.extracts)} learnt from, {distilled.kept_share:.0%} of their "
        "words kept"
    )
    _console.print(
        f"variation rate {distilled.variation_rate:.3f}, alignment gap "
        f"{distilled.alignment_gap:.3f}"
    )
    if distilled.agreement_before is not None and distilled.agreement_after is not None:
        _console.print(
            "agreement with the teacher on held-out texts: "
            f"{distilled.agreement_before:.3f} before, {distilled.agreement_after:.3f} after"
        )
