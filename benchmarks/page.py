"""How quick the service's page is over a large store: `make bench-page`.

    python -m benchmarks.page [--rows N] [--folder DIR]

A service of its own, over a store of a million entries; every request is a whole page, from asking
to its last byte, one at a time. All but the first two are warm.

first_request                 the first page, right after the start (ms)
first_request_settled         the first page of a service that nobody has visited for some seconds
page_p50_ms, page_p99_ms      by kind of page: the first one, the list, its middle, an entry, and
                              searches: a word of one entry, two words of a hundredth of them, a
                              word that all of them have, its middle page, and the beginning of one
first_paint_ms                until Chromium has painted something of the first page (median; null
                              where there is no Chromium), in a window that was never there before
bare_paint_ms                 the same of a page of one word, in turns with it: what the browser and
                              the machine take for themselves
paint_cpu_ms, bare_cpu_ms     of that, what the page's thread in Chromium computed: the same beside
                              other work
index_seconds                 from the first search until every entry is indexed; entries are served
                              meanwhile
index_bytes_per_row           the index's file; inserts do not pay for it
insert_vs_indexed_at_once     rows a second on insert as it is, over those of a store whose triggers
                              keep the same index: why it is not kept that way

A million entries take 1.3 GB in the folder, removed at the end.
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import httpx2

from benchmarks import bulk
from benchmarks.browsing import bare_page, openings
from benchmarks.results import publish, show
from benchmarks.scale import require_room
from cache import CompletionStore, NewEntry
from cache.sqlite_file import word_file_of
from taco.own_service import own_service

ROWS = 1_000_000
REQUESTS = 200
_SETTLED_S = 5.0
_ROUNDS, _BATCH = 20, 256
_TRIGGERS = """
CREATE VIRTUAL TABLE entries USING fts5(words, content='', columnsize=0, detail=none);
CREATE TRIGGER asked AFTER INSERT ON requests BEGIN
    INSERT INTO entries (rowid, words) VALUES (new.id, new.document);
END;
CREATE TRIGGER answered AFTER INSERT ON completions BEGIN
    INSERT INTO entries (rowid, words) VALUES (new.id + 1000000000, new.text);
END;
"""


def main() -> None:
    """Build, measure, print, write `results/page.json`."""
    parser = argparse.ArgumentParser(description="The page over a large store.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each kind of page")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    require_room(arguments.folder, arguments.rows)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="taco-page-") as scratch:
        store = Path(scratch) / "completions.sqlite"
        bulk.build(store, arguments.rows)
        figures = measure(store, arguments.rows, arguments.requests)
        ratio = insert_ratio(Path(scratch), _ROUNDS)
    report({**figures, "insert_vs_indexed_at_once": ratio})


def measure(store: Path, rows: int, requests: int) -> dict[str, object]:
    """Every figure of a service over this store."""
    first, settled = first_request(store, after_s=0), first_request(store, after_s=_SETTLED_S)
    with own_service(store=store) as url, httpx2.Client(base_url=url, timeout=60) as http:
        index_seconds = index(http)
        pages = page_times(http, rows, requests)
        with bare_page() as bare:
            opened = openings({"page": url, "bare": bare})
    return {
        "rows": rows,
        "first_request": round(first, 1),
        "first_request_settled": round(settled, 1),
        "page_p50_ms": {name: round(median(spent), 1) for name, spent in pages.items()},
        "page_p99_ms": {name: round(_p99(spent), 1) for name, spent in pages.items()},
        "first_paint_ms": opened["page"].paint,
        "bare_paint_ms": opened["bare"].paint,
        "paint_cpu_ms": opened["page"].cpu,
        "bare_cpu_ms": opened["bare"].cpu,
        "index_seconds": round(index_seconds, 1),
        "index_bytes_per_row": round(word_file_of(store).stat().st_size / rows, 1),
    }


def first_request(store: Path, after_s: float) -> float:
    """Milliseconds of the first page that a new service makes, so long after its start."""
    with own_service(store=store) as url, httpx2.Client(base_url=url, timeout=60) as http:
        time.sleep(after_s)
        return _milliseconds(http, "/")


def index(http: httpx2.Client) -> float:
    """Search until every entry is in the index; the seconds that takes."""
    start = time.perf_counter()
    while "is being made" in http.get("/page/entries?text=question").raise_for_status().text:
        time.sleep(0.5)
    return time.perf_counter() - start


def page_times(http: httpx2.Client, rows: int, requests: int) -> dict[str, list[float]]:
    """Milliseconds of each request, by the kind of page."""
    kinds = paths(rows).items()
    return {name: [_milliseconds(http, path) for _ in range(requests)] for name, path in kinds}


def paths(rows: int) -> Mapping[str, str]:
    """The pages that are measured, by their names in the table."""
    middle = rows // 2
    words = bulk.prompt(middle).split()
    search = "/page/entries?text="
    return {
        "first page": "/",
        "list": "/page/entries",
        "list, middle": f"/page/entries?before={middle}",
        "entry": f"/page/entries/{bulk.key(middle).hex()}",
        "search, one entry": f"{search}{middle}",
        "search, two words": f"{search}{words[1]}+{words[2]}",
        "search, all entries": f"{search}question",
        "search, all, middle": f"{search}question&before={middle}",
        "search, beginning": f"{search}{words[1][:3]}*",
    }


def insert_ratio(folder: Path, rounds: int) -> float:
    """Median over rounds in which both stores commit the same entries, in turn."""
    with ExitStack() as stack:
        plain = stack.enter_context(_store(folder / "plain.sqlite", ""))
        indexed = stack.enter_context(_store(folder / "indexed.sqlite", _TRIGGERS))
        ratios = []
        for turn in range(rounds):
            entries = [bulk.entry(turn * _BATCH + number) for number in range(_BATCH)]
            alone = _seconds(partial(_commit, plain, entries))
            ratios.append(_seconds(partial(_commit, indexed, entries)) / alone)
    return round(median(ratios), 2)


def report(figures: Mapping[str, object]) -> None:
    """The table, and the figures."""
    p50, p99 = figures["page_p50_ms"], figures["page_p99_ms"]
    assert isinstance(p50, dict)
    assert isinstance(p99, dict)
    show(
        f"The page over {figures['rows']:,} entries, milliseconds",
        ("page", "median", "p99"),
        [(name, f"{p50[name]:.1f}", f"{p99[name]:.1f}") for name in p50],
    )
    publish("page", figures)


def _milliseconds(http: httpx2.Client, path: str) -> float:
    return 1000 * _seconds(lambda: http.get(path).raise_for_status())


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _commit(store: CompletionStore, entries: Sequence[NewEntry]) -> None:
    store.commit(entries).result()


def _p99(spent: list[float]) -> float:
    return quantiles(spent, n=100, method="inclusive")[98]


def _store(path: Path, script: str) -> CompletionStore:
    with CompletionStore.open(path) as store:
        store.register_teacher(bulk.TEACHER)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return CompletionStore.open(path)


if __name__ == "__main__":
    main()
