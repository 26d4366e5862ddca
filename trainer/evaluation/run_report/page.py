"""The page: what is shown of each run, and the one HTML file that shows it."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trainer.errors import TrainerError
from trainer.evaluation.run_report import panels
from trainer.evaluation.run_report.examples import NO_ANSWER, Gallery
from trainer.evaluation.run_report.held_out import held_out
from trainer.evaluation.run_report.plots import SERIES, Bar, bars
from trainer.evaluation.run_report.run_files import Column, RunRecord, labels
from trainer.visible import clipped, visible

LONGEST_SETTING = 400


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in the table at the top."""

    label: str
    state: str
    steps: str
    reward: str
    rate: str
    calls: str
    from_store: str
    money: str
    time: str


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the configs."""

    name: str
    values: tuple[str, ...]
    """One for each run."""

    @property
    def differs(self) -> bool:
        """Whether the runs do not agree."""
        return len(set(self.values)) > 1


def write_report(
    runs: Sequence[RunRecord],
    output: Path,
    gallery: Gallery | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report.

    Args:
        runs: at least one.
        output: the HTML file.
        gallery: examples; None: none are shown.
        notes: what could not be had, beside the runs' own problems.

    Raises:
        TrainerError: matplotlib is missing, or the file cannot be written.
    """
    page = render(runs, gallery, notes)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise TrainerError(f"{output}: the report cannot be written: {error.strerror}") from error


def render(runs: Sequence[RunRecord], gallery: Gallery | None, notes: Sequence[str]) -> str:
    """The report as HTML; see `write_report`."""
    _require_matplotlib()
    by_label = dict(zip(map(visible, labels(runs)), runs, strict=True))
    learning, empty = panels.draw(panels.LEARNING, by_label)
    teacher, teacher_empty = panels.draw(panels.TEACHER, by_label)
    environment = Environment(
        loader=PackageLoader("trainer.evaluation.run_report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _source(environment, "report.js")
    return environment.get_template("report.html").render(
        title=" · ".join(by_label),
        lines=[_line(label, run) for label, run in by_label.items()],
        problems=list(map(visible, [*(each for run in runs for each in run.problems), *notes])),
        learning=learning,
        teacher=teacher,
        nothing=[*empty, *teacher_empty],
        phases=_phases(by_label),
        held_out=[each for label, run in by_label.items() if (each := held_out(label, run))],
        gallery=gallery,
        no_answer=NO_ANSWER,
        settings=_settings(runs),
        colours=len(SERIES),
        style=Markup(_source(environment, "report.css")),  # noqa: S704 - ours, from the package.
        script=Markup(script),  # noqa: S704
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise TrainerError(
            "a report needs matplotlib for its plots: pip install 'taco-rewards[plot]'"
        ) from error


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _line(label: str, run: RunRecord) -> RunLine:
    calls, hits = (_total(run, name) for name in ("teacher/calls", "teacher/hit"))
    last = int(run.steps[-1]) if len(run.steps) else 0
    seconds = sum(_total(run, name) or 0.0 for name in _phase_names(run))
    rate, target = _end(run, "rate/achieved"), panels.target_rate(run)
    return RunLine(
        label=label,
        state="finished" if run.result else "not finished",
        steps=f"{last:,}",
        reward=_from_to(run),
        rate="-" if rate is None else f"{rate:.3f}" + (f" of {target:g}" if target else ""),
        calls="-" if calls is None else f"{calls:,.0f}",
        from_store=f"{hits / calls:.0%}" if calls and hits is not None else "-",
        money=money(run.result),
        time=_duration(seconds),
    )


def money(result: Mapping[str, Any] | None) -> str:
    """What a run spent and saved, as its teacher service counted."""
    spent, saved = ((result or {}).get(name) for name in ("spent_usd", "saved_usd"))
    if not isinstance(spent, int | float) or not isinstance(saved, int | float):
        return "-"
    return f"${spent:,.4f} spent, ${saved:,.4f} saved" if spent or saved else "no prices"


def _from_to(run: RunRecord) -> str:
    values = run.metrics.get("reward/mean")
    if values is None or not np.isfinite(values).any():
        return "-"
    window = _ends(len(values))
    return f"{np.nanmean(values[:window]):.3f} → {np.nanmean(values[-window:]):.3f}"


def _end(run: RunRecord, name: str) -> float | None:
    """The mean over a run's last steps."""
    values = run.metrics.get(name)
    if values is None or not np.isfinite(values[-_ends(len(values)) :]).any():
        return None
    return float(np.nanmean(values[-_ends(len(values)) :]))


def _ends(count: int) -> int:
    """How many steps count as the beginning, or the end, of so many: a tenth, 20 at the most."""
    return max(1, min(20, count // 10))


def _total(run: RunRecord, name: str) -> float | None:
    values: Column | None = run.metrics.get(name)
    return None if values is None else float(np.nansum(values))


def _phase_names(run: RunRecord) -> list[str]:
    return [name for name in run.metrics if name.startswith("seconds/")]


def _phases(runs: Mapping[str, RunRecord]) -> dict[str, Any] | None:
    """Seconds by phase, a bar for each run; None where no run has any."""
    names = list(dict.fromkeys(name for run in runs.values() for name in _phase_names(run)))
    if not names:
        return None
    totals = {
        label: tuple(_total(run, name) or 0.0 for name in names) for label, run in runs.items()
    }
    phases = [name.removeprefix("seconds/") for name in names]
    return {
        "names": phases,
        "svg": bars([Bar(label, parts) for label, parts in totals.items()], phases, "seconds"),
        "rows": [
            (label, [f"{part:,.1f}" for part in parts], f"{sum(parts):,.1f}")
            for label, parts in totals.items()
        ],
    }


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.1f} min" if hours < 1 else f"{hours:.1f} h"


def _settings(runs: Sequence[RunRecord]) -> list[Setting]:
    flat = [dict(_flattened(run.description)) for run in runs]
    names = dict.fromkeys(name for each in flat for name in each)
    return [Setting(name, tuple(each.get(name, "-") for each in flat)) for name in names]


def _flattened(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [
            pair
            for key, inner in value.items()
            for pair in _flattened(inner, f"{name}.{key}" if name else str(key))
        ]
    return [(visible(name.removeprefix("config.")), clipped(str(value), LONGEST_SETTING))]
