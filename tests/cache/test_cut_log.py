"""What a power cut may leave: a write-ahead log that ends anywhere, a checkpoint half done."""

import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from cache import CompletionStore
from cache.verifying import verify_store

COMMITS, ENTRIES = 30, 3


@pytest.fixture
def store(path, teacher):
    """An open store with an empty log."""
    CompletionStore.open(path).close()
    with CompletionStore.open(path) as opened:
        opened.register_teacher(teacher)
        yield opened


@pytest.fixture
def commit(store, make_entry):
    """Make some commits of three answers each; returns their keys, commit by commit."""

    def commit(numbers):
        keys = []
        for number in numbers:
            entries = [
                make_entry(f"{number} {place}", f"{number} " * 300) for place in range(ENTRIES)
            ]
            store.commit(entries).result()
            keys.append([entry.fingerprint.key for entry in entries])
        return keys

    return commit


def _log(path):
    return path.with_name(f"{path.name}-wal")


def _whole_commits(copy, keys):
    """Open and verify; some commits are there entirely, and all later ones not at all."""
    with CompletionStore.open(copy) as store:
        found = [len(store.lookup(commit)) for commit in keys]
    whole = found.count(ENTRIES)
    assert found == [ENTRIES] * whole + [0] * (len(keys) - whole)
    assert verify_store(copy).named == ()
    return whole


def test_a_copy_whose_log_is_cut_anywhere_holds_the_first_commits_whole(path, commit, tmp_path):
    """It opens and verifies."""
    keys = commit(range(COMMITS))
    log = _log(path).read_bytes()
    draw = random.Random(0)
    held = set()
    for number in range(20):
        copy = tmp_path / f"{number}.sqlite"
        shutil.copyfile(path, copy)
        _log(copy).write_bytes(log[: draw.randrange(len(log))])
        held.add(_whole_commits(copy, keys))
    assert len(held) > 5


def test_a_checkpoint_that_was_cut_short_loses_nothing(path, commit, tmp_path):
    """Some pages of it reached the file, some did not; the log, cut after it, has them all.

    A reader keeps the checkpoint from going further than the first half of the commits.
    """
    half = COMMITS // 2
    keys = commit(range(half))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM completions").fetchone()
        keys += commit(range(half, COMMITS))
        before, log = path.read_bytes(), _log(path).read_bytes()
        with closing(sqlite3.connect(path)) as other:
            (page_size,) = other.execute("PRAGMA page_size").fetchone()
            _, frames, done = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            after = path.read_bytes()
    assert 0 < done < frames
    assert before != after
    written = 32 + done * (24 + page_size)  # The log's header, then a header before each page.
    draw = random.Random(0)
    held = set()
    for number in range(20):
        copy = tmp_path / f"{number}.sqlite"
        pages = [
            draw.choice(
                [before[at : at + page_size] or bytes(page_size), after[at : at + page_size]]
            )
            for at in range(0, len(after), page_size)
        ]
        copy.write_bytes(b"".join(pages))
        _log(copy).write_bytes(log[: draw.randrange(written, len(log))])
        held.add(_whole_commits(copy, keys))
    assert min(held) >= half
    assert len(held) > 5
