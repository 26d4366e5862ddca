"""`taco data` and `taco base`: what a run needs where nothing of one's own is there yet."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from taco.errors import UserError
from trainer.tasks.assembling import SPLITS, assemble, write_task
from trainer.tasks.data import load_examples
from trainer.tasks.registry import Order, find_task

DESCRIPTION = "about.json"

_console = Console(highlight=False, soft_wrap=True)


def make_data(task: str, folder: Path, *, source: str | None, count: int, seed: int) -> None:
    """Write a task's data files and `about.json`: sizes, checksums, licence, what was left out."""
    found = find_task(task)
    assembled = assemble(found.drafts(Order(source, count, seed)))
    files = write_task(folder, assembled)
    about = {
        "task": task,
        "source": source or found.description,
        "licence": found.licence,
        "files": files,
        "left_out": [asdict(each) for each in assembled.left_out],
    }
    text = json.dumps(about, indent=2, ensure_ascii=False)
    try:
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder / DESCRIPTION}: cannot be written: {error.strerror}") from error
    for entry in files.values():
        _console.print(
            f"{entry['path']}: {entry['records']} records  sha256 {entry['sha256'][:16]}"
        )
    for name in SPLITS:
        if name not in files:
            _console.print(
                f"{folder / name}.json: no record fell into it, so there is no such file"
            )
    _console.print(f"licence: {found.licence}")
    if assembled.left_out:
        first = assembled.left_out[0]
        _console.print(
            f"left out: {len(assembled.left_out)}, such as {first.name} ({first.reason}); "
            f"all of them are in {folder / DESCRIPTION}"
        )


def make_small_base(folder: Path, data: Path, *, rate: float, seed: int) -> None:
    """Make a compressor of 0.7 million parameters, taught to keep a text's rarest words."""
    texts = [example.original_prompt for example in load_examples(data, require_references=False)]
    import torch

    from trainer.learning.base import make_base

    torch.set_num_threads(1)  # So that the same data gives the same base, whatever the machine.
    path = make_base(folder, texts, rate=rate, seed=seed, report=_console.print)
    _console.print(f"base compressor: {path}")
