"""Quality against rate, as a picture."""

from collections import defaultdict
from pathlib import Path

from trainer.errors import TrainerError
from trainer.evaluation.evaluate import NONE, Evaluation


def can_plot() -> bool:
    """Whether the extra `plot` is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def write_plot(evaluation: Evaluation, path: Path) -> None:
    """One line for each row: the first metric's agreement at the rates achieved.

    Raises:
        TrainerError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # Not pyplot: no display, no global state.

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    points = defaultdict(list)
    for row in evaluation.rows:
        if row.agreement[0].mean is not None:
            points[row.name].append((row.achieved_rate, row.agreement[0].mean))
    for name, line in points.items():
        if name == NONE:
            axes.axhline(line[0][1], color="grey", linestyle="--", label=name)
        else:
            axes.plot(*zip(*sorted(line), strict=True), marker="o", label=name)
    axes.set_xlabel("achieved rate (compressed tokens / original tokens)")
    axes.set_ylabel(f"{evaluation.rows[0].agreement[0].metric}, against the teacher's own answers")
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise TrainerError(f"{path}: the plot cannot be written: {error.strerror}") from error
