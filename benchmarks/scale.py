"""Whether look-ups stay fast: a store of 10 million rows beside one of 10 thousand.

    python -m benchmarks.scale [--rows N] [--folder DIR]

Each of five runs makes 100,000 look-ups in each store, singly and again in batches of 256, by turns
of some thousand in the one and then in the other, so that both see the same machine. Warm: every
key that is looked up was looked up before, and its pages were read from the disk then.

Measured twice, each time in a process that did nothing before: once started as the service's image
and systemd unit start it, with memory and so SQLite's page cache in huge pages
(`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`), and once in pages of 4 kB.

    p50_10m_vs_10k, p99_10m_vs_10k              one look-up, median of the runs' ratios
    p50_256_10m_vs_10k, p99_256_10m_vs_10k      a batch of 256
    sqlite3_p50_256_10m_vs_10k, p99 likewise    the batch, key by key through `sqlite3` alone: what
                                                of it is not ours to mend
    open_seconds_10m                            opening the large store for writing, with its checks
    bytes_per_row                               file size, requests with their texts included
    huge_page_mib                               how much of the memory was in huge pages
    small_pages_p50_10m_vs_10k, …               all ratios without them

A look-up reads two pages, one of the index and one of the table. In the small store they are in the
processor's caches; in the large one they are in memory, as are the entries of SQLite's page cache
that lead to them and their neighbours in its list (a fifth of the time, by perf).

One page would do if completions were clustered by the first eight bytes of their keys. Over ten
million completions alone, a batch took 1.70 times as long as in a small table, in place of 2.24
times; and that flatters, as its pages were fuller than inserts in random order leave them.
But a clustered row lands on a page that it shares with no other row of its transaction: a durable
batch of 256 among 20,000 rows wrote 869 pages of log where it writes 474 now, in 46 microseconds a
row where it takes 29, which is too slow for the twice diskcache's rate that `cache_speed` is to
show. An index on the keys' first eight bytes made 2.10 of 2.18. Database pages of 16 kB made no
difference, though the trees are lower by a level, and take four times the memory.

The large store takes about 11 GB in the folder, and 4 GB of memory to build; it is removed at the
end.
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import ParamSpec, TypeAlias, TypeVar
from unittest.mock import patch

from rich.console import Console

from benchmarks import bulk
from benchmarks.peers import bare_lookup
from benchmarks.results import publish, show
from cache import CompletionStore
from cache.sqlite_file import connect_reader

LARGE, SMALL = 10_000_000, 10_000
LOOKUPS = 100_000
RUNS = 5
BATCH = 256
HUGE_PAGES = "glibc.malloc.hugetlb=1"  # As in docker/Dockerfile.service.
_TURNS = 20
_BYTES_PER_ROW = 1_300  # With room to spare.

Lookup: TypeAlias = Callable[[Sequence[bytes]], object]
P = ParamSpec("P")
T = TypeVar("T")

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of one run's look-ups in one store, in microseconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Measured:
    """The small and the large store, run by run."""

    rows: int
    open_seconds: float
    bytes_per_row: float
    huge_page_mib: float
    single: list[tuple[Latency, Latency]]
    batched: list[tuple[Latency, Latency]]
    bare: list[tuple[Latency, Latency]]  # Batches through `sqlite3` alone.


def main() -> None:
    """Build, measure, print, write `results/scale.json`."""
    parser = argparse.ArgumentParser(description="Look-ups in a large store and in a small one.")
    parser.add_argument("--rows", type=int, default=LARGE)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    require_room(arguments.folder, arguments.rows)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="taco-scale-") as scratch:
        small, large = (Path(scratch) / name for name in ("small.sqlite", "large.sqlite"))
        start = time.perf_counter()
        bulk.build(small, SMALL)
        elsewhere("", bulk.build, large, arguments.rows)
        _console.print(f"built in {time.perf_counter() - start:.0f} s")
        os.sync()  # Or the first look-ups are timed while the disk is still writing.
        measured, plain = (
            elsewhere(tunables, measure, small, large, LOOKUPS, RUNS)
            for tunables in (HUGE_PAGES, "")
        )
    report("Look-ups", measured)
    report("Without huge pages", plain)
    small_pages = {f"small_pages_{name}": ratio for name, ratio in ratios_of(plain).items()}
    publish("scale", {**figures_of(measured), **small_pages})


def require_room(folder: Path, rows: int) -> None:
    """End here, before half of a large file is written, where the whole will not fit."""
    needed, free = rows * _BYTES_PER_ROW, shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"{rows:,} rows take up to {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB "
            "free: name a folder on a larger disk (--folder DIR), or fewer rows (--rows N)"
        )


def elsewhere(tunables: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns, from a process that starts with these tunables of glibc.

    Raises:
        BrokenProcessPool: the process was killed, as where there is no memory for its page cache.
    """
    with (
        patch.dict(os.environ, GLIBC_TUNABLES=tunables),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process,
    ):
        return process.submit(work, *args, **kwargs).result()


