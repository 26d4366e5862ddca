"""What Prometheus reads at /metrics. Most of it is counted anyway, and only read when asked for."""

from collections.abc import Iterator, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cache import Completion
from teacher_service.backends.base import Finished
from teacher_service.backends.breaker import State
from teacher_service.backends.guard import Guard
from teacher_service.canary import Canary
from teacher_service.outcomes import Counters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """One teacher's.

    Args:
        backend: Its name in the settings; no label has a value that a client chose.
        counters: The teacher's.
        guard: What makes the backend's calls; None for one that calls nobody.
        canary: Notices when the teacher has changed; None: nobody looks.
    """

    def __init__(
        self, backend: str, counters: Counters, guard: Guard | None, canary: Canary | None = None
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Reader(counters, guard, canary))
        latency = Histogram(
            "taco_upstream_seconds",
            "Time that the backend took for a completion",
            ["backend"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        tokens = Counter(
            "taco_upstream_tokens",
            "Tokens of completions made",
            ["backend", "kind"],
            registry=self._registry,
        )
        self._latency = latency.labels(backend)
        self._tokens = {
            f"{kind}_tokens": tokens.labels(backend, kind) for kind in ("prompt", "completion")
        }

    def observe(self, group: Sequence[Finished]) -> None:
        """Count what a backend brought back."""
        for _, result in group:
            if not isinstance(result, Completion):
                continue
            if result.latency_ms is not None:
                self._latency.observe(result.latency_ms / 1000)
            for name, counter in self._tokens.items():
                if isinstance(count := (result.usage or {}).get(name), int):
                    counter.inc(count)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)

    def values(self) -> dict[tuple[str, ...], float]:
        """The same for readers in this process: by name, then the values of the labels."""
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in self._registry.collect()
            for sample in family.samples
        }


class _Reader(Collector):
    """Reads what is counted elsewhere, at the moment of a scrape."""

    def __init__(self, counters: Counters, guard: Guard | None, canary: Canary | None) -> None:
        self._counters = counters
        self._guard = guard
        self._canary = canary

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        counts = self._counters
        served = CounterMetricFamily(
            "taco_completions", "Completions asked for, by how they were served", labels=["served"]
        )
        for name in ("hits", "misses", "collapsed"):
            served.add_metric([name], getattr(counts, name))
        yield served
        yield CounterMetricFamily("taco_refused", "Declared refusals", value=counts.refused)
        yield CounterMetricFamily("taco_failed", "Completions that failed", value=counts.failed)
        yield CounterMetricFamily(
            "taco_backend_calls", "Generations actually made", value=counts.backend_calls
        )
        if self._canary:
            yield GaugeMetricFamily(
                "taco_canary_changed",
                "Fixed prompts that the teacher answers otherwise than when it was recorded",
                value=sum(one.changed for one in self._canary.probes),
            )
        if self._guard:
            yield from _of_guard(self._guard)


def _of_guard(guard: Guard) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "taco_upstream_queue", "Calls that wait for their turn", value=guard.slots.waiting
    )
    yield GaugeMetricFamily(
        "taco_upstream_active", "Calls that have it, pauses included", value=guard.slots.taken
    )
    yield GaugeMetricFamily(
        "taco_upstream_limit", "Calls allowed at one time, as adapted", value=guard.limit.limit
    )
    retries = CounterMetricFamily(
        "taco_upstream_retries", "Attempts made again, by the error before", labels=["error"]
    )
    for error, count in guard.retries.items():
        retries.add_metric([error], count)
    yield retries
    breaker = GaugeMetricFamily("taco_upstream_breaker", "1 for its state", labels=["state"])
    for state in get_args(State):
        breaker.add_metric([state], float(guard.breaker.state == state))
    yield breaker
    yield CounterMetricFamily("taco_budget_calls", "Attempts made", value=guard.spending.calls)
    yield CounterMetricFamily(
        "taco_budget_usd", "Spent, where prices are set", value=guard.spending.usd
    )
