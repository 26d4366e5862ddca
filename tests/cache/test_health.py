"""Looking at a store without touching it."""

import os
import re

import pytest

from cache import CompletionStore, SchemaTooNew, StoreDamaged, StoreError
from cache.health import examine
from cache.schema import SCHEMA_VERSION
from cache.sqlite_file import connect

PAGE_BYTES = 4096


def test_a_sound_store_is_found_whole_and_left_as_it_was(stocked):
    """Not a file more, not a byte changed."""
    before = {file.name: file.read_bytes() for file in stocked.parent.iterdir()}
    health = examine(stocked, 60)
    assert (health.schema, health.writer, health.checked_whole) == (SCHEMA_VERSION, None, True)
    assert health.file_bytes == stocked.stat().st_size
    assert {file.name: file.read_bytes() for file in stocked.parent.iterdir()} == before


def test_the_writer_is_named_while_it_holds_the_store(store, path):
    """And it can be looked at meanwhile; a writer that died holds nothing."""
    assert f"process {os.getpid()} " in str(examine(path, 60).writer)
    store.close()
    assert examine(path, 60).writer is None


def test_looking_keeps_no_writer_out(stocked):
    """The lock is free again at the return."""
    examine(stocked, 60)
    CompletionStore.open(stocked).close()


def test_the_look_ends_in_its_time(stocked):
    """What was not reached is not called sound."""
    assert examine(stocked, 0).checked_whole is False


def test_a_damaged_page_is_found(stocked):
    """Wherever the damage is, with what to do."""
    content = bytearray(stocked.read_bytes())
    pages = range(PAGE_BYTES, len(content), 5 * PAGE_BYTES)
    for start in pages:
        content[start : start + 200] = b"\xff" * 200
    stocked.write_bytes(content)
    with pytest.raises(StoreDamaged, match="restore the file from a backup"):
        examine(stocked, 60)


def test_what_is_no_store_is_refused(tmp_path, stocked):
    """None, another program's file, another program's database, a newer store."""
    with pytest.raises(StoreError, match="there is no store at"):
        examine(tmp_path / "none.sqlite", 60)
    notes = tmp_path / "notes.txt"
    notes.write_text("these are my notes")
    with pytest.raises(StoreDamaged, match=re.escape(str(notes))):
        examine(notes, 60)
    with connect(stocked, "rw") as newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
    newer.close()
    with pytest.raises(SchemaTooNew, match="upgrade taco-rewards"):
        examine(stocked, 60)


def test_an_empty_file_has_no_schema_yet(tmp_path):
    """As a crash in the first moment leaves it."""
    path = tmp_path / "empty.sqlite"
    path.touch()
    assert examine(path, 60).schema is None