def measure(small: Path, large: Path, lookups: int, runs: int) -> Measured:
    """Look up in both stores."""
    open_seconds = median(_seconds_to_open(large) for _ in range(RUNS))
    with CompletionStore.open(large, read_only=True) as store:
        rows = store.stats().completions
    keys = _draw_keys(SMALL, lookups), _draw_keys(rows, lookups)
    with ExitStack() as stack:
        stores = [stack.enter_context(CompletionStore.open(path)) for path in (small, large)]
        for store, wanted in zip(stores, keys, strict=True):
            _require_all(store, wanted)
        ours = [store.lookup for store in stores]
        single = [_run(ours, keys, 1) for _ in range(runs)]
        batched = [_run(ours, keys, BATCH) for _ in range(runs)]
        huge_page_mib = _huge_page_mib()
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(connect_reader(path))) for path in (small, large)
        ]
        bare = [partial(bare_lookup, connection) for connection in connections]
        _run(bare, keys, BATCH)  # Warms up.
        alone = [_run(bare, keys, BATCH) for _ in range(runs)]
    size = large.stat().st_size / rows
    return Measured(rows, open_seconds, size, huge_page_mib, single, batched, alone)


def report(title: str, measured: Measured) -> None:
    """The table, and what is no ratio."""
    show(
        f"{title}, microseconds (median of {len(measured.single)} runs)",
        ("", f"{SMALL:,} rows", f"{measured.rows:,} rows", "ratio"),
        [
            _table_row(f"{name}, {label}", runs, of)
            for label, runs in (
                ("single", measured.single),
                ("batch of 256", measured.batched),
                ("the same, sqlite3 alone", measured.bare),
            )
            for name, of in _PERCENTILES.items()
        ],
    )
    _console.print(
        f"{measured.rows:,} rows: opened in {1000 * measured.open_seconds:.0f} ms, "
        f"{measured.bytes_per_row:.0f} bytes a row, {measured.huge_page_mib:.0f} MiB in huge pages"
    )


def figures_of(measured: Measured) -> dict[str, float]:
    """What `scale.json` holds. The names say 10m; `rows` says how many there were."""
    return {
        **ratios_of(measured),
        "open_seconds_10m": round(measured.open_seconds, 4),
        "bytes_per_row": round(measured.bytes_per_row, 1),
        "huge_page_mib": round(measured.huge_page_mib, 1),
        "rows": measured.rows,
    }


def ratios_of(measured: Measured) -> dict[str, float]:
    """Each percentile in the large store, over that in the small one: median of the runs."""
    return {
        f"{label.format(name)}_10m_vs_10k": round(_ratio(runs, of), 3)
        for label, runs in (
            ("{}", measured.single),
            ("{}_256", measured.batched),
            ("sqlite3_{}_256", measured.bare),
        )
        for name, of in _PERCENTILES.items()
    }


_PERCENTILES: dict[str, Callable[[Latency], float]] = {
    "p50": lambda latency: latency.p50,
    "p99": lambda latency: latency.p99,
}


def _ratio(runs: Sequence[tuple[Latency, Latency]], of: Callable[[Latency], float]) -> float:
    return median(of(large) / of(small) for small, large in runs)


def _table_row(
    label: str, runs: Sequence[tuple[Latency, Latency]], of: Callable[[Latency], float]
) -> tuple[str, ...]:
    small, large = (median(of(run[index]) for run in runs) for index in (0, 1))
    return label, f"{small:.1f}", f"{large:.1f}", f"{_ratio(runs, of):.2f}"


def _seconds_to_open(path: Path) -> float:
    start = time.perf_counter()
    with CompletionStore.open(path):
        return time.perf_counter() - start


def _huge_page_mib() -> float:
    """How much of this process's memory is in huge pages; 0 where the system does not tell."""
    usage = Path("/proc/self/smaps_rollup")
    if not usage.exists():
        return 0.0
    lines = usage.read_text(encoding="utf-8").splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith("AnonHugePages:")]
    return int(kib) / 1024


def _draw_keys(rows: int, lookups: int) -> list[bytes]:
    draw = random.Random(rows)
    return [bulk.key(draw.randrange(rows)) for _ in range(lookups)]


def _require_all(store: CompletionStore, keys: Sequence[bytes]) -> None:
    """Warm up, and make sure that what is measured are hits."""
    for start in range(0, len(keys), BATCH):
        wanted = keys[start : start + BATCH]
        assert store.lookup(wanted).keys() == set(wanted)


def _run(
    lookups: Sequence[Lookup], keys: Sequence[Sequence[bytes]], size: int
) -> tuple[Latency, Latency]:
    """Look up all keys in both stores, `size` at a time, by turns."""
    spent: tuple[list[float], list[float]] = ([], [])
    turn = max(size, len(keys[0]) // _TURNS // size * size)
    for start in range(0, len(keys[0]), turn):
        for lookup, wanted, seconds in zip(lookups, keys, spent, strict=True):
            seconds += _timed(lookup, wanted[start : start + turn], size)
    small, large = map(_latency, spent)
    return small, large


def _timed(lookup: Lookup, keys: Sequence[bytes], size: int) -> list[float]:
    spent = []
    for start in range(0, len(keys) - size + 1, size):
        wanted = keys[start : start + size]
        began = time.perf_counter()
        lookup(wanted)
        spent.append(time.perf_counter() - began)
    return spent


def _latency(seconds: Sequence[float]) -> Latency:
    percentiles = quantiles(seconds, n=100, method="inclusive")
    return Latency(1e6 * percentiles[49], 1e6 * percentiles[98])


if __name__ == "__main__":
    main()
