"""What a run's folder has to say, whatever state it is in.

A run may still go on, may have been killed in the middle of a line, or may have lost files. What is
missing or damaged is a sentence in `RunRecord.problems`, never a reason to show nothing.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from trainer.errors import CheckpointError

Column = NDArray[np.float64]
"""(N,): one figure of each step; NaN where a step has none."""


class MeanScore(BaseModel):
    """One metric over the held-out questions."""

    mean: float | None
    scored: int
    of: int
    interval: tuple[float, float] | None = None
    """Around the mean; None where it was not measured."""


class EvaluatedRow(BaseModel):
    """One way to compress, as `taco evaluate` measured it."""

    row: str
    requested_rate: float
    achieved_rate: float
    tokens_saved_per_prompt: float | None = None
    agreement: dict[str, MeanScore]
    correctness: dict[str, MeanScore] | None = None


class Bounds(BaseModel):
    """A difference with its interval."""

    difference: float
    low: float
    high: float


class EvaluatedDifference(BaseModel):
    """How much better one row is than another."""

    requested_rate: float
    ours: str
    theirs: str
    measure: str
    metric: str
    interval: Bounds
    examples: int


class EvaluationFile(BaseModel):
    """As much of `evaluation/report.json` as a report shows."""

    signature: dict[str, Any] = {}
    rows: list[EvaluatedRow]
    differences: list[EvaluatedDifference] = []


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything that was read from one folder."""

    folder: Path
    description: Mapping[str, Any]
    """`run.json`; {} where there is none that can be read."""
    result: Mapping[str, Any] | None
    """`result.json`; None: the run is not finished."""
    steps: Column
    """(N,): the steps of `metrics`."""
    metrics: Mapping[str, Column]
    """By name, such as `reward/mean`; those of a validation stand at its step."""
    validation: tuple[tuple[int, float], ...]
    """(step, mean reward) of each validation."""
    evaluation: EvaluationFile | None
    problems: tuple[str, ...]
    """What is missing or damaged, a sentence each."""

    def setting(self, section: str, key: str) -> Any:
        """One value of the run's config; None where it is not known."""
        config = self.description.get("config")
        values = config.get(section) if isinstance(config, Mapping) else None
        return values.get(key) if isinstance(values, Mapping) else None


@dataclass
class _Problems:
    """Collects sentences about one folder."""

    folder: Path
    found: list[str] = field(default_factory=list)

    def add(self, name: str, what: str) -> None:
        self.found.append(f"{self.folder.name}/{name}: {what}")


def read_run(folder: Path) -> RunRecord:
    """Read a run's folder.

    Raises:
        CheckpointError: it is none: it has neither a description nor a log.
    """
    problems = _Problems(folder)
    description = _object(folder, "run.json", problems, "the run's settings are not known") or {}
    log_dir = folder / _log_dir(description)
    logs = sorted(folder.glob("*/metrics.jsonl"))
    metrics_file = log_dir / "metrics.jsonl"
    if not metrics_file.exists() and logs:
        metrics_file = logs[0]
    if not description and not metrics_file.exists():
        raise CheckpointError(
            f"{folder}: expected a run's folder, as `taco train` writes it, with run.json and "
            "logs; found neither"
        )
    steps, metrics = _metrics(metrics_file, problems)
    validation_file = metrics_file.with_name("validation.jsonl")
    if validation_file.exists():
        metrics |= _at_steps(steps, *_metrics(validation_file, problems))
    return RunRecord(
        folder=folder,
        description=description,
        result=_object(folder, "result.json", problems) if _has(folder, "result.json") else None,
        steps=steps,
        metrics=metrics,
        validation=_validation(metrics_file.with_name("rewards_logs_updated.csv"), problems),
        evaluation=_evaluation(folder, problems),
        problems=tuple(problems.found),
    )


def _has(folder: Path, name: str) -> bool:
    return (folder / name).exists()


def _log_dir(description: Mapping[str, Any]) -> str:
    config = description.get("config")
    logging = config.get("logging") if isinstance(config, Mapping) else None
    log_dir = logging.get("log_dir") if isinstance(logging, Mapping) else None
    return log_dir if isinstance(log_dir, str) else "logs"


def _object(
    folder: Path, name: str, problems: _Problems, consequence: str = "it is left out"
) -> dict[str, Any] | None:
    """A JSON object; None, and a problem, where there is none."""
    try:
        document = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.add(name, f"there is no such file; {consequence}")
    except (OSError, ValueError) as error:
        problems.add(name, f"it cannot be read ({error}); {consequence}")
    else:
        if isinstance(document, dict):
            return document
        problems.add(name, f"expected a JSON object, got {type(document).__name__}; {consequence}")
    return None


def _lines(path: Path, problems: _Problems, what: str) -> Iterator[str]:
    """The file's whole lines; a last one without its end was cut by whatever ended the run."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                if line.endswith("\n"):
                    yield line
    except FileNotFoundError:
        problems.add(path.name, f"there is no such file in {path.parent}; {what} cannot be shown")
    except OSError as error:
        problems.add(path.name, f"it cannot be read ({error.strerror}); {what} cannot be shown")


def _metrics(path: Path, problems: _Problems) -> tuple[Column, dict[str, Column]]:
    rows: dict[float, Mapping[str, Any]] = {}
    bad = 0
    for line in _lines(path, problems, "the course of the training"):
        try:
            row = json.loads(line)
            step = _number(row["step"])
        except (ValueError, KeyError, TypeError):
            bad += 1
            continue
        if math.isnan(step):
            bad += 1
        else:
            rows[step] = row
    if bad:
        problems.add(path.name, f"{bad} of {bad + len(rows)} lines are damaged and left out")
    ordered = [rows[step] for step in sorted(rows)]
    names = dict.fromkeys(name for row in ordered for name in row if "/" in name)
    columns = {name: np.array([_number(row.get(name)) for row in ordered]) for name in names}
    return np.array(sorted(rows), dtype=float), columns


def _at_steps(steps: Column, validated: Column, figures: Mapping[str, Column]) -> dict[str, Column]:
    """Validations' figures in columns over all steps; one without a step's line is left out."""
    _, place, known = np.intersect1d(steps, validated, return_indices=True)
    columns = {}
    for name, values in figures.items():
        columns[name] = np.full(len(steps), math.nan)
        columns[name][place] = values[known]
    return columns


def _number(value: object) -> float:
    """A finite number as it is, anything else as NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.nan
    return float(value)


def _validation(path: Path, problems: _Problems) -> tuple[tuple[int, float], ...]:
    rows: list[tuple[int, float]] = []
    for cells in csv.reader(_lines(path, problems, "the validation")):
        if cells[:1] != ["ValR"]:
            continue
        try:
            rows.append((int(cells[2]), float(cells[3])))
        except (ValueError, IndexError):
            problems.add(path.name, f"a row is damaged and left out: {','.join(cells)[:80]}")
    return tuple(rows)


def _evaluation(folder: Path, problems: _Problems) -> EvaluationFile | None:
    name = "evaluation/report.json"
    if not _has(folder, name):
        return None
    document = _object(folder, name, problems, "the evaluation is left out")
    if document is None:
        return None
    try:
        return EvaluationFile.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        problems.add(
            name,
            f"expected what `taco evaluate` writes, and {place} is none: {first['msg']}; "
            "the evaluation is left out",
        )
        return None


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """A short name for each run: its folder's, or as much of the path as tells it apart."""
    names = [run.folder.resolve().name for run in runs]
    return [
        name if names.count(name) == 1 else str(run.folder)
        for name, run in zip(names, runs, strict=True)
    ]
