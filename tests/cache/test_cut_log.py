"""What a power cut may leave: a write-ahead log that ends anywhere."""

import random
import shutil

import pytest

from cache import CompletionStore
from cache.verifying import verify_store

COMMITS, ENTRIES = 30, 3


@pytest.fixture
def live(path, teacher, make_entry):
    """An open store with thirty commits of three answers in its log; and their keys, in order."""
    with CompletionStore.open(path) as store:
        store.register_teacher(teacher)
    keys = []
    with CompletionStore.open(path) as store:
        for number in range(COMMITS):
            entries = [
                make_entry(f"{number} {place}", f"{number} " * 300) for place in range(ENTRIES)
            ]
            store.commit(entries).result()
            keys.append([entry.fingerprint.key for entry in entries])
        yield path, keys


def test_a_copy_whose_log_is_cut_anywhere_holds_the_first_commits_whole(live, tmp_path):
    """It opens and verifies: some commits are there entirely, all later ones not at all."""
    path, keys = live
    log = path.with_name(f"{path.name}-wal").read_bytes()
    draw = random.Random(0)
    held = set()
    for number in range(20):
        copy = tmp_path / f"{number}.sqlite"
        shutil.copyfile(path, copy)
        copy.with_name(f"{copy.name}-wal").write_bytes(log[: draw.randrange(len(log))])
        with CompletionStore.open(copy) as store:
            found = [len(store.lookup(commit)) for commit in keys]
        whole = found.count(ENTRIES)
        assert found == [ENTRIES] * whole + [0] * (COMMITS - whole)
        assert verify_store(copy).named == ()
        held.add(whole)
    assert len(held) > 5
