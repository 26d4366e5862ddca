import hashlib
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from cache import CompletionStore, default_store_path
from cache.sqlite_file import reader_cache_kib


def test_a_batch_of_thousands_needs_no_more_values_than_old_builds_bind(store, make_entry):
    """SQLite before 3.32 binds at most 999 values to one statement."""
    for connection in (store._database._reader, store._database._writer):
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    entries = [make_entry(str(number), f"answer {number}") for number in range(2_000)]
    committed = store.commit(entries).result()
    found = store.lookup([entry.fingerprint.key for entry in entries])
    assert [found[each.key].answer.text for each in committed] == [
        f"answer {number}" for number in range(2_000)
    ]


def test_the_size_is_that_of_the_file_and_its_log(store, path, make_entry):
    """What the store takes on the disk, before the log is worked into the file."""
    store.commit([make_entry("a")]).result()
    wal = path.with_name(path.name + "-wal")
    assert store.stats().file_bytes == path.stat().st_size + wal.stat().st_size


def test_closing_leaves_one_file(path):
    """The log is worked into it."""
    with CompletionStore.open(path) as store:
        assert path.with_name(path.name + "-wal").exists()
        store.commit([]).result()
    assert not path.with_name(path.name + "-wal").exists()


def test_the_compressed_text_is_a_column_of_its_own(store, path, make_entry):
    """Everything that was ever asked about one text is one query by its hash."""
    store.commit(
        [
            make_entry("one", compressed_text="short text"),
            make_entry("two", compressed_text="short text"),
            make_entry("three"),
        ]
    ).result()
    query = "SELECT compressed_text FROM requests WHERE compressed_sha256 = ?"
    sha256 = hashlib.sha256(b"short text").digest()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(query, (sha256,)).fetchall() == [("short text",)] * 2
        plan = str(connection.execute(f"EXPLAIN QUERY PLAN {query}", (sha256,)).fetchall())
    assert "USING INDEX" in plan


def test_the_file_and_its_folder_are_for_their_owner_only(store, path):
    """Prompts may be private: mode 0600, also for what SQLite and the lock put beside it."""
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(
        [path.name + suffix for suffix in ("", "-wal", "-shm", ".lock")], 0o600
    )
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_default_place_follows_the_environment(monkeypatch, tmp_path):
    """TACO_HOME, with ~ for the home folder, else the usual place for a user's data."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TACO_HOME", "~/elsewhere")
    assert default_store_path() == tmp_path / "elsewhere" / "completions.sqlite"
    monkeypatch.setenv("TACO_HOME", "")
    assert default_store_path() == tmp_path / ".local/share/taco/completions.sqlite"


def test_a_path_relative_to_the_home_or_working_folder_is_understood(monkeypatch, tmp_path):
    """`~` and names with spaces, question marks and percent signs are names like others."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("~/home.sqlite", "my store?.sqlite", "100%2f.sqlite"):
        with CompletionStore.open(Path(name)) as store:
            assert store.stats().requests == 0
    made = {file.name for file in tmp_path.iterdir() if file.suffix == ".sqlite"}
    assert made == {"home.sqlite", "my store?.sqlite", "100%2f.sqlite"}


@pytest.mark.parametrize(
    ("file_mib", "cache_mib"), [(0, 64), (100, 64), (1024, 128), (100 * 1024, 1024)]
)
def test_a_large_store_is_read_through_a_large_cache(tmp_path, file_mib, cache_mib):
    """An eighth of the file, between 64 MiB and 1 GiB."""
    file = tmp_path / "store.sqlite"
    with file.open("wb") as handle:
        handle.truncate(file_mib << 20)
    assert reader_cache_kib(file) == cache_mib << 10
