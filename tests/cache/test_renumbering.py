"""Migration 0006: stores in which completions had numbers of their own."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, insert, select, text

from cache import CompletionStore, Refusal, StoreDamaged, migrate
from cache.exporting import export_lines
from cache.migrations import FOLDER
from cache.models import alternates, completions, refusals, requests, teachers
from cache.postgres.sessions import transaction
from cache.verifying import verify_store


@pytest.fixture
def served(stocked, make_entry):
    """A store of today: one request was refused first, and answered after the next one."""
    with CompletionStore.open(stocked) as store:
        pairs = [("late", Refusal("content_filter", "No.")), ("between", "B"), ("late", "L")]
        for pair in pairs:
            store.commit([make_entry(*pair)]).result()
    return stocked


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request, served, tmp_path, postgres_server):
    """The same entries in a store of schema 0005, on each database in turn."""
    if request.param == "postgresql":
        with postgres_server.database(template="template1") as url:
            with transaction(url) as connection:
                _fill(connection, served)
                _continue_numbers(connection)
            yield url
        return
    path = tmp_path / "old.sqlite"
    with _writing(path) as connection:
        _fill(connection, served)
    yield path


def test_a_store_with_other_numbers_serves_the_same_after_its_migration(old, served, make_entry):
    """Every record, to the byte; each completion has its request's number; nothing is amiss."""
    migrate(old)
    with CompletionStore.open(old) as store, CompletionStore.open(served) as expected:
        assert store.query(_exported) == expected.query(_exported)
        assert store.query(_numbers_agree)
        late = make_entry("late").fingerprint.key
        assert store.lookup([late])[late].answer.text == "L"
        [new, known] = store.commit([make_entry("new", "N"), make_entry("late", "M")]).result()
        assert (new.answer.text, known.answer.text) == ("N", "L")
    assert verify_store(old).bad == 0


def test_a_completion_without_a_request_is_not_lost_in_a_migration(served, tmp_path):
    """The file of an older version that was damaged stays as it is."""
    path = tmp_path / "old.sqlite"
    with _writing(path) as connection:
        _fill(connection, served)
        connection.execute(text("DELETE FROM requests WHERE id = 5"))
    with pytest.raises(StoreDamaged, match="1 of 302 completions have no request"):
        CompletionStore.open(path)
    with closing(sqlite3.connect(path)) as shell:
        assert shell.execute("SELECT count(*) FROM completions").fetchone() == (302,)
        assert shell.execute("SELECT * FROM alembic_version").fetchone() == ("0005",)


def test_a_migration_that_is_killed_loses_nothing(served, tmp_path):
    """When the rows are copied and the old ones not yet gone: the next start begins anew."""
    path = tmp_path / "old.sqlite"
    with _writing(path) as connection:
        _fill(connection, served)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path)])
    assert killed.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(path)) as shell:
        assert shell.execute("SELECT * FROM alembic_version").fetchone() == ("0005",)
    with CompletionStore.open(path) as store, CompletionStore.open(served) as expected:
        assert store.query(_exported) == expected.query(_exported)


_KILLED = """
import os, pathlib, signal, sys
from alembic import op
from cache import migrate
op.drop_table = lambda name: os.kill(os.getpid(), signal.SIGKILL)
migrate(pathlib.Path(sys.argv[1]))
"""


@contextmanager
def _writing(path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def _fill(connection: Connection, source: Path) -> None:
    """Make the tables of schema 0005, and write what `source` holds as that version did."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER))
    command.upgrade(config, "0005")
    with CompletionStore.open(source, read_only=True) as store, store.snapshot() as stored:
        for table in (teachers, requests, alternates, refusals):
            rows = stored.execute(select(table)).mappings().all()
            connection.execute(insert(table), [dict(row) for row in rows])
        in_time = select(completions).order_by(completions.c.created_at, completions.c.id)
        rows = stored.execute(in_time).mappings().all()
        numbered = [{**row, "id": number} for number, row in enumerate(rows, start=1)]
        assert [row["id"] for row in numbered] != [row["id"] for row in rows]
        connection.execute(insert(completions), numbered)


def _continue_numbers(connection: Connection) -> None:
    """Let the server's sequences go on after the rows that came with their numbers."""
    for table in ("teachers", "requests", "completions", "alternates", "refusals"):
        highest = f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))"
        connection.execute(text(highest))


def _exported(connection: Connection) -> list[bytes]:
    return list(export_lines(connection))


def _numbers_agree(connection: Connection) -> bool:
    pairs = select(requests.c.id, completions.c.id).where(requests.c.key == completions.c.key)
    rows = connection.execute(pairs).all()
    return len(rows) == 302 and all(one == other for one, other in rows)
