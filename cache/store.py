"""The store: completions by key, the same on every database."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from cache.canaries import CanaryProbe, insert_canary, note_check, select_canary
from cache.database import Database
from cache.entries import NewEntry, StoredEntry, StoreStats, TeacherIdentity
from cache.errors import StoreReadOnly
from cache.places import open_database
from cache.rows import insert_entries, insert_teacher, select_exact, select_served, write_and_remove
from cache.uses import Account, Amount, Use, insert_uses
from cache.writer import GroupWriter

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cache.postgres.leases import Leases
    from cache.word_index import WordIndex

T = TypeVar("T")

_PROBE_INTERVAL_S = 1.0


def default_store_path() -> Path:
    """Where the store lies unless told otherwise: `$TACO_HOME`, or `~/.local/share/taco`."""
    home = os.environ.get("TACO_HOME") or "~/.local/share/taco"
    return Path(home).expanduser() / "completions.sqlite"


class CompletionStore:
    """Completions by key, on disk. Every method may be called from any thread.

    What `commit` has released is on the disk: neither `kill -9` nor a power cut takes it back.
    """

    def __init__(self, database: Database, *, read_only: bool) -> None:
        self.place = database.place
        self._database = database
        self._writer = None if read_only else GroupWriter(database.write)
        self._probed_at = -_PROBE_INTERVAL_S

    @classmethod
    def open(cls, place: Path | str, *, read_only: bool = False) -> Self:
        """Open the store at `place`: a file, or a database's URL (`postgresql://…`).

        A file, for writing: creates it (mode 0600) and its folder where they are missing, brings
        an older schema up to date after a backup, and holds the writer's lock until `close`.
        A database may be open in many places; only `cache.migrate` makes or changes its schema.

        Raises:
            StoreError: see the tree in `cache.errors`; nothing was changed.
        """
        return cls(open_database(place, read_only=read_only), read_only=read_only)

    def lookup(self, keys: Sequence[bytes]) -> dict[bytes, StoredEntry]:
        """What the store serves for each of `keys` (32 bytes) that it knows, in one query.

        Sees everything that was committed before the call.

        Raises:
            StoreDamaged: a page that the query needs is damaged.
        """
        return self._database.read(partial(select_served, keys=keys)) if keys else {}

    def lookup_exact(
        self, wanted: Sequence[tuple[bytes, bytes]]
    ) -> dict[tuple[bytes, bytes], StoredEntry]:
        """Answers by key and content digest (32 bytes each), also those that are not served.

        For a replay: a recorded answer is found again, whatever became the key's answer since.

        Raises:
            StoreDamaged: a page that the query needs is damaged, or one of the answers is.
        """
        return self._database.read(partial(select_exact, wanted=wanted)) if wanted else {}

    def commit(self, entries: Sequence[NewEntry]) -> Future[list[StoredEntry]]:
        """Add `entries`, all or none; the result comes once they are safely on the disk.

        The result is what the store serves for each entry from now on, in order. The first
        completion that was committed for a key stays its answer; a later one that differs is kept
        as an alternate. A completion wins over a refusal.

        The future raises StoreFull when there is no room; the store can then still be read.

        Raises:
            StoreReadOnly: the store was opened for reading.
            StoreError: the store is closed.
        """
        return self._writing().submit(partial(insert_entries, entries=entries))

    def check_writable(self) -> None:
        """Make sure that a commit would find room, before an answer is paid for.

        Costs a few microseconds. After a commit that failed, tries a real write once a second,
        and so notices when there is room again.

        Raises:
            StoreUnwritable: StoreFull or StoreReadOnly, where the cause is known.
        """
        writer = self._writing()
        self._database.require_room()
        trouble = writer.trouble
        if trouble is None:
            return
        if time.monotonic() - self._probed_at < _PROBE_INTERVAL_S:
            raise trouble.with_traceback(None)
        self._probed_at = time.monotonic()
        writer.submit(write_and_remove).result()

    def register_teacher(self, identity: TeacherIdentity) -> None:
        """Make a teacher known, so that its entries can be committed; waits for the disk.

        A teacher that is known already becomes the most recent one.
        """
        self._writing().submit(partial(insert_teacher, identity=identity)).result()

    def canary(self, teacher_digest: str) -> list[CanaryProbe]:
        """The fixed prompts by which a change of this teacher is noticed; none: never asked."""
        return self._database.read(partial(select_canary, teacher_digest=teacher_digest))

    def record_canary(self, teacher_digest: str, probes: Sequence[CanaryProbe]) -> None:
        """Keep what a registered teacher answers, for good; waits for the disk."""
        work = partial(insert_canary, teacher_digest=teacher_digest, probes=probes)
        self._writing().submit(work).result()

    def note_canary(self, teacher_digest: str, probes: Sequence[CanaryProbe]) -> None:
        """Keep what a check saw beside what was recorded; waits for the disk."""
        work = partial(note_check, teacher_digest=teacher_digest, probes=probes)
        self._writing().submit(work).result()

    def record_uses(
        self, uses: Mapping[Use, int], amounts: Mapping[Account, Amount]
    ) -> Future[None]:
        """Note what runs used, each use with how often, and book what that cost or saved.

        The future raises as that of `commit`.

        Raises:
            StoreReadOnly: the store was opened for reading.
            StoreError: the store is closed.
        """
        return self._writing().submit(partial(insert_uses, uses=uses, amounts=amounts))

    def teachers(self) -> list[TeacherIdentity]:
        """The teachers of this store, the one registered last at the end."""
        # Imported here: SQLAlchemy takes longer to import than a store to open.
        from cache.reports import read_teachers

        return self.query(read_teachers)

    def stats(self) -> StoreStats:
        """How much the store holds. Counts every row: seconds for millions of them."""
        from cache.reports import count_rows

        return StoreStats(**self.query(count_rows), file_bytes=self.size_bytes())

    def size_bytes(self) -> int:
        """How much disk the store takes."""
        return self._database.size_bytes()

    def snapshot(self) -> AbstractContextManager["Connection"]:
        """A connection that sees all of the store as of one moment; look-ups go on meanwhile.

        Raises:
            StoreDamaged: a page that a query needs is damaged.
        """
        return self._database.snapshot()

    def query(self, ask: Callable[["Connection"], T]) -> T:
        """What `ask` finds out from a snapshot, as `cache.explaining` and `cache.ledger` do."""
        with self.snapshot() as connection:
            return ask(connection)

    def leases(self, seconds: float) -> "Leases | None":
        """Who may ask upstream for what, among the services that share this store.

        Args:
            seconds: How long a lease lasts unless it is renewed.

        Returns:
            None where one process writes the store, so that nobody else can ask.
        """
        return self._database.leases(seconds)

    def word_index(self) -> "WordIndex":
        """What a search by text asks: see `cache.word_index`; closed with the store."""
        return self._database.word_index()

    def close(self) -> None:
        """Finish what was submitted, then let go of the database. A second call does nothing."""
        if self._writer:
            self._writer.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _writing(self) -> GroupWriter:
        if self._writer is None:
            raise StoreReadOnly(f"{self.place} was opened read-only; open it for writing to add")
        return self._writer
