"""A store in a PostgreSQL database."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from cache.database import Connection
from cache.errors import StoreReadOnly
from cache.postgres.leases import Leases
from cache.postgres.link import Link
from cache.postgres.schema import require_current_schema
from cache.postgres.sessions import durable_session, reading_session, transaction

if TYPE_CHECKING:
    import sqlalchemy

    from cache.word_index import WordIndex

T = TypeVar("T")

_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)
FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace =
    (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('completions'))
"""


class PostgresDatabase:
    """The database at a URL: one connection that writes, one that reads, both made anew if lost."""

    def __init__(self, url: str, reader: Link, writer: Link | None, resources: ExitStack) -> None:
        self.place = reader.place
        self._url = url
        self._reader = reader
        self._writer = writer
        self._resources = resources

    @classmethod
    def open(cls, url: str, *, read_only: bool) -> Self:
        """Connect, and see that the schema is the newest.

        Raises:
            StoreError: see the tree in `cache.errors`; nothing was changed.
        """
        with ExitStack() as resources:
            reader = Link(url, reading_session, transaction=False)
            resources.callback(reader.close)
            reader.run(partial(require_current_schema, place=reader.place))
            writer = None if read_only else Link(url, durable_session, transaction=True)
            if writer:
                resources.callback(writer.close)
                writer.run(lambda _: None)  # What is wrong with it shows now.
            return cls(url, reader, writer, resources.pop_all())

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the connection that reads."""
        return self._reader.run(work)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction on the connection that writes."""
        assert self._writer
        return self._writer.run(work)

    def require_room(self) -> None:
        """Refuse when the server is a standby; one round trip. How full its disk is, none says."""
        (standby,) = self.read(
            lambda connection: connection.execute("SELECT pg_is_in_recovery()").fetchone()
        )
        if standby:
            raise StoreReadOnly(
                f"{self.place} is a standby and takes no writes: name the primary, or open the "
                "store read-only (replay)"
            )

    def snapshot(self) -> AbstractContextManager["sqlalchemy.Connection"]:
        """The database as of one moment, on a connection of its own."""
        return transaction(self._url, snapshot=True)

    def size_bytes(self) -> int:
        """The tables with their indexes."""
        (size,) = self.read(lambda connection: connection.execute(_SIZE).fetchone())
        return int(size)

    def leases(self, seconds: float) -> Leases:
        """Who may ask upstream for what, among the services that share this database."""
        leases = Leases(self._url, seconds)
        self._resources.callback(leases.close)
        return leases

    def word_index(self) -> "WordIndex":
        """A table of the same database."""
        from cache.postgres.word_table import WordTable

        return WordTable(self._url)

    def close(self) -> None:
        """Close every connection."""
        self._resources.close()
