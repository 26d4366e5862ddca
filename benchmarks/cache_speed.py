"""Look-ups and durable inserts a second: the store, a bare `sqlite3` loop, and two other caches.

Singly and in batches of 256, in rounds in which all of them take part in turn; a ratio is the
median of the rounds' ratios, above 1 where the store is faster. Every store holds the same rows
before: 20,000 (LangChain's 2,000, which take it as long to write).

    lookup_vs_sqlite3, insert_vs_sqlite3       batches; the limit: no hashing, no objects, no thread
    lookup_vs_diskcache, insert_vs_diskcache   batches against its plain `get` and `set`, as shipped
                                               (synchronous=NORMAL, where a power cut loses rows)
    lookup_vs_langchain                        batches against its `lookup`
    bytes_per_row                              request, compressed text and answer with all indexes
    single                                     the same ratios, one at a time
    insert_vs_diskcache_transact               against diskcache set to FULL, 256 to a transaction
    sqlite3_insert_vs_diskcache                the limit itself against diskcache, as shipped
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers import BareSqlite3, Diskcache, Langchain, Ours, Peer
from benchmarks.results import publish, show

OURS = "CompletionStore"
BATCH = 256
ROUNDS = 9


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much is done in one store."""

    batches_before: int  # Batches that it holds when the first round begins.
    batches: int  # Of look-ups and of inserts, in each round.
    singles: int


FAST = Amounts(batches_before=80, batches=8, singles=256)
SLOW = Amounts(batches_before=8, batches=1, singles=32)

PEERS: Mapping[str, tuple[Callable[[Path], Peer], Amounts]] = {
    OURS: (Ours, FAST),
    "sqlite3": (BareSqlite3, FAST),
    "diskcache": (lambda folder: Diskcache(folder, durable=False), FAST),
    "diskcache, FULL, transact": (lambda folder: Diskcache(folder, durable=True), FAST),
    "LangChain SQLiteCache": (Langchain, SLOW),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Rows a second in one round."""

    lookup: float
    insert: float
    single_lookup: float
    single_insert: float


def main() -> None:
    """Measure, print, write `results/cache.json`."""
    with tempfile.TemporaryDirectory() as scratch:
        rates, bytes_per_row = measure(Path(scratch), PEERS, ROUNDS)
    columns = [column.name for column in fields(Rates)]
    show(
        f"Rows a second (median of {ROUNDS} rounds)",
        ("", f"look-ups by {BATCH}", f"inserts by {BATCH}", "look-ups", "inserts"),
        [
            (
                name,
                *(f"{median(getattr(each, column) for each in rounds):,.0f}" for column in columns),
            )
            for name, rounds in rates.items()
        ],
    )
    publish("cache", figures_of(rates) | {"bytes_per_row": round(bytes_per_row, 1)})


def measure(
    folder: Path, peers: Mapping[str, tuple[Callable[[Path], Peer], Amounts]], rounds: int
) -> tuple[dict[str, list[Rates]], float]:
    """Fill every store, then let them look up and insert in turn; also the store's bytes a row."""
    with ExitStack() as stack:
        opened: dict[str, tuple[Peer, Amounts]] = {}
        for number, (name, (make, amounts)) in enumerate(peers.items()):
            place = folder / str(number)
            place.mkdir()
            opened[name] = stack.enter_context(closing(make(place))), amounts
        for peer, amounts in opened.values():
            for numbers in _batches(0, amounts.batches_before):
                peer.insert(peer.prepare(numbers))
        rates: dict[str, list[Rates]] = {name: [] for name in opened}
        for turn in range(rounds):
            for name, (peer, amounts) in opened.items():
                rates[name].append(_measure_round(peer, amounts, turn))
        ours = opened[OURS][0]
        assert isinstance(ours, Ours)
        return rates, ours.bytes_per_row()


def figures_of(rates: Mapping[str, Sequence[Rates]]) -> dict[str, Any]:
    """What `cache.json` holds beside `bytes_per_row`."""
    return {
        "lookup_vs_sqlite3": _ratio(rates, "sqlite3", "lookup"),
        "insert_vs_sqlite3": _ratio(rates, "sqlite3", "insert"),
        "lookup_vs_diskcache": _ratio(rates, "diskcache", "lookup"),
        "insert_vs_diskcache": _ratio(rates, "diskcache", "insert"),
        "lookup_vs_langchain": _ratio(rates, "LangChain SQLiteCache", "lookup"),
        "insert_vs_langchain": _ratio(rates, "LangChain SQLiteCache", "insert"),
        "insert_vs_diskcache_transact": _ratio(rates, "diskcache, FULL, transact", "insert"),
        "sqlite3_insert_vs_diskcache": _ratio(rates, "diskcache", "insert", of="sqlite3"),
        "single": {
            f"{column}_vs_{name}": _ratio(rates, peer, f"single_{column}")
            for name, peer in _SINGLE.items()
            for column in ("lookup", "insert")
        },
    }


_SINGLE = {
    "sqlite3": "sqlite3",
    "diskcache": "diskcache",
    "diskcache_full": "diskcache, FULL, transact",
    "langchain": "LangChain SQLiteCache",
}


def _ratio(rates: Mapping[str, Sequence[Rates]], peer: str, column: str, of: str = OURS) -> float:
    """The rate of one store, ours unless another is named, by that of `peer`, round by round."""
    pairs = zip(rates[of], rates[peer], strict=True)
    ratios = [float(getattr(one, column)) / float(getattr(other, column)) for one, other in pairs]
    return round(median(ratios), 3)


def _measure_round(peer: Peer, amounts: Amounts, turn: int) -> Rates:
    stored = amounts.batches_before * BATCH
    fresh = stored + turn * (amounts.batches * BATCH + amounts.singles)
    singles = range(
        fresh + amounts.batches * BATCH, fresh + amounts.batches * BATCH + amounts.singles
    )
    new = [peer.prepare(numbers) for numbers in _batches(fresh, amounts.batches)]
    new_singles = [peer.prepare([number]) for number in singles]
    draw = random.Random(turn)
    known = [
        peer.keys([draw.randrange(stored) for _ in range(BATCH)]) for _ in range(amounts.batches)
    ]
    known_singles = [peer.keys([draw.randrange(stored)]) for _ in range(amounts.singles)]
    return Rates(
        lookup=_rate(peer.lookup, known),
        insert=_rate(peer.insert, new),
        single_lookup=_rate(peer.lookup, known_singles),
        single_insert=_rate(peer.insert, new_singles),
    )


def _batches(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count * BATCH, BATCH):
        yield range(start, start + BATCH)


def _rate(work: Callable[[Sequence[Any]], object], pieces: Sequence[Sequence[Any]]) -> float:
    start = time.perf_counter()
    for piece in pieces:
        work(piece)
    return sum(map(len, pieces)) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
