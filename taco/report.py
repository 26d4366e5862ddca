"""`taco report`: runs as one HTML file, for people."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from trainer.visible import visible

NAME = "report.html"

_console = Console(highlight=False, soft_wrap=True)


def report_runs(folders: Sequence[Path], output: Path | None) -> None:
    """Write the report.

    Args:
        folders: of the runs.
        output: None: `report.html` in the folder of the only run, or in the current one.
    """
    from trainer.evaluation.run_report.page import write_report
    from trainer.evaluation.run_report.run_files import read_run

    runs = [read_run(folder) for folder in folders]
    path = output or (folders[0] if len(folders) == 1 else Path()) / NAME
    write_report(runs, path)
    for problem in (problem for run in runs for problem in run.problems):
        _console.print(visible(problem), markup=False)
    _console.print(f"report: {path}")
