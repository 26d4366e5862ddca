"""Which schema a database has, and the one command that changes it."""

from contextlib import closing
from functools import partial

from cache.database import Connection
from cache.errors import StoreError
from cache.postgres.link import Link
from cache.postgres.sessions import any_session, transaction
from cache.schema import SCHEMA_VERSION, refuse_newer

_MIGRATING = 0x7AC0  # The advisory lock by which two migrations wait for each other.


def schema_version(connection: Connection, place: str) -> str | None:
    """The schema's revision; None where `migrate` has never run.

    Raises:
        SchemaTooNew: written by a newer version of this program.
        StoreError: the tables are another program's.
    """
    tables = "SELECT to_regclass('alembic_version') IS NOT NULL, to_regclass(?) IS NOT NULL"
    versioned, ours = connection.execute(tables, ["completions"]).fetchone()
    if not versioned:
        return None
    if not ours:
        raise StoreError(
            f"{place} holds another program's tables: make a database for the store alone"
        )
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    refuse_newer(version, place)
    return str(version)


def require_current_schema(connection: Connection, place: str) -> None:
    """Refuse a database that `migrate` has to bring up to date first.

    Raises:
        StoreError: no schema, or an older one (SchemaTooNew for a newer one).
    """
    version = schema_version(connection, place)
    if version != SCHEMA_VERSION:
        found = f"schema {version}" if version else "no tables of a store"
        raise StoreError(
            f"{place} has {found}, this program needs schema {SCHEMA_VERSION}: back the database "
            "up if it holds anything, then run `taco cache migrate --store URL`"
        )


def migrate_database(url: str) -> None:
    """Bring the database to the newest schema, wholly or not at all.

    Raises:
        SchemaTooNew: it has a newer one.
        StoreError: it cannot be reached, or is not ours to change.
    """
    # Imported here: Alembic takes half a second, and an up-to-date store has no use for it.
    from cache.migrations import run_migrations

    with closing(Link(url, any_session, transaction=False)) as link:
        link.run(partial(schema_version, place=link.place))
    with transaction(url) as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        run_migrations(connection)
