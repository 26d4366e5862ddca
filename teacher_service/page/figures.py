"""The figures of the first page, read from what is counted for /metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from teacher_service.page.rates import KEPT, Rate, Rates
from teacher_service.service import Teacher

_Values: TypeAlias = Mapping[tuple[str, ...], float]
_HEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the backend took for a completion, in seconds; percentiles to within a bucket."""

    count: int
    mean: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Upstream:
    """What stands between a backend and the network."""

    waiting: int
    active: int
    limit: int
    breaker: str
    retries: int
    calls: int
    usd: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of time in the chart; each part from its top (0 is the chart's) downwards."""

    x: int
    hits: tuple[float, float]  # Where it begins, and its height.
    collapsed: tuple[float, float]
    misses: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """The service at this moment."""

    now: Rate
    served: Mapping[str, int]  # Since the start: hits, misses, collapsed, failed, refused.
    hit_share: float | None  # Of all completions asked for; None before the first.
    backend_calls: int
    latency: Latency | None  # None before the first.
    upstream: Upstream | None  # None: this backend calls nobody.
    trouble: str | None
    bars: Sequence[Bar]
    highest: float  # The chart's top, in completions a second.


def figures_of(teacher: Teacher, rates: Rates, trouble: str | None) -> Figures:
    """All of them."""
    counts = teacher.counters
    values = teacher.metrics.values()
    series = rates.series()
    highest = max((rate.total for rate in series), default=0.0)
    return Figures(
        rates.latest(),
        {
            "hits": counts.hits,
            "collapsed": counts.collapsed,
            "misses": counts.misses,
            "refused": counts.refused,
            "failed": counts.failed,
        },
        counts.hits / counts.requests if counts.requests else None,
        counts.backend_calls,
        latency_of(values),
        _upstream(values),
        trouble,
        [_bar(KEPT - len(series) + index, rate, highest) for index, rate in enumerate(series)],
        highest,
    )


def latency_of(values: _Values) -> Latency | None:
    """From the histogram of /metrics; inside a bucket latencies are taken as evenly spread."""
    name = "taco_upstream_seconds"
    count = _sum(values, f"{name}_count")
    if not count:
        return None
    buckets = sorted(
        (float(labels[-1]), value)
        for (metric, *labels), value in values.items()
        if metric == f"{name}_bucket"
    )
    mean = _sum(values, f"{name}_sum") / count
    return Latency(int(count), mean, _quantile(buckets, 0.5), _quantile(buckets, 0.95))


def _quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """From cumulative counts by upper bound; beyond the last bound, that bound."""
    wanted = share * buckets[-1][1]
    for (low, below), (high, upto) in pairwise([(0.0, 0.0), *buckets]):
        if upto >= wanted:
            if high == float("inf"):
                return low
            return low + (high - low) * (wanted - below) / (upto - below)
    return buckets[-1][0]


def _upstream(values: _Values) -> Upstream | None:
    states = [
        key[1] for key, value in values.items() if key[0] == "taco_upstream_breaker" and value
    ]
    if not states:
        return None
    return Upstream(
        int(_sum(values, "taco_upstream_queue")),
        int(_sum(values, "taco_upstream_active")),
        int(_sum(values, "taco_upstream_limit")),
        states[0].replace("_", " "),
        int(_sum(values, "taco_upstream_retries_total")),
        int(_sum(values, "taco_budget_calls_total")),
        _sum(values, "taco_budget_usd_total"),
    )


def _sum(values: _Values, name: str) -> float:
    return sum(value for (metric, *_), value in values.items() if metric == name)


def _bar(x: int, rate: Rate, highest: float) -> Bar:
    """Hits at the bottom, then what waited for a call under way, then calls."""
    scale = _HEIGHT / highest if highest else 0.0
    hits, collapsed, misses = (
        round(part * scale, 2) for part in (rate.hits, rate.collapsed, rate.misses)
    )
    return Bar(
        x,
        (_HEIGHT - hits, hits),
        (_HEIGHT - hits - collapsed, collapsed),
        (max(0.0, _HEIGHT - hits - collapsed - misses), misses),
    )
