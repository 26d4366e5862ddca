"""Forget: no bytes stay on the disk."""

import json
import sqlite3
from contextlib import closing

import pytest

from cache import CompletionStore, StoreFull, StoreLocked
from cache.forgetting import forget_keys, forget_text
from cache.verifying import verify_store

SECRET = "Zorblax Quintavious met “Ünal” in Room 9\nand signed."


def _remove_carelessly(path, keys):
    """As any program would: the bytes stay in free space."""
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute("PRAGMA secure_delete = OFF")
        for table in ("completions", "requests"):
            shell.executemany(f"DELETE FROM {table} WHERE key = ?", [(key,) for key in keys])


def _log(path):
    lines = path.with_name(path.name + ".log").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _served(path, *keys):
    with CompletionStore.open(path, read_only=True) as store:
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
