"""Forget: no bytes stay on the disk."""

import json
import sqlite3
from contextlib import closing

import pytest

from cache import CompletionStore, StoreError, StoreFull, StoreLocked, Use
from cache.command_log import command_log
from cache.forgetting import forget_keys, forget_run, forget_text
from cache.ledger import read_run
from cache.maintenance import reading
from cache.verifying import verify_store

SECRET = "Zorblax Quintavious met “Ünal” in Room 9\nand signed."


def _remove_carelessly(path, keys):
    """As any program would: the bytes stay in free space."""
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute("PRAGMA secure_delete = OFF")
        for table in ("completions", "requests"):
            shell.executemany(f"DELETE FROM {table} WHERE key = ?", [(key,) for key in keys])


def _log(place):
    return [json.loads(line) for line in command_log(place).read_text().splitlines()]


def _served(place, *keys):
    with CompletionStore.open(place, read_only=True) as store:
        return {key: entry.answer for key, entry in store.lookup(keys).items()}


def _bytes_on_disk(path):
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


@pytest.fixture
def secretive(stocked, make_entry):
    """The store with a secret, as a compressed text and as a message; and in its free space."""
    with CompletionStore.open(stocked) as store:
        entries = [
            make_entry("about it", "It was nine.", compressed_text=SECRET),
            make_entry(SECRET, "Yes.", compressed_text=None),
        ]
        removed = [make_entry(f"x{number}", "Zorblax " * 10) for number in range(20)]
        store.commit(entries + removed).result()
    _remove_carelessly(stocked, [entry.fingerprint.key for entry in removed])
    assert stocked.read_bytes().count(b"Zorblax") > 100
    return stocked


def test_a_forgotten_text_leaves_no_bytes(secretive, make_entry, key_of):
    """Neither in the file, nor in its log, nor in the log of commands; all else stays."""
    report = forget_text(secretive, SECRET)
    assert (report.removed, report.within_longer_texts, report.copies) == (2, 0, ())
    content = _bytes_on_disk(secretive)
    for part in (
        SECRET.encode(),
        json.dumps(SECRET, ensure_ascii=False)[1:-1].encode(),
        b"Zorblax",
    ):
        assert part not in content
    assert not {key_of("about it"), key_of(SECRET)} & set(
        _served(secretive, key_of("about it"), key_of(SECRET))
    )
    assert verify_store(secretive).rows == 604
    assert verify_store(secretive).bad == 0
    [entry] = _log(secretive)
    assert set(entry) == {"time", "command", "removed"}


def test_longer_texts_that_contain_it_are_counted_not_removed(secretive, make_entry):
    """Only the whole text of an item or a message is forgotten."""
    with CompletionStore.open(secretive) as store:
        store.commit([make_entry(f"Before. {SECRET} After.")]).result()
    report = forget_text(secretive, SECRET)
    assert (report.removed, report.within_longer_texts) == (2, 1)


def test_a_key_is_forgotten(stocked, key_of):
    """With its alternates, by the first digits of the key."""
    assert forget_keys(stocked, [key_of("7").hex()[:16]]).removed == 1
    assert _served(stocked, key_of("7")) == {}
    assert b"Seven." not in _bytes_on_disk(stocked)


def test_a_text_of_more_than_fifty_thousand_bytes_is_forgotten(stocked, make_entry):
    """A transcript is longer than what SQLite compares in a pattern."""
    text = "A long meeting about “nothing”. " * 3000
    with CompletionStore.open(stocked) as store:
        store.commit([make_entry(text)]).result()
    assert forget_text(stocked, text).removed == 1


def test_old_backups_beside_the_store_are_named(secretive):
    """They still hold the text; people must remove them."""
    old = secretive.with_name(secretive.name + ".before-0000-was-migrated")
    old.write_bytes(b"old")
    assert forget_text(secretive, SECRET).copies == (old,)


def test_a_reader_that_keeps_old_pages_alive_is_reported(secretive, monkeypatch):
    """What was forgotten is gone for readers, but the log's bytes wait for the last of them."""
    monkeypatch.setattr("cache.sqlite_file._BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(secretive, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM requests").fetchone()
        with pytest.raises(StoreLocked, match="the entries are gone, but other processes still"):
            forget_text(secretive, SECRET)
        reader.execute("ROLLBACK")
    assert forget_text(secretive, SECRET).removed == 0
    assert b"Zorblax" not in _bytes_on_disk(secretive)


