"""The word index of a store in a file: a file of its own beside it (SQLite's FTS5).

All that is in it can be made again from the store. So it is not synced with each step, and one
that is damaged, or does not fit the store any more, is thrown away.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, Row, func, select

from cache.errors import SearchTooLong, StoreError
from cache.key_sets import pages
from cache.maintenance import reading
from cache.models import completions, requests
from cache.sqlite_file import connect_index, discard_word_file, word_file_of
from cache.translation import translated
from cache.word_index import IndexedRow, Reach, indexed_rows
from cache.words import Search, entry_words

_VERSION = 2
_TABLES = """
CREATE TABLE state (version INTEGER, number INTEGER, key BLOB);
CREATE TABLE unanswered (number INTEGER PRIMARY KEY);
CREATE VIRTUAL TABLE entries USING
    fts5(words, content='', columnsize=0, detail=none, tokenize="ascii tokenchars '_'");
"""
_TEACHER = "\ue000"
"""Begins the word that says whose entry it is; no word of a text has it in it."""

_TURN_S = 0.1
"""How long entries are added at a time: whoever searches meanwhile waits for that."""

_PATIENCE_S = 2.0
_INSTRUCTIONS = 10_000
"""How often SQLite looks at the clock, in steps of its own."""


class WordFile:
    """The index of the store at `store`; opened, or made, when it is first used."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._path = word_file_of(store)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None

    def catch_up(self) -> Reach:
        """See `WordIndex`."""
        with self._lock, self._usable() as index, reading(self._store) as store:
            last = store.execute(select(func.max(requests.c.id))).scalar() or 0
            index.execute("BEGIN IMMEDIATE")
            try:
                indexed = _add_next(index, store)
                if indexed >= last:
                    _add_answers(index, store)
            except BaseException:
                if index.in_transaction:  # SQLite may have rolled back by itself.
                    index.execute("ROLLBACK")
                raise
            index.execute("COMMIT")
            return Reach(indexed, max(last, indexed))

    def find(
        self, search: Search, teachers: Collection[int] | None, before: int | None, limit: int
    ) -> Sequence[int]:
        """See `WordIndex`."""
        until = time.monotonic() + _PATIENCE_S
        query = "SELECT rowid FROM entries WHERE entries MATCH ? AND rowid < ?"
        bound = before if before is not None else 1 << 62
        with self._lock, self._usable() as index:
            index.set_progress_handler(lambda: time.monotonic() > until, _INSTRUCTIONS)
            try:
                rows = index.execute(
                    f"{query} ORDER BY rowid DESC LIMIT ?",
                    (_match(search, teachers), bound, limit),
                ).fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                    raise
                raise SearchTooLong from error
            finally:
                index.set_progress_handler(None, 0)
        return [number for (number,) in rows]

    def close(self) -> None:
        """See `WordIndex`."""
        with self._lock:
            self._let_go()

    @contextmanager
    def _usable(self) -> Iterator[sqlite3.Connection]:
        """The index, made anew where it is damaged; errors become the store's."""
        with translated(self._path):
            try:
                yield self._open()
            except sqlite3.DatabaseError as error:
                if _code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    raise
                self._let_go()
                discard_word_file(self._store)
                raise StoreError(
                    f"{self._path} was damaged and is made anew: search again"
                ) from error

    def _open(self) -> sqlite3.Connection:
        """The connection, to a file that is still the one beside the store."""
        if self._connection and self._opened and not self._is_same_file():
            self._let_go()
        if self._connection is None:
            self._connection, self._opened = self._connect()
            _prepare(self._connection)
        return self._connection

    def _connect(self) -> tuple[sqlite3.Connection, os.stat_result | None]:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError:
            # Beside a store that may only be read: a file without a name, gone with this process.
            return sqlite3.connect("", isolation_level=None, check_same_thread=False), None
        return connect_index(self._path), self._path.stat()

    def _is_same_file(self) -> bool:
        with suppress(OSError):
            return self._opened is not None and os.path.samestat(self._opened, self._path.stat())
        return False

    def _let_go(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = self._opened = None


def _prepare(index: sqlite3.Connection) -> None:
    """Make the tables where there are none; those of another version are made anew."""
    tables = {name for (name,) in index.execute("SELECT name FROM sqlite_master")}
    if "state" in tables and index.execute("SELECT version FROM state").fetchone() == (_VERSION,):
        return
    index.execute("BEGIN IMMEDIATE")
    _make_tables(index)
    index.execute("COMMIT")


def _make_tables(index: sqlite3.Connection) -> None:
    for table in ("state", "unanswered", "entries"):
        index.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in filter(str.strip, _TABLES.split(";")):
        index.execute(statement)
    index.execute("INSERT INTO state VALUES (?, 0, NULL)", (_VERSION,))


def _add_next(index: sqlite3.Connection, store: Connection) -> int:
    """Add entries after the last one, for a while; the last one's number afterwards."""
    number, key = index.execute("SELECT number, key FROM state").fetchone()
    found = store.execute(select(requests.c.key).where(requests.c.id == number)).scalar()
    if number == 0 or found != key:
        # New; or rows were removed and their numbers given to others; or it is another store's.
        _make_tables(index)
        number = 0
    until = time.monotonic() + _TURN_S
    query = indexed_rows().where(requests.c.id > number).order_by(requests.c.id)
    # Read one by one: a single request may be megabytes.
    with closing(store.execute(query)) as rows:
        for row in rows:
            _add(index, row)
            number, key = row.id, row.key
            if time.monotonic() > until:
                break
    index.execute("UPDATE state SET number = ?, key = ?", (number, key if number else None))
    return int(number)


def _add(index: sqlite3.Connection, row: Row[IndexedRow]) -> None:
    index.execute("INSERT INTO entries (rowid, words) VALUES (?, ?)", (row.id, _words(row)))
    if row.answer is None:
        index.execute("INSERT INTO unanswered VALUES (?)", (row.id,))


def _add_answers(index: sqlite3.Connection, store: Connection) -> None:
    """Add the completions of entries that had only a refusal when they were added."""
    unanswered = index.execute("SELECT number FROM unanswered").fetchall()
    for page in pages(number for (number,) in unanswered):
        answered = select(completions.c.id).where(completions.c.id.in_(page))
        for number in store.execute(answered).scalars().all():
            row = store.execute(indexed_rows().where(requests.c.id == number)).one()
            # Without a copy of the texts, FTS5 has to be told what it is to forget.
            index.execute(
                "INSERT INTO entries (entries, rowid, words) VALUES ('delete', ?, ?)",
                (number, _words(row, answered=False)),
            )
            index.execute("DELETE FROM unanswered WHERE number = ?", (number,))
            _add(index, row)


def _words(row: Row[IndexedRow], *, answered: bool = True) -> str:
    words = entry_words(row.document, row.text if answered else None)
    return " ".join([f"{_TEACHER}{row.teacher_id}", *words])


def _match(search: Search, teachers: Collection[int] | None) -> str:
    """In FTS5's language; words have no quotes in them."""
    terms = [f'"{word}"' for word in search.words]
    terms += [f'"{word}"*' for word in search.beginnings]
    if teachers is not None:
        terms.append("(" + " OR ".join(f'"{_TEACHER}{number}"' for number in teachers) + ")")
    return " AND ".join(terms)


def _code(error: sqlite3.DatabaseError) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
