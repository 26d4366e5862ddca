"""Backup: a verified copy, made while another process writes."""

import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

from cache import (
    CompletionStore,
    ExportError,
    StoreDamaged,
)
from cache.backup import back_up_store
from cache.forgetting import forget_keys
from cache.merging import merge_stores
from cache.verifying import verify_store


def _execute(path, statement, *values):
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute(statement, values)


WRITER = """
import sys
from pathlib import Path
from cache import Completion, CompletionStore, NewEntry, TeacherIdentity, fingerprint
teacher = TeacherIdentity.from_definition("demo", "builtin", {"rules": 1})
with CompletionStore.open(Path(sys.argv[1])) as store:
    store.register_teacher(teacher)
    for number in range(10**9):
        asked = fingerprint(teacher.digest, {"prompt": str(number)})
        answer = Completion(f"answer {number} " * 50, "stop")
        store.commit([NewEntry(asked, teacher.digest, None, answer)]).result()
        print(number, flush=True)
"""


def test_a_backup_is_made_and_verified_while_another_process_writes(stocked, tmp_path):
    """It has all that was committed before it began, verifies, and is a store to write to."""
    target = tmp_path / "backup.sqlite"
    command = [sys.executable, "-c", textwrap.dedent(WRITER), stocked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        while int(writer.stdout.readline()) < 50:
            pass
        report = back_up_store(stocked, target)
        after = writer.stdout.readline()
        writer.kill()
        committed = int([after, *writer.stdout][-1].split()[0]) if after else 0
    assert after, "the writer went on"
    with CompletionStore.open(target) as store:
        assert 301 + 50 < store.stats().requests <= 301 + committed + 2
        assert report.rows == 1 + 2 * store.stats().requests + 1
    assert report.file_bytes > 4096
    assert verify_store(target).bad == 0


def test_a_backup_is_one_file_for_its_owner(stocked, tmp_path):
    """No log beside it; nobody else may read it; an older one is never overwritten."""
    folder = tmp_path / "backups"
    folder.mkdir()
    seen = []
    back_up_store(stocked, folder / "b.sqlite", lambda done, total: seen.append((done, total)))
    assert [file.name for file in folder.iterdir()] == ["b.sqlite"]
    assert stat.S_IMODE((folder / "b.sqlite").stat().st_mode) == 0o600
    assert seen[-1] == (604, 604)
    with pytest.raises(ExportError, match="exists"):
        back_up_store(stocked, folder / "b.sqlite")
    with pytest.raises(ExportError, match=r"none/b.sqlite cannot be written: No such file"):
        back_up_store(stocked, folder / "none" / "b.sqlite")


def test_a_damaged_store_gives_no_backup(stocked, tmp_path, key_of):
    """So that it does not take the place of a good one."""
    _execute(stocked, "UPDATE completions SET text = 'x' WHERE key = ?", key_of("8"))
    with pytest.raises(StoreDamaged, match=f"1 bad rows.*{key_of('8').hex()}"):
        back_up_store(stocked, tmp_path / "backup.sqlite")
    assert not list(tmp_path.glob("*backup*"))


def test_a_backup_is_restored_by_copying_it(stocked, tmp_path, key_of):
    """The restore drill of the documentation."""
    back_up_store(stocked, tmp_path / "backup.sqlite")
    stocked.write_bytes(b"overwritten by accident")
    for beside in stocked.parent.glob(stocked.name + "-*"):
        beside.unlink()
    stocked.write_bytes((tmp_path / "backup.sqlite").read_bytes())
    assert verify_store(stocked).bad == 0
    with CompletionStore.open(stocked) as store:
        assert store.lookup([key_of("1")])[key_of("1")].answer.text == "Answer 1."


def test_what_is_sound_in_a_lost_store_is_saved(stocked, tmp_path, key_of):
    """The bad row is removed by its key, and the rest joins the restored backup."""
    back_up_store(stocked, tmp_path / "backup.sqlite")
    _execute(stocked, "UPDATE completions SET text = 'x' WHERE key = ?", key_of("8"))
    [finding] = verify_store(stocked).named
    with pytest.raises(StoreDamaged, match=finding.row):
        merge_stores(tmp_path / "backup.sqlite", [stocked])
    assert forget_keys(stocked, [finding.row]).removed == 1
    assert merge_stores(tmp_path / "backup.sqlite", [stocked]).same == 300
