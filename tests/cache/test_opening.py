import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from cache import (
    CompletionStore,
    SchemaTooNew,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    migrations,
    models,
    schema,
)

_THIS = schema.SCHEMA_VERSION
_NEXT = f"{int(_THIS) + 1:04}"


@pytest.fixture
def filled(path, teacher, make_entry):
    """A closed store of 500 completions; returns its path."""
    with CompletionStore.open(path) as store:
        store.register_teacher(teacher)
        store.commit([make_entry(str(number)) for number in range(500)]).result()
    return path


def _folder_content(path):
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def test_a_missing_store_is_created_with_its_folders(tmp_path):
    """Nothing has to be prepared by hand."""
    with CompletionStore.open(tmp_path / "a" / "b" / "completions.sqlite") as store:
        assert store.stats().schema_version == schema.SCHEMA_VERSION


def test_an_empty_file_becomes_a_store(path):
    """What a crash may leave of a store that was just being created is no obstacle."""
    path.parent.mkdir()
    path.touch()
    CompletionStore.open(path).close()
    CompletionStore.open(path, read_only=True).close()


def test_a_store_that_is_up_to_date_opens_without_the_migration_tools(filled):
    """Opening, looking up and committing import neither Alembic nor SQLAlchemy."""
    code = """
        import sys
        from pathlib import Path
        from cache import CompletionStore
        with CompletionStore.open(Path(sys.argv[1])) as store:
            store.lookup([bytes(32)])
            store.commit([]).result()
        assert not {"alembic", "sqlalchemy"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), filled], check=True)


def test_a_second_writer_is_refused_and_told_who_holds_the_store(path):
    """The message names the holder's process, and what can be done instead."""
    code = """
        import sys
        from pathlib import Path
        from cache import CompletionStore
        with CompletionStore.open(Path(sys.argv[1])):
            print("open", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(StoreLocked) as refused:
            CompletionStore.open(path)
        for part in (f"process {holder.pid} ", "over HTTP", "stop it", "PostgreSQL"):
            assert part in str(refused.value)
        CompletionStore.open(path, read_only=True).close()
        holder.kill()
    CompletionStore.open(path).close()


def test_a_second_writer_in_the_same_process_is_refused(store, path):
    """One process cannot write twice either, and the first store is not disturbed."""
    with pytest.raises(StoreLocked, match=f"process {os.getpid()} "):
        CompletionStore.open(path)
    assert store.commit([]).result() == []


def test_the_lock_is_free_again_after_close(path):
    """Open, close, open again, also after an open that failed."""
    CompletionStore.open(path).close()
    damaged = path.read_bytes()
    path.write_bytes(damaged[:100] + bytes(len(damaged) - 100))
    with pytest.raises(StoreDamaged):
        CompletionStore.open(path)
    path.write_bytes(damaged)
    CompletionStore.open(path).close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path, read_only):
    """The message shows how the file starts; nothing is written to it or beside it."""
    path.parent.mkdir()
    path.write_text("# Notes\n\nNot a database at all.\n")
    before = _folder_content(path)
    with pytest.raises(StoreDamaged, match=r"not a database \(it starts with b'# Notes"):
        CompletionStore.open(path, read_only=read_only)
    assert _folder_content(path) == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_truncated_store_is_refused(filled, read_only):
    """A file shorter than its own header says is damaged, and stays as it is."""
    whole = filled.read_bytes()
    filled.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreDamaged, match="restore the file from a backup"):
        CompletionStore.open(filled, read_only=read_only)
    assert filled.read_bytes() == whole[: len(whole) // 2]


def test_a_damaged_page_is_an_error_and_not_a_miss(filled, make_entry):
    """A look-up that meets damage says so: taking it for a miss would buy the answer again."""
    with closing(sqlite3.connect(filled)) as connection:
        roots = "SELECT rootpage FROM sqlite_master WHERE tbl_name = 'completions'"
        pages = [page for (page,) in connection.execute(roots)]
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with filled.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
    keys = [make_entry(str(number)).fingerprint.key for number in range(500)]
    damaged = pytest.raises(StoreDamaged, match="restore the file from a backup")
    with CompletionStore.open(filled, read_only=True) as store, damaged:
        store.lookup(keys)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_a_newer_schema_is_refused_and_left_alone(filled, read_only):
    """A newer program's store is neither read nor changed; the message names both versions."""
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    before = filled.read_bytes()
    with pytest.raises(SchemaTooNew, match=f"schema 0999.*knows {_THIS}.*upgrade"):
        CompletionStore.open(filled, read_only=read_only)
    assert filled.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_another_program_s_database_is_refused_and_left_alone(path, read_only):
    """A SQLite file with tables of its own is no store."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a store of completions"):
        CompletionStore.open(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_folder_is_no_store(tmp_path, read_only):
    """The message asks for a file."""
    with pytest.raises(StoreError, match="is a folder; name the file"):
        CompletionStore.open(tmp_path, read_only=read_only)


def test_a_file_where_a_folder_should_be_is_refused(tmp_path):
    """The operating system's own reason is passed on, with the path."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreReadOnly, match=r"completions\.sqlite: .*another store"):
        CompletionStore.open(tmp_path / "file" / "completions.sqlite")


def test_reading_what_does_not_exist_is_refused(path):
    """Replay without a store: the message says to record first, and nothing is created."""
    with pytest.raises(StoreError, match="record one first"):
        CompletionStore.open(path, read_only=True)
    assert not path.parent.exists()


