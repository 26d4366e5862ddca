"""`taco prepare`: fill a data file's missing reference completions by asking the teacher."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from taco.errors import UserError
from taco.train import teacher_for
from trainer.config import Config
from trainer.config_file import load_config
from trainer.rollouts.connection import connect
from trainer.tasks.prepare import prepare

BATCH_SIZE = 256

_console = Console(highlight=False, soft_wrap=True)


def prepare_file(
    data: Path,
    output: Path,
    config_path: Path,
    overrides: Sequence[str],
    teacher: Path | None,
    store: Path | str | None,
) -> None:
    """Fill `data`, writing to `output`.

    Raises:
        UserError: some records could not be filled; they are named.
    """
    config = load_config(config_path, overrides)
    with teacher_for(config, teacher, store) as url:
        fill_references(data, output, config, url)


def fill_references(data: Path, output: Path, config: Config, url: str) -> None:
    """Ask the teacher at `url` about the originals, and show how far it is.

    Raises:
        UserError: some records could not be filled; they are named, the others are saved.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with connect(config, url) as teacher, Progress(*columns, console=_console) as progress:
        bar = progress.add_task(str(output), total=None, visible=False)
        prepared = prepare(
            data,
            teacher.complete,
            output=output,
            batch_size=BATCH_SIZE,
            on_progress=lambda asked, total: progress.update(
                bar, completed=asked, total=total, visible=True
            ),
        )
    _console.print(f"{output}: {prepared.filled} filled, {prepared.present} were there before")
    if prepared.unfilled:
        named = [f"  {gap.example_id}: {gap.reason}" for gap in prepared.unfilled]
        raise UserError("\n".join([f"{output}: the teacher left {len(named)} unanswered:", *named]))
