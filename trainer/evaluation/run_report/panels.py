"""Which figures of a run are drawn, each in a panel of its own with a line for every run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.evaluation.run_report import plots
from trainer.evaluation.run_report.run_files import Column, RunRecord


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of the metrics file."""

    title: str
    metric: str
    """The name in `metrics.jsonl`; `area/` is the sum of all that it has."""
    hint: str
    """How to read it."""
    share: bool = False
    """A share of 1, shown in percent."""
    of: str | None = None
    """What the metric is divided by, step by step."""
    cumulative: bool = False
    always: bool = True
    """False: left out where it is 0 in every run."""


@dataclass(frozen=True, slots=True)
class DrawnPanel:
    """A panel as the page shows it."""

    title: str
    hint: str
    svg: str
    readings: tuple[tuple[float, str], ...]
    """What the picture says at some steps, and where: a share of its width."""
    summary: tuple[str, ...]
    """What the picture says, a sentence for each run; some do not see it."""


LEARNING = (
    Panel("Reward", "reward/mean", "Mean of a step's rollouts; diamonds are validations."),
    Panel("Reward, scored only", "reward/scored", "Without the texts of a wrong length."),
    Panel(
        "Against people's answers",
        "validation/answers",
        "Validation; the reward asks for the teacher's own answers, this for people's.",
    ),
    Panel("Scored", "outcome/scored", "Share of rollouts with an answer to score.", share=True),
    Panel(
        "Out of range",
        "outcome/out_of_range",
        "Share that missed the target length and never reached the teacher.",
        share=True,
        always=False,
    ),
    Panel("Refused", "outcome/refused", "Share refused; not learnt from.", True, always=False),
    Panel("Failed", "outcome/failed", "Share without an answer.", True, always=False),
    Panel("Unjudged", "outcome/unjudged", "Share without the judge's score.", True, always=False),
    Panel(
        "Rate achieved",
        "rate/achieved",
        "Compressed / original tokens of the sampled texts; dotted: the target.",
        share=True,
    ),
    Panel(
        "Entropy per word",
        "policy/entropy_per_word",
        "In nats. Near 0 the policy draws the same text each time and explores nothing.",
    ),
    Panel(
        "KL to the start",
        "policy/kl_to_start",
        "In nats per word; how far the policy has moved.",
        always=False,
    ),
    Panel("Gradient norm", "loss/grad_norm", "Before clipping."),
    Panel(
        "Signal to noise",
        "loss/signal_to_noise",
        "Of the gradient, over some ten steps. Small: more rollouts or examples a step would help.",
        always=False,
    ),
    Panel(
        "Groups without variance",
        "reward/zero_variance_groups",
        "Share of examples whose rollouts all earned the same: nothing to learn from.",
        share=True,
    ),
    Panel("Advantage", "advantage/scale", "Mean distance of a reward from its baseline."),
    Panel("Learning rate", "loss/lr", "Of the optimiser."),
)
TEACHER = (
    Panel("Teacher calls", "teacher/calls", "Answers asked for, in total.", cumulative=True),
    Panel(
        "From the store",
        "teacher/hit",
        "Share of the step's calls that were answered before.",
        share=True,
        of="teacher/calls",
    ),
    Panel(
        "Collapsed",
        "teacher/collapsed",
        "Share that waited for the same question of another.",
        share=True,
        of="teacher/calls",
        always=False,
    ),
    Panel(
        "Recalled",
        "reuse/share",
        "Share of rollouts that an earlier run had paid for.",
        share=True,
        always=False,
    ),
    Panel(
        "KL to the recordings",
        "reuse/kl",
        "In nats per word; how far from the policies that drew those rollouts.",
        always=False,
    ),
    Panel(
        "Seconds per step",
        "seconds/",
        "All phases.",
    ),
)


def draw(
    panels: Sequence[Panel], runs: Mapping[str, RunRecord]
) -> tuple[tuple[DrawnPanel, ...], tuple[str, ...]]:
    """Draw what there is.

    Args:
        panels: which.
        runs: by label.

    Returns:
        The panels, and the titles of those that are 0 in every run.
    """
    drawn, empty = [], []
    for panel in panels:
        values = {label: column(panel, run) for label, run in runs.items()}
        if not any(np.isfinite(each).any() for each in values.values()):
            continue
        if not panel.always and not any(np.nan_to_num(each).any() for each in values.values()):
            empty.append(panel.title)
            continue
        drawn.append(_draw(panel, runs, values))
    return tuple(drawn), tuple(empty)


def column(panel: Panel, run: RunRecord) -> Column:
    """(N,): the panel's figure of each step; NaN where the run has none."""
    total = _sum(panel.metric, run)
    if panel.of:
        whole = _sum(panel.of, run)
        total = np.divide(total, whole, out=np.full(len(total), np.nan), where=whole > 0)
    return np.nancumsum(total) if panel.cumulative and np.isfinite(total).any() else total


def _sum(metric: str, run: RunRecord) -> Column:
    names = [name for name in run.metrics if name == metric or metric == f"{name.split('/')[0]}/"]
    parts = np.array([run.metrics[name] for name in names]).reshape(len(names), len(run.steps))
    known = np.isfinite(parts).any(axis=0)
    return np.where(known, np.nansum(parts, axis=0), np.nan)


def _draw(panel: Panel, runs: Mapping[str, RunRecord], values: Mapping[str, Column]) -> DrawnPanel:
    there = {label: np.isfinite(column) for label, column in values.items()}
    shown = [
        plots.Curve(
            label if len(runs) > 1 else "",
            index,
            run.steps[there[label]],
            values[label][there[label]],
            run.validation if panel.metric == "reward/mean" else (),
        )
        for index, (label, run) in enumerate(runs.items())
    ]
    targets = {target_rate(run) for run in runs.values()} if panel.metric == "rate/achieved" else ()
    line = next(iter(targets)) if len(targets) == 1 else None
    svg, readings = plots.curves(shown, share=panel.share, line=line)
    return DrawnPanel(
        title=panel.title,
        hint=panel.hint,
        svg=svg,
        readings=tuple((reading.x, reading.text) for reading in readings),
        summary=tuple(
            (f"{label}: " if len(runs) > 1 else "")
            + _in_words(run.steps, values[label], panel.share)
            for label, run in runs.items()
        ),
    )


def target_rate(run: RunRecord) -> float | None:
    """The one rate that the run aims at; None where it has several, or a length."""
    rate, several = run.setting("hyperparams", "compression_rate"), run.setting("policy", "rates")
    by_length = (run.setting("hyperparams", "target_token") or 0) >= 1
    return None if several or by_length or not isinstance(rate, float) else rate


def _in_words(steps: Column, values: Column, share: bool) -> str:
    there = np.isfinite(values)
    if not there.any():
        return "no figures"
    steps, values = steps[there], values[there]
    first, last, low, high = (
        f"{value:.0%}" if share else plots.plain(value)
        for value in (values[0], values[-1], values.min(), values.max())
    )
    if low == high:
        return f"{low} throughout" if len(steps) > 1 else f"{low} at step {steps[0]:.0f}"
    return (
        f"{first} at step {steps[0]:.0f}, {last} at step {steps[-1]:.0f}, between {low} and {high}"
    )
