"""`taco prepare`: fill a data file's missing reference completions by asking the teacher."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from taco.train import teacher_for
from trainer.config import load_config

_console = Console(highlight=False, soft_wrap=True)


def prepare_file(
    data: Path,
    output: Path,
    config_path: Path,
    overrides: Sequence[str],
    teacher: Path | None,
    store: Path | None,
) -> None:
    """Fill `data`, writing to `output`; what was answered before an interruption is kept.

    Raises:
        UserError: some records could not be filled; they are named.
    """
    config = load_config(config_path, overrides)
    with teacher_for(config, teacher, store) as url:
        fill_references(data, output, config, url)
