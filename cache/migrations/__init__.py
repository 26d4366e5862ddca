"""The schema's history, run by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, NullPool, create_engine, event

FOLDER = Path(__file__).parent


def upgrade(path: Path) -> None:
    """Bring the SQLite file at `path` to the newest revision, wholly or not at all."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    # The driver would leave the creation of tables outside the transaction.
    event.listen(engine, "begin", _begin)
    with engine.connect() as connection, connection.begin():
        run_migrations(connection)


def run_migrations(connection: Connection) -> None:
    """Bring the database to the newest revision, in the transaction that is open."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    command.upgrade(config, "head")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