def test_an_empty_file_cannot_be_read(path):
    """A reader creates no tables."""
    path.parent.mkdir()
    path.touch()
    with pytest.raises(StoreError, match="open it once for writing"):
        CompletionStore.open(path, read_only=True)


def test_a_read_only_disk_can_be_read_and_not_written(filled, small_disk, make_entry):
    """A store on a read-only mount serves look-ups; writing is refused with what to do."""
    moved = small_disk / "completions.sqlite"
    shutil.copy(filled, moved)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreReadOnly, match=r"Read-only file system.*open this one read-only"):
        CompletionStore.open(moved)
    key = make_entry("7").fingerprint.key
    with CompletionStore.open(moved, read_only=True) as store:
        assert store.lookup([key])[key].answer.text == "Yes."
        assert store.stats().completions == 500
    assert [file.name for file in small_disk.iterdir()] == ["completions.sqlite"]


def test_a_store_in_a_read_only_folder_can_be_read_and_not_written(
    filled, guarded_folder, make_entry
):
    """As on a read-only disk, for a user who may not write there."""
    moved = guarded_folder.path / "completions.sqlite"
    shutil.copyfile(filled, moved)
    moved.chmod(0o444)
    key = make_entry("7").fingerprint.key
    with guarded_folder.read_only():
        with pytest.raises(StoreReadOnly, match=r"Permission denied.*open this one read-only"):
            CompletionStore.open(moved)
        with CompletionStore.open(moved, read_only=True) as store:
            assert store.lookup([key])[key].answer.text == "Yes."
            assert store.stats().completions == 500
    assert [file.name for file in guarded_folder.path.iterdir()] == ["completions.sqlite"]


def test_the_schema_version_is_the_newest_migration():
    """The number that a fast start compares with is the one that Alembic would migrate to."""
    scripts = ScriptDirectory.from_config(_alembic_config())
    assert scripts.get_heads() == [schema.SCHEMA_VERSION]


def test_the_migrations_make_the_tables_of_the_models(filled):
    """What Alembic created is what `models.py` describes: no difference to generate."""
    engine = create_engine(f"sqlite:///{filled}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, models.metadata) == []
    engine.dispose()


def _alembic_config():
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    return config


_NEXT_MIGRATION = """
from alembic import op
from sqlalchemy import Column, Text

revision = "{next}"
down_revision = "{this}"


def upgrade():
    op.add_column("teachers", Column("note", Text))
    {then}
"""


@pytest.fixture
def next_version(tmp_path, monkeypatch):
    """Make this program one migration newer; `then` is that migration's last line."""

    def install(then="pass"):
        folder = tmp_path / "migrations"
        shutil.copytree(migrations.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        code = _NEXT_MIGRATION.format(this=_THIS, next=_NEXT, then=then)
        (folder / "versions" / f"v{_NEXT}_note.py").write_text(code)
        monkeypatch.setattr(migrations, "FOLDER", folder)
        monkeypatch.setattr(schema, "SCHEMA_VERSION", _NEXT)

    return install


def test_an_older_store_is_backed_up_and_migrated(filled, next_version, make_entry):
    """The new schema has all the old rows, and the old file lies beside it."""
    next_version()
    key = make_entry("7").fingerprint.key
    with CompletionStore.open(filled) as store:
        assert store.lookup([key])[key].answer.text == "Yes."
    with closing(sqlite3.connect(filled)) as connection:
        assert connection.execute("SELECT count(note), count(*) FROM teachers").fetchone() == (0, 1)

    backup = filled.with_name(f"completions.sqlite.before-{_THIS}-was-migrated")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT count(*) FROM completions").fetchone() == (500,)
        assert connection.execute("SELECT * FROM alembic_version").fetchone() == (_THIS,)


def test_a_migration_that_fails_changes_nothing(filled, next_version):
    """Half a migration is none: the store still has its old schema, and is not locked."""
    next_version(then="raise ValueError('no')")
    with pytest.raises(ValueError, match="no"):
        CompletionStore.open(filled)
    with closing(sqlite3.connect(filled)) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchone() == (_THIS,)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(teachers)")]
    assert "note" not in columns


def test_a_migration_without_room_for_the_backup_is_refused(filled, next_version):
    """Nothing is touched when the disk could not hold the copy: here, of 8 TB of nothing."""
    size, before = filled.stat().st_size, filled.read_bytes()
    os.truncate(filled, 1 << 43)
    next_version()
    with pytest.raises(StoreFull, match="make room"):
        CompletionStore.open(filled)
    assert {file.name for file in filled.parent.iterdir()} == {filled.name, f"{filled.name}.lock"}
    os.truncate(filled, size)
    assert filled.read_bytes() == before


def test_an_older_store_cannot_be_read_before_it_is_migrated(filled, next_version):
    """A reader changes nothing; the message says how the store is brought up to date."""
    next_version()
    with pytest.raises(
        StoreError, match=f"schema {_THIS}.*reads {_NEXT}.*open it once for writing"
    ):
        CompletionStore.open(filled, read_only=True)


def test_the_lock_file_names_its_holder(store, path):
    """What the refusal reads: process, host and time, as JSON."""
    holder = json.loads(Path(f"{path}.lock").read_text())
    assert holder["pid"] == os.getpid()
    assert set(holder) == {"pid", "host", "since"}
