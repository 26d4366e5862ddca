"""What a store holds, asked through SQLAlchemy: seldom needed, so ease goes before speed."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Select, create_engine, func, select
from sqlalchemy.pool import StaticPool

from cache.entries import StoreStats, TeacherIdentity
from cache.models import alternates, completions, refusals, requests, teachers
from cache.schema import SCHEMA_VERSION
from cache.sqlite_file import connect_reader, wal_bytes


def store_stats(path: Path) -> StoreStats:
    """How much the store at `path` holds, all of it as of one moment."""
    counts = [
        select(func.count()).select_from(table).scalar_subquery().label(table.name)
        for table in (completions, refusals, alternates, requests, teachers)
    ]
    with _connected(path) as connection:
        rows = connection.execute(select(*counts)).one()
    return StoreStats(
        **rows._mapping,
        file_bytes=path.stat().st_size + wal_bytes(path),
        schema_version=SCHEMA_VERSION,
    )


def registered_teachers(path: Path) -> list[TeacherIdentity]:
    """The teachers that the store at `path` knows, the one registered last at the end."""
    with _connected(path) as connection:
        return read_teachers(connection)


def read_teachers(
    connection: Connection, ids: Select[tuple[int]] | None = None
) -> list[TeacherIdentity]:
    """The teachers with these row numbers (None: all), the one registered last at the end."""
    query = select(teachers).order_by(teachers.c.registered_at, teachers.c.digest)
    if ids is not None:
        query = query.where(teachers.c.id.in_(ids))
    return [
        TeacherIdentity(
            row.digest, row.name, row.backend, json.loads(row.definition), row.registered_at
        )
        for row in connection.execute(query)
    ]


@contextmanager
def _connected(path: Path) -> Iterator[Connection]:
    with closing(connect_reader(path)) as reader:
        engine = create_engine("sqlite://", creator=lambda: reader, poolclass=StaticPool)
        with engine.connect() as connection:
            yield connection