def test_nothing_is_forgotten_by_half_for_want_of_room(secretive, monkeypatch):
    """Whether the file can be written once more is asked first."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(StoreFull, match="MB free"):
        forget_text(secretive, SECRET)
    assert verify_store(secretive).rows == 604 + 4


def test_a_text_and_a_key_are_forgotten_on_either_database(stocked_anywhere, make_entry, key_of):
    """All else stays and verifies; the log says that something went, and not what."""
    place = stocked_anywhere
    with CompletionStore.open(place) as store:
        store.commit([make_entry(f"Before. {SECRET} After."), make_entry(SECRET)]).result()
    assert forget_text(place, "c 3").removed == 1
    report = forget_text(place, SECRET)
    assert (report.removed, report.within_longer_texts, report.copies) == (1, 1, ())
    assert forget_keys(place, [key_of("7").hex()[:16]]).removed == 1
    gone = [key_of(content) for content in ("3", "7", SECRET)]
    assert _served(place, *gone, key_of("5")).keys() == {key_of("5")}
    assert verify_store(place).bad == 0
    entries = _log(place)
    assert [(entry["command"], entry["removed"]) for entry in entries] == [("forget", 1)] * 3
    assert all(set(entry) <= {"time", "command", "removed", "store"} for entry in entries)


def test_what_a_run_was_served_is_forgotten(stocked_anywhere, key_of):
    """Also what another run was served too, which is counted; the ledger and the uses stay."""
    place = stocked_anywhere
    with CompletionStore.open(place) as store:
        store.record_uses(
            {
                Use("mine", 1, key_of("1"), "miss"): 1,
                Use("mine", 2, key_of("1"), "hit"): 3,
                Use("mine", 2, key_of("7"), "hit"): 1,
                Use("mine", 2, b"?" * 32, "hit"): 1,  # Pruned since.
                Use("other", 9, key_of("7"), "hit"): 1,
                Use("other", 9, key_of("8"), "hit"): 1,
            },
            {},
        )
    report = forget_run(place, "mine")
    assert (report.removed, report.used_by_other_runs) == (2, 1)
    assert _served(place, *map(key_of, "178")).keys() == {key_of("8")}
    assert verify_store(place).bad == 0
    with CompletionStore.open(place, read_only=True) as store:
        assert store.query(lambda connection: read_run(connection, "mine")).keys == 3
    for name in ("Mine", ""):
        with pytest.raises(StoreError, match=f"knows no run '{name}': `taco cache runs` lists"):
            forget_run(place, name)


def test_a_databases_tables_are_written_anew(postgres_url, stock, key_of, monkeypatch, tmp_path):
    """A deleted row's bytes would stay in the old files until the server needs the room."""
    monkeypatch.setenv("TACO_HOME", str(tmp_path / "home"))
    stock(postgres_url)
    before = _files_of(postgres_url)
    forget_keys(postgres_url, [key_of("7").hex()])
    assert not before & _files_of(postgres_url)
    assert len(before) == 4


def _files_of(url):
    tables = ("requests", "completions", "alternates", "refusals")
    with reading(url) as connection:
        return {
            connection.exec_driver_sql(f"SELECT pg_relation_filenode('{table}')").scalar_one()
            for table in tables
        }


def test_tables_of_somebody_elses_are_named(
    postgres_server, postgres_url, stock, key_of, monkeypatch, tmp_path
):
    """The rows are gone, and their bytes may not be: an error, with the owner's command."""
    monkeypatch.setenv("TACO_HOME", str(tmp_path / "home"))
    stock(postgres_url)
    postgres_server.command("CREATE ROLE clerk LOGIN")
    postgres_server.command_on(
        postgres_url,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk",
    )
    clerk = f"{postgres_url}&user=clerk" if "?" in postgres_url else f"{postgres_url}?user=clerk"
    with pytest.raises(StoreError, match=r"the entries are gone, but old .* VACUUM \(FULL\) req"):
        forget_keys(clerk, [key_of("7").hex()])
    assert _served(postgres_url, key_of("7")) == {}
