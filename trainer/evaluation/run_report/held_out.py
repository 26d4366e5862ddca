"""The held-out evaluation of a run, as `taco evaluate` left it in the run's folder."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.evaluation.run_report.plots import Point, quality
from trainer.evaluation.run_report.run_files import (
    Bounds,
    EvaluatedRow,
    EvaluationFile,
    MeanScore,
    RunRecord,
)
from trainer.visible import visible


@dataclass(frozen=True, slots=True)
class Table:
    """One requested rate, or a list of differences."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the page shows of one evaluation."""

    label: str
    """Of the run."""
    metric: str
    svg: str
    legend: tuple[str, ...]
    summary: tuple[str, ...]
    """The points of the plot in words."""
    tables: tuple[Table, ...]
    beside: Table | None
    """How much better the compressor is by the plot's metric, a column for each rate."""
    differences: Table | None
    """All of them."""
    signature: tuple[tuple[str, str], ...]


def held_out(label: str, run: RunRecord) -> HeldOut | None:
    """Arrange a run's evaluation; None where it has none."""
    evaluation = run.evaluation
    if evaluation is None or not evaluation.rows or not evaluation.rows[0].agreement:
        return None
    metric = next(iter(evaluation.rows[0].agreement))
    points = _points(evaluation, metric)
    return HeldOut(
        label=label,
        metric=visible(metric),
        svg=quality(points, f"{visible(metric)}, against the teacher's own answers"),
        legend=tuple(points),
        summary=tuple(
            f"{name}: " + ", ".join(point.in_words() for point in line)
            for name, line in points.items()
        ),
        tables=_tables(evaluation),
        beside=_beside(evaluation, metric),
        differences=_differences(evaluation),
        signature=tuple(
            (visible(name), visible(str(value))) for name, value in evaluation.signature.items()
        ),
    )


def _points(evaluation: EvaluationFile, metric: str) -> dict[str, list[Point]]:
    points: dict[str, list[Point]] = defaultdict(list)
    for row in evaluation.rows:
        score = row.agreement.get(metric)
        if score is not None and score.mean is not None:
            point = Point(row.achieved_rate, score.mean, score.interval)
            if point not in points[row.row]:  # The uncompressed row is the same at every rate.
                points[row.row].append(point)
    return {visible(name): sorted(line, key=lambda point: point.x) for name, line in points.items()}


def _tables(evaluation: EvaluationFile) -> tuple[Table, ...]:
    """One for each requested rate; the uncompressed row begins each."""
    groups: list[list[EvaluatedRow]] = []
    for row in evaluation.rows:
        if not groups or row.row in {each.row for each in groups[-1]}:
            groups.append([])
        groups[-1].append(row)
    return tuple(map(_table, groups))


def _table(rows: Sequence[EvaluatedRow]) -> Table:
    agreement, correctness = list(rows[0].agreement), list(rows[0].correctness or {})
    header = (
        "row",
        "achieved rate",
        "tokens saved",
        *(f"{visible(metric)}, teacher" for metric in agreement),
        *(f"{visible(metric)}, human" for metric in correctness),
    )
    body = tuple(
        (
            visible(row.row),
            f"{row.achieved_rate:.3f}",
            "-" if row.tokens_saved_per_prompt is None else f"{row.tokens_saved_per_prompt:.1f}",
            *(_score(row.agreement.get(metric)) for metric in agreement),
            *(_score((row.correctness or {}).get(metric)) for metric in correctness),
        )
        for row in rows
    )
    return Table(f"Requested rate {rows[-1].requested_rate:g}", header, body)


def _score(score: MeanScore | None) -> str:
    if score is None or score.mean is None:
        return "-"
    if score.interval is None or score.interval[0] == score.interval[1]:
        return f"{score.mean:.3f}"
    low, high = score.interval
    return f"{score.mean:.3f} ({low:.3f} to {high:.3f})"


def _beside(evaluation: EvaluationFile, metric: str) -> Table | None:
    cells = {
        (each.theirs, each.requested_rate): _interval(each.interval)
        for each in evaluation.differences
        if (each.measure, each.metric) == ("agreement", metric)
    }
    if not cells:
        return None
    names, rates = (list(dict.fromkeys(column)) for column in zip(*cells, strict=True))
    ours = visible(evaluation.differences[0].ours)
    return Table(
        f"{ours}, less each other row, by {visible(metric)}: 95 % intervals by paired bootstrap",
        ("row", *(f"rate {rate:g}" for rate in rates)),
        tuple((visible(n), *(cells.get((n, rate), "-") for rate in rates)) for n in names),
    )


def _interval(bounds: Bounds) -> str:
    return f"{bounds.difference:+.3f} ({bounds.low:+.3f} to {bounds.high:+.3f})"


def _differences(evaluation: EvaluationFile) -> Table | None:
    if not evaluation.differences:
        return None
    return Table(
        "Differences by every metric",
        ("rate", "ours", "beside", "measured by", "difference", "examples"),
        tuple(
            (
                f"{each.requested_rate:g}",
                visible(each.ours),
                visible(each.theirs),
                f"{visible(each.metric)}, {'teacher' if each.measure == 'agreement' else 'human'}",
                _interval(each.interval),
                f"{each.examples:,}",
            )
            for each in evaluation.differences
        ),
    )
