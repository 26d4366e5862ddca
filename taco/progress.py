"""A training run on the terminal: one line that moves, with the figures that matter."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

if TYPE_CHECKING:
    from trainer.learning.run import Watch


@contextmanager
def live_progress(console: Console) -> Iterator["Watch | None"]:
    """Gives what moves the line; None where the output is no terminal.

    There a run reports a line an interval instead, for a log file. Whatever else the console prints
    stands above the moving line.
    """
    if not console.is_terminal:
        yield None
        return
    from trainer.learning.summary import figures_line

    # In a narrow window the figures are cut at their end, and nothing else is.
    figures = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("step", table_column=Column(no_wrap=True)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        BarColumn(bar_width=10),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        TextColumn("{task.description}", markup=False, table_column=figures),
    )
    with Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task("", total=None)

        def watch(step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
            bar.update(task, completed=step, total=total_steps, description=figures_line(metrics))

        yield watch
