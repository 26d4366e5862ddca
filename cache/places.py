"""Where a store may be: a file, or a database's URL."""

from pathlib import Path

from cache.database import Database
from cache.errors import StoreError
from cache.sqlite_database import SqliteDatabase

_SCHEMES = ("postgresql://", "postgres://")


def parse_place(given: Path | str) -> Path | str:
    """A URL as a text, anything else as a path.

    Raises:
        StoreError: the URL of something else than PostgreSQL.
    """
    if isinstance(given, Path) or "://" not in given:
        return Path(given)
    if not given.startswith(_SCHEMES):
        scheme = given.partition("://")[0]
        raise StoreError(
            f"a store cannot be at {scheme}://…: expected a file, or "
            "postgresql://user:password@host:5432/database"
        )
    return given


def shown_place(place: Path | str) -> str:
    """A place for people: a URL without its password."""
    if isinstance(place, Path):
        return str(place)
    _require_driver()
    from cache.postgres.address import shown

    return shown(place)


def open_database(place: Path | str, *, read_only: bool) -> Database:
    """The database at `place`, opened.

    Raises:
        StoreError: see the tree in `cache.errors`; nothing was changed.
    """
    place = parse_place(place)
    if isinstance(place, Path):
        return SqliteDatabase.open(place, read_only=read_only)
    _require_driver()
    from cache.postgres.database import PostgresDatabase

    return PostgresDatabase.open(place, read_only=read_only)


def migrate(place: Path | str) -> None:
    """Bring the store at `place` to the newest schema, and make it where there is none.

    A file is backed up first, and needs no such call: opening it for writing does the same. A
    database is changed by nothing else, wholly or not at all; back it up before.

    Raises:
        StoreError: see the tree in `cache.errors`; nothing was changed.
    """
    place = parse_place(place)
    if isinstance(place, Path):
        SqliteDatabase.open(place, read_only=False).close()
    else:
        _require_driver()
        from cache.postgres.schema import migrate_database

        migrate_database(place)


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise StoreError(
            "a store on PostgreSQL needs psycopg: pip install 'taco-rewards[postgres]'"
        ) from error
