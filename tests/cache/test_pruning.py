"""Prune: what was picked goes, what a lock file needs stays."""

import json
import os
from contextlib import closing

import pytest
from sqlalchemy import update

from cache import (
    CompletionStore,
    LockFileError,
    StoreError,
    StoreLocked,
)
from cache.command_log import command_log
from cache.maintenance import writing
from cache.models import requests
from cache.pruning import PruneReport, preview_prune, prune_store
from cache.run_locks import needed_keys
from cache.selection import Selection
from cache.verifying import verify_store


def _log(place):
    return [json.loads(line) for line in command_log(place).read_text().splitlines()]


def _served(place, *keys):
    with CompletionStore.open(place, read_only=True) as store:
        return {key: entry.answer for key, entry in store.lookup(keys).items()}


@pytest.fixture
def lock(tmp_path, key_of):
    """The lock file of a run that used the requests 1, 2 (by an alternate) and refused."""

    def reply(outcome, content):
        return [outcome, key_of(content).hex(), "00" * 32]

    leaves = [
        {"replies": [reply("completed", "1"), reply("completed", "2")]},
        {"replies": [reply("refused", "refused"), ["failed", None, None]]},
        {"replies": []},
    ]
    lines = [{"lock": 1, "config": {}}, *leaves, {"leaves": 3, "root": "ab"}]
    path = tmp_path / "run.lock"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_pruning_keeps_what_a_lock_needs(stocked_anywhere, lock, key_of):
    """All but the three entries of the run go, with their alternates; it is logged."""
    expected = PruneReport(selected=301, kept_for_locks=3, removed=298)
    assert preview_prune(stocked_anywhere, Selection(teacher="demo"), [lock]) == expected
    assert prune_store(stocked_anywhere, Selection(teacher="demo"), [lock]) == expected
    kept = _served(stocked_anywhere, *map(key_of, ("1", "2", "refused", "3", "7")))
    assert set(kept) == {key_of("1"), key_of("2"), key_of("refused")}
    with CompletionStore.open(stocked_anywhere, read_only=True) as store:
        stats = store.stats()
    assert (stats.requests, stats.completions, stats.alternates, stats.refusals) == (3, 2, 0, 1)
    assert verify_store(stocked_anywhere).bad == 0
    [entry] = _log(stocked_anywhere)
    assert (entry["command"], entry["teacher"], entry["removed"]) == ("prune", "demo", 298)
    assert entry["keep_locks"] == [str(lock)]


def test_the_lock_that_a_run_writes_is_understood(tmp_path, key_of):
    """Written by the trainer's own code, half a line at the end included."""
    from trainer.learning.lockfile import LockWriter
    from trainer.types import Outcome, Rollout, TeacherReply

    path = tmp_path / "run.lock"
    reply = TeacherReply(Outcome.SCORED, "text", key_of("1").hex(), "00" * 32)
    replies = (reply, TeacherReply(Outcome.FAILED))
    rollout = Rollout("a", 0, (b"\xa0",), "on Monday", 9, 2, Outcome.SCORED, 0.5, None, replies)
    with closing(LockWriter(path, {"config": {}})) as writer:
        writer.append("train", 1, rollout)
        writer.flush()
        with path.open("ab") as file:
            file.write(b'{"phase": "tra')
        assert list(needed_keys(path)) == [key_of("1")]


def test_a_preview_changes_nothing(stocked):
    """And works while a service holds the store, which pruning does not."""
    before = stocked.read_bytes()
    with CompletionStore.open(stocked):
        assert preview_prune(stocked, Selection(teacher="demo")).removed == 301
        with pytest.raises(StoreLocked, match=f"in process {os.getpid()} "):
            prune_store(stocked, Selection(teacher="demo"))
    assert stocked.read_bytes() == before
    assert not stocked.with_name(stocked.name + ".log").exists()


def test_pruning_by_age(stocked_anywhere, key_of):
    """Only what was first asked before the given time goes."""
    with writing(stocked_anywhere) as connection:
        old = update(requests).where(requests.c.key == key_of("5"))
        connection.execute(old.values(created_at=1000.0))
    assert prune_store(stocked_anywhere, Selection(before=2000.0)).removed == 1
    assert _served(stocked_anywhere, key_of("5"), key_of("6")).keys() == {key_of("6")}


def test_pruning_needs_a_choice(stocked_anywhere):
    """Nothing given is not everything."""
    with pytest.raises(StoreError, match="expected what to prune"):
        prune_store(stocked_anywhere, Selection())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a lock file: No such file"),
        ("", "its first line is no header"),
        ("[]\n", "its first line is no header"),
        ('{"lock": 2}\n', "expected lock format 1, got 2"),
        ('{"lock": 1}\n{"replies": [["completed", "xyz"]]}\n', "line 2: expected a rollout"),
        ('{"lock": 1}\nnonsense\n', "line 2: expected a rollout"),
        ('{"lock": 1}\n[]\n', "line 2: expected a rollout"),
    ],
)
def test_nothing_is_pruned_by_a_lock_that_cannot_be_read(stocked, tmp_path, content, message):
    """What such a file needs is not known."""
    path = tmp_path / "bad.lock"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LockFileError, match=message):
        prune_store(stocked, Selection(teacher="demo"), [path])
    assert verify_store(stocked).rows == 604
