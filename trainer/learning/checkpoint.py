"""Checkpoints: atomic and complete, so that a run goes on as if it had never stopped.

Noise is a function of the step, so there is no random generator to save. The log files only grow:
a checkpoint remembers how long each was, and resuming cuts back what came after.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.errors import CheckpointError, first_line
from trainer.learning.standing import Standing
from trainer.learning.writing import written

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, beside its tensors."""

    step: int
    """Optimiser steps done."""
    validated_step: int
    """The last of them that was followed by a validation."""
    log_bytes: Mapping[str, int]
    """Length of every log file, by its path relative to the run's folder, if it is in there."""
    teacher_calls: int
    """(text, question) pairs asked for so far, validation not counted."""
    standing: Standing = field(default_factory=Standing)
    """The best validation so far; `save_best` has its weights, where they are wanted."""
    reward_average: float = 0.0
    """As `Run.reward_average`."""


def save_checkpoint(
    folder: Path, progress: Progress, tensors: Mapping[str, Any], *, keep: int
) -> Path:
    """Write `folder/step-NNNNNNNN.pt` in one piece: a reader sees all of it or nothing.

    Args:
        folder: the run's folder of checkpoints.
        progress: where the run stands.
        tensors: state dicts by name (model, optimizer, scheduler).
        keep: how many of the newest stay.

    Raises:
        WriteError: there is no room, or the folder is read-only; older checkpoints stay.
    """
    path = folder / f"step-{progress.step:08d}.pt"
    with written(path):
        folder.mkdir(parents=True, exist_ok=True)
        _write({"progress": asdict(progress), "tensors": dict(tensors)}, path)
        for old in _checkpoints(folder)[:-keep]:
            old.unlink()
        for other in set(folder.glob("best-*.pt")) - {_best(folder, progress.standing.best_step)}:
            other.unlink()
    return path


def save_best(folder: Path, step: int, weights: Mapping[str, Any]) -> None:
    """Write the weights of the best validated step, in one piece.

    Another step's stay until the next checkpoint: the newest one may speak of them.

    Raises:
        WriteError: there is no room, or the folder is read-only.
    """
    path = _best(folder, step)
    with written(path):
        folder.mkdir(parents=True, exist_ok=True)
        _write({"model": dict(weights)}, path)


def load_best(folder: Path, step: int) -> Mapping[str, Any]:
    """The weights of the best validated step.

    Raises:
        CheckpointError: they are not there, or damaged.
    """
    path = _best(folder, step)
    try:
        weights: Mapping[str, Any] = torch.load(path, weights_only=True)["model"]
    except Exception as error:
        raise CheckpointError(
            f"{path}: expected the weights of the best validation, and they cannot be read "
            f"({error}); what the run ended with is in the newest checkpoint beside it"
        ) from error
    return weights


def set_damaged_aside(folder: Path) -> bool:
    """Rename checkpoints that cannot be read, newest first, until there is a whole one.

    Returns:
        Whether there is.
    """
    for path in reversed(_checkpoints(folder)):
        try:
            _read(path, torch.device("cpu"))
        except CheckpointError:
            _log.warning("%s is damaged: going on from the one before", path)
            with suppress(FileNotFoundError):  # Another process of the run was first.
                path.rename(path.with_suffix(".damaged"))
        else:
            return True
    return False


def load_latest(folder: Path, device: torch.device) -> tuple[Progress, Mapping[str, Any]]:
    """The newest checkpoint of a run.

    Raises:
        CheckpointError: there is none, or the file is damaged.
    """
    found = _checkpoints(folder)
    if not found:
        raise CheckpointError(
            f"{folder}: expected a checkpoint to resume from, and found none; train again: what "
            "the teacher answered before is in its store, and costs nothing"
        )
    return _read(found[-1], device)


def _read(path: Path, device: torch.device) -> tuple[Progress, Mapping[str, Any]]:
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        progress = {**state["progress"]}
        standing = Standing(**progress.pop("standing", {}))
        return Progress(**progress, standing=standing), state["tensors"]
    except Exception as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint, and it cannot be read "
            f"({first_line(error)}): it is damaged, or another version wrote it; "
            "delete it to resume from the one before"
        ) from error


def measure_logs(run_folder: Path, files: Sequence[Path]) -> Mapping[str, int]:
    """How long each log file is now, in bytes; a run without a lock has no such file."""
    return {
        str(file.relative_to(run_folder) if file.is_relative_to(run_folder) else file): (
            file.stat().st_size
        )
        for file in files
        if file.exists()
    }


def cut_back_logs(run_folder: Path, log_bytes: Mapping[str, int]) -> None:
    """Drop from the log files what was written after the checkpoint.

    Raises:
        CheckpointError: a file is shorter than it was at the checkpoint.
    """
    for name, size in log_bytes.items():
        path = run_folder / name
        found = path.stat().st_size if path.exists() else 0
        if found < size:
            raise CheckpointError(
                f"{path}: expected at least {size} bytes, as at the checkpoint, got {found}; "
                "the file was changed, so the run cannot be resumed from here"
            )
        if path.exists():
            os.truncate(path, size)


def _write(state: Mapping[str, Any], path: Path) -> None:
    unfinished = path.with_suffix(".unfinished")
    try:
        with unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)  # Its room may be what is missing.
        # Torch hides why a write failed behind "unexpected pos 100224 vs 100176".
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None
    unfinished.replace(path)


def _best(folder: Path, step: int) -> Path:
    return folder / f"best-{step:08d}.pt"


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"))
