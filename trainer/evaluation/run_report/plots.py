"""Plots as SVG that takes its colours and its letters from the page around it.

matplotlib draws in stand-in colours, which become CSS variables: one picture serves light, dark and
paper.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import escape

from trainer.evaluation.run_report.curves import downsample, running_mean, window_of
from trainer.evaluation.run_report.run_files import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GRID = "#010203", "#010204"
SERIES = tuple(f"#0102{16 + index:02x}" for index in range(8))
"""One for each run or row; further ones begin again, with another stroke."""
STROKES = ("-", "--", ":")
"""As the legend's, which the style sheet draws."""
READINGS = 100
"""Places at most where the values of a picture's curves can be read."""
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

    label: str
    """'': it is the only one."""
    colour: int
    """Which run: counted from 0."""
    steps: Column
    values: Column
    marks: tuple[tuple[int, float], ...] = ()
    """Single measurements beside the curve, such as validations."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the curves are at one step, for who points there."""

    x: float
    """Where that is: a share of the picture's width."""
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """A measured mean with its interval."""

    x: float
    y: float
    interval: tuple[float, float] | None
    """None where it was not measured."""

    def in_words(self) -> str:
        """For who cannot see it, and for who points at it."""
        within = f" ({self.interval[0]:.3f} to {self.interval[1]:.3f})" if self.interval else ""
        return f"{self.y:.3f}{within} at rate {self.x:.3f}"


@dataclass(frozen=True, slots=True)
class Bar:
    """Something whole, and its parts in the order of the legend."""

    label: str
    parts: tuple[float, ...]


def curves(
    plotted: Sequence[Curve], *, share: bool = False, line: float | None = None
) -> tuple[str, tuple[Reading, ...]]:
    """Every curve over the steps: all values faintly, their running mean strongly.

    Args:
        plotted: what to draw.
        share: the values are shares of 1, shown in percent.
        line: where to draw a straight line, for a target.

    Returns:
        The picture, and what its strong lines say at some of the steps.
    """
    from matplotlib.ticker import MaxNLocator

    means = [running_mean(curve.values, window_of(len(curve.values))) for curve in plotted]
    with _axes(4.2, 2.3, _PANEL) as picture:
        axes = picture.axes
        for curve, mean in zip(plotted, means, strict=True):
            look = _look(curve.colour)
            axes.plot(
                *downsample(curve.steps, curve.values), color=look["color"], alpha=0.25, lw=0.8
            )
            marker = "o" if len(curve.values) <= FEW else ""
            axes.plot(*downsample(curve.steps, mean), marker=marker, ms=4, **look)
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
        readings = _readings(axes, plotted, means, share=share)
    return picture.svg, readings


def quality(rows: Mapping[str, Sequence[Point]], metric: str) -> str:
    """Quality against the rate achieved: a line with intervals for each row."""
    with _axes(5.6, 3.4) as picture:
        axes = picture.axes
        for index, (name, points) in enumerate(rows.items()):
            look = _look(index)
            x, y = [point.x for point in points], [point.y for point in points]
            axes.plot(x, y, marker="o", ms=5, **look)
            for at, low, high in [(point.x, *point.interval) for point in points if point.interval]:
                axes.plot([at, at], [low, high], color=look["color"], lw=1.2, marker="_", ms=7)
            for point in points:  # Unseen and larger than its point: easy to point at.
                said = picture.say(f"{name}: {point.in_words()}")
                axes.plot([point.x], [point.y], marker="o", ms=14, alpha=0, gid=said)
        axes.set_xlabel("achieved rate (compressed tokens / original tokens)")
        axes.set_ylabel(metric)
    return picture.svg


def bars(rows: Sequence[Bar], names: Sequence[str], unit: str) -> str:
    """Parts laid end to end, a bar for each row.

    Args:
        rows: from the top.
        names: of the parts.
        unit: of all numbers.
    """
    with _axes(5.6, 0.8 + 0.35 * len(rows)) as picture:
        axes = picture.axes
        left = [0.0] * len(rows)
        for index, name in enumerate(names):
            widths = [row.parts[index] for row in rows]
            drawn = axes.barh(
                range(len(rows)), widths, 0.6, left, color=SERIES[index % len(SERIES)]
            )
            for row, patch in zip(rows, drawn.patches, strict=True):
                patch.set_gid(picture.say(f"{row.label}, {name}: {row.parts[index]:,.1f} {unit}"))
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(unit)
    return picture.svg


def _readings(
    axes: "Axes", plotted: Sequence[Curve], means: Sequence[Column], *, share: bool
) -> tuple[Reading, ...]:
    steps = np.unique(np.concatenate([curve.steps for curve in plotted]))
    if len(steps) > READINGS:
        steps = steps[np.linspace(0, len(steps) - 1, READINGS).astype(int)]
    axes.get_xlim()  # The limits are set when they are first asked for.
    x = axes.transData.transform(np.column_stack([steps, np.zeros(len(steps))]))[:, 0]
    places = np.round(x / axes.figure.bbox.width, 4)
    return tuple(
        Reading(place, f"step {step:,.0f}: {', '.join(_values_at(step, plotted, means, share))}")
        for place, step in zip(places.tolist(), steps, strict=True)
    )


def _values_at(
    step: float, plotted: Sequence[Curve], means: Sequence[Column], share: bool
) -> Iterator[str]:
    """What each curve is there, where it goes so far."""
    for curve, mean in zip(plotted, means, strict=True):
        index = int(np.searchsorted(curve.steps, step, side="right")) - 1
        if index >= 0 and step <= curve.steps[-1]:
            value = _percent(mean[index], None) if share else plain(mean[index])
            yield f"{curve.label} {value}".lstrip()


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


@dataclass(slots=True)
class _Picture:
    """What is being drawn."""

    axes: "Axes"
    said: list[str] = field(default_factory=list)
    svg: str = ""  # At the end.

    def say(self, text: str) -> str:
        """The name that a part is to have about which a browser then says this."""
        self.said.append(text)
        return f"said-{len(self.said) - 1}"


@contextmanager
def _axes(
    width: float, height: float, margins: Mapping[str, float] | None = None
) -> Iterator[_Picture]:
    """Axes to draw on; at the end the picture is there. Margins of one's own draw faster."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # Not pyplot: no display, no global state.

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # matplotlib's own font is only measured with; the browser has another.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout=None if margins else "constrained")
        if margins:
            figure.subplots_adjust(**margins)
        picture = _Picture(figure.subplots())
        yield picture
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    picture.svg = _for_a_page(file.getvalue(), picture.said)


def _for_a_page(svg: str, said: Sequence[str]) -> str:
    """Without what an inline picture needs not: prologue, size, fonts, names of groups."""
    svg = _HEAD.sub(r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = _GLOBAL_STYLE.sub("", svg, count=1)  # It would be the whole page's.
    for index, text in enumerate(said):
        svg = svg.replace(f'<g id="said-{index}">', f"<g><title>{escape(text)}</title>", 1)
    svg = _UNUSED_ID.sub("<g>", svg)
    svg = _FONT.sub("", svg)
    svg = _BETWEEN.sub("><", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
