"""Plots as SVG that takes its colours and its letters from the page around it.

matplotlib draws in stand-in colours, which become CSS variables: one picture serves light, dark and
paper.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.evaluation.run_report.curves import downsample, running_mean, window_of
from trainer.evaluation.run_report.run_files import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GRID = "#010203", "#010204"
SERIES = tuple(f"#0102{16 + index:02x}" for index in range(8))
"""One for each run or row; further ones begin again, with another stroke."""
STROKES = ("-", "--", ":")
"""As the legend's, which the style sheet draws."""
FEW = 30
"""A curve of so few steps shows each as a point; a line through one point is nothing to see."""

_VARIABLES = {INK: "--ink", GRID: "--grid"} | {
    colour: f"--series-{index}" for index, colour in enumerate(SERIES)
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "taco",
    "text.parse_math": False,  # A dollar in a name is a dollar.
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.8,
    "lines.solid_joinstyle": "round",
}
_PANEL = {"left": 0.16, "right": 0.97, "bottom": 0.19, "top": 0.96}
_UNUSED_ID = re.compile(r"<g id=\"[^\"]*\">")
_FONT = re.compile(r"font(-size|-family)?: [^;\"]*(; )?")
_HEAD = re.compile(r".*?<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>.*?</metadata>", re.DOTALL)
_BETWEEN = re.compile(r">\s+<")
_GLOBAL_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's figure, step by step."""

    colour: int
    """Which run: counted from 0."""
    steps: Column
    values: Column
    marks: tuple[tuple[int, float], ...] = ()
    """Single measurements beside the curve, such as validations."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measured mean with its interval."""

    x: float
    y: float
    interval: tuple[float, float] | None
    """None where it was not measured."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Something whole, and its parts in the order of the legend."""

    label: str
    parts: tuple[float, ...]


def curves(plotted: Sequence[Curve], *, share: bool = False, line: float | None = None) -> str:
    """Every curve over the steps: all values faintly, their running mean strongly.

    Args:
        plotted: what to draw.
        share: the values are shares of 1, shown in percent.
        line: where to draw a straight line, for a target.
    """
    from matplotlib.ticker import MaxNLocator

    with _axes(4.2, 2.3, _PANEL) as (axes, svg):
        for curve in plotted:
            look = _look(curve.colour)
            axes.plot(
                *downsample(curve.steps, curve.values), color=look["color"], alpha=0.25, lw=0.8
            )
            smooth = running_mean(curve.values, window_of(len(curve.values)))
            marker = "o" if len(curve.values) <= FEW else ""
            axes.plot(*downsample(curve.steps, smooth), marker=marker, ms=4, **look)
            if curve.marks:
                axes.plot(
                    *zip(*curve.marks, strict=True), color=look["color"], ls="", marker="D", ms=6
                )
        if line is not None:
            axes.axhline(line, color=INK, lw=1, ls=":")
        low, high = axes.get_ylim()
        if high - low < 1e-6 * abs(high) or (share and high < 1e-6):  # Constant.
            low, high = (0.0, 1.0) if share else (0.9 * low, 1.1 * high)
        axes.set_ylim(max(low, 0.0) if share else low, high)
        axes.yaxis.set_major_formatter(_percent if share else lambda value, _: plain(value))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("step")
        axes.margins(x=0.02)
    return svg[0]


def quality(rows: Mapping[str, Sequence[Point]], metric: str) -> str:
    """Quality against the rate achieved: a line with intervals for each row."""
    with _axes(5.6, 3.4) as (axes, svg):
        for index, points in enumerate(rows.values()):
            look = _look(index)
            x, y = [point.x for point in points], [point.y for point in points]
            axes.plot(x, y, marker="o", ms=5, **look)
            for at, low, high in [(point.x, *point.interval) for point in points if point.interval]:
                axes.plot([at, at], [low, high], color=look["color"], lw=1.2, marker="_", ms=7)
        axes.set_xlabel("achieved rate (compressed tokens / original tokens)")
        axes.set_ylabel(metric)
    return svg[0]


def bars(rows: Sequence[Bar], unit: str) -> str:
    """Parts laid end to end, a bar for each row."""
    with _axes(5.6, 0.8 + 0.35 * len(rows)) as (axes, svg):
        left = [0.0] * len(rows)
        names = [row.label for row in rows]
        for index in range(max(len(row.parts) for row in rows)):
            widths = [row.parts[index] for row in rows]
            axes.barh(range(len(rows)), widths, 0.6, left, color=SERIES[index % len(SERIES)])
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(rows)), names)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(unit)
    return svg[0]


def _percent(value: float, _: object) -> str:
    return f"{100 * value:.3g}%"


def plain(value: float) -> str:
    """A number in about six characters."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def _look(index: int) -> dict[str, Any]:
    """Colour alone tells nothing to many: runs differ in their strokes too."""
    return {
        "color": SERIES[index % len(SERIES)],
        "linestyle": STROKES[index % len(STROKES)],
    }


@contextmanager
def _axes(
    width: float, height: float, margins: Mapping[str, float] | None = None
) -> Iterator[tuple["Axes", list[str]]]:
    """Axes to draw on; at the end, the list has the picture. Margins of one's own draw faster."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # Not pyplot: no display, no global state.

    drawn: list[str] = []
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # matplotlib's own font is only measured with; the browser has another.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout=None if margins else "constrained")
        if margins:
            figure.subplots_adjust(**margins)
        yield figure.subplots(), drawn
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    drawn.append(_for_a_page(file.getvalue()))


def _for_a_page(svg: str) -> str:
    """Without what an inline picture needs not: prologue, size, fonts, names of groups."""
    svg = _HEAD.sub(r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = _GLOBAL_STYLE.sub("", svg, count=1)  # It would be the whole page's.
    svg = _UNUSED_ID.sub("<g>", svg)
    svg = _FONT.sub("", svg)
    svg = _BETWEEN.sub("><", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
