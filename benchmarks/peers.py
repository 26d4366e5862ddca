"""Stores to compare with: a bare `sqlite3` loop, diskcache, LangChain's SQLiteCache, and ours.

Each is used as its documentation shows, and with its own way of writing many rows where it has one.
"""

import sqlite3
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks import bulk
from cache import CompletionStore, NewEntry
from cache.rows import INSERT_COMPLETION, INSERT_REQUEST
from cache.sqlite_file import connect_writer


class Peer(Protocol):
    """A store that is filled with `bulk`'s rows, and asked for them by number.

    `prepare` and `keys` make what `insert` and `lookup` take, so that no time is lost there on what
    all have in common: fingerprints, and the texts themselves.
    """

    def prepare(self, numbers: Iterable[int]) -> Sequence[Any]:
        """Rows, as `insert` takes them."""

    def keys(self, numbers: Iterable[int]) -> Sequence[Any]:
        """Keys, as `lookup` takes them."""

    def insert(self, rows: Sequence[Any]) -> None:
        """Add rows, all in one transaction where the store can do that."""

    def lookup(self, keys: Sequence[Any]) -> None:
        """Find keys that are there, all in one query where the store can do that."""

    def close(self) -> None:
        """Let go of the files."""


class Ours:
    """`CompletionStore`: every commit waits for the disk."""

    def __init__(self, folder: Path) -> None:
        self._store = CompletionStore.open(folder / "completions.sqlite")
        self._store.register_teacher(bulk.TEACHER)
        self.close = self._store.close

    def prepare(self, numbers: Iterable[int]) -> Sequence[NewEntry]:
        """Rows, ready to be inserted."""
        return [bulk.entry(number) for number in numbers]

    def keys(self, numbers: Iterable[int]) -> Sequence[bytes]:
        """Keys, ready to be looked up."""
        return [bulk.key(number) for number in numbers]

    def insert(self, rows: Sequence[NewEntry]) -> None:
        """Add them."""
        self._store.commit(rows).result()

    def lookup(self, keys: Sequence[bytes]) -> None:
        """Find them all."""
        assert self._store.lookup(keys).keys() == set(keys)

    def bytes_per_row(self) -> float:
        """The file by completion; closes the store, whose log is then a part of the file."""
        completions = self._store.stats().completions
        self.close()
        return self._store.size_bytes() / completions


def bare_lookup(connection: sqlite3.Connection, keys: Sequence[bytes]) -> None:
    """Find the completions of `keys` by `sqlite3` alone, key by key."""
    rows = {key: connection.execute(_SELECT, (key,)).fetchone() for key in keys}
    assert None not in rows.values()


_SELECT = """
    SELECT requests.key, text, finish_reason, usage, extra,
           provenance, latency_ms, content_digest, completions.created_at
    FROM requests JOIN completions ON completions.id = requests.id WHERE requests.key = ?
"""


class BareSqlite3:
    """The limit: `sqlite3` alone on our tables, with our durability, and rows that are ready."""

    def __init__(self, folder: Path) -> None:
        path = folder / "bare.sqlite"
        bulk.build(path, 0)
        self._connection = connect_writer(path)
        self.close = self._connection.close

    def prepare(self, numbers: Iterable[int]) -> Sequence[tuple[bulk.Row, bulk.Row]]:
        """Rows, ready to be inserted."""
        return [(bulk.request_row(number), bulk.completion_row(number)) for number in numbers]

    def keys(self, numbers: Iterable[int]) -> Sequence[bytes]:
        """Keys, ready to be looked up."""
        return [bulk.key(number) for number in numbers]

    def insert(self, rows: Sequence[tuple[bulk.Row, bulk.Row]]) -> None:
        """Add them."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT_REQUEST, [request for request, _ in rows])
        self._connection.executemany(INSERT_COMPLETION, [completion for _, completion in rows])
        self._connection.execute("COMMIT")

    def lookup(self, keys: Sequence[bytes]) -> None:
        """Find them all."""
        bare_lookup(self._connection, keys)


class Diskcache:
    """diskcache: a row at a time, as it is shipped; or a transaction at a time, and durable."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        import diskcache

        settings = {"sqlite_synchronous": 2} if durable else {}
        self._cache = diskcache.Cache(str(folder), **settings)
        self._together = durable
        self.close = self._cache.close

    def prepare(self, numbers: Iterable[int]) -> Sequence[tuple[bytes, dict[str, Any]]]:
        """Rows, ready to be inserted."""
        return [(bulk.key(number), bulk.answer_fields(number)) for number in numbers]

    def keys(self, numbers: Iterable[int]) -> Sequence[bytes]:
        """Keys, ready to be looked up."""
        return [bulk.key(number) for number in numbers]

    def insert(self, rows: Sequence[tuple[bytes, dict[str, Any]]]) -> None:
        """Add them."""
        if self._together:
            with self._cache.transact():
                self._insert(rows)
        else:
            self._insert(rows)

    def lookup(self, keys: Sequence[bytes]) -> None:
        """Find them all."""
        assert None not in [self._cache.get(key) for key in keys]

    def _insert(self, rows: Sequence[tuple[bytes, dict[str, Any]]]) -> None:
        for key, value in rows:
            self._cache.set(key, value)


class Langchain:
    """LangChain's SQLiteCache: the prompt itself is the key."""

    _MODEL = "pinned-2024-07-18, temperature 0, max_tokens 100"

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():  # About its own future.
            warnings.simplefilter("ignore")
            from langchain_community.cache import SQLiteCache
            from langchain_core.outputs import Generation
        self._generation = Generation
        self._cache = SQLiteCache(str(folder / "langchain.db"))
        self.close = self._cache.engine.dispose

    def prepare(self, numbers: Iterable[int]) -> Sequence[tuple[str, list[Any]]]:
        """Rows, ready to be inserted."""
        return [
            (bulk.prompt(number), [self._generation(text=bulk.answer_fields(number)["text"])])
            for number in numbers
        ]

    def keys(self, numbers: Iterable[int]) -> Sequence[str]:
        """Keys, ready to be looked up."""
        return [bulk.prompt(number) for number in numbers]

    def insert(self, rows: Sequence[tuple[str, list[Any]]]) -> None:
        """Add them."""
        for prompt, generations in rows:
            self._cache.update(prompt, self._MODEL, generations)

    def lookup(self, keys: Sequence[str]) -> None:
        """Find them all."""
        with warnings.catch_warnings():  # `loads` is a beta function of its own.
            warnings.simplefilter("ignore")
            assert None not in [self._cache.lookup(key, self._MODEL) for key in keys]
