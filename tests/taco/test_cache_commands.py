"""`taco cache`, as people and scripts run it: processes of its own."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cache import (
    Completion,
    CompletionStore,
    NewEntry,
    Refusal,
    TeacherIdentity,
    Use,
    content_digest,
    fingerprint,
)

TEACHER = TeacherIdentity.from_definition("demo", "builtin", {"rules": 1})


def _fill(path, *pairs):
    """Store (compressed text, answer) pairs; returns the keys in hexadecimal digits."""
    with CompletionStore.open(path) as store:
        store.register_teacher(TEACHER)
        keys = []
        for text, answer in pairs:
            asked = fingerprint(TEACHER.digest, {"prompt": f"Say: {text}"})
            given = Completion(answer, "stop") if isinstance(answer, str) else answer
            store.commit([NewEntry(asked, TEACHER.digest, text, given)]).result()
            keys.append(asked.key.hex())
    return keys


@pytest.fixture
def home(tmp_path):
    """The default place of stores."""
    return tmp_path / "home"


@pytest.fixture
def cache(installed_taco, home):
    """Run `taco cache ARGUMENTS` as a process, with `home` as the default place."""

    def run(*arguments):
        return installed_taco("cache", *arguments, TACO_HOME=str(home))

    return run


@pytest.fixture
def keys(home):
    """The keys of a store in the default place: meeting, its alternate, refused."""
    return _fill(
        home / "completions.sqlite",
        ("meeting", "Ünal leads [it] :smile:."),
        ("meeting", "Ada leads it."),
        ("secret Zorblax", Refusal("content_filter", "No.")),
    )


def _figures(said):
    """The two-column tables of a command's output."""
    assert said.code == 0, said.err
    return dict(re.findall(r"^│ (.+?) +│ (.+?) +│$", said.out, re.MULTILINE))


def test_stats_show_and_find(cache, keys, home):
    """Figures, everything about a key by its first digits, and what was asked about a text."""
    stats = _figures(cache("stats"))
    assert (stats["completions"], stats["alternates"], stats["refusals"]) == ("1", "1", "1")
    shown = cache("show", keys[0][:10])
    assert shown.code == 0
    for part in (
        keys[0],
        TEACHER.digest,
        "Say: meeting",
        "Ünal leads [it] :smile:.",
        "Ada leads it.",
    ):
        assert part in shown.out
    found = cache("find", "secret Zorblax")
    assert keys[2] in found.out
    assert "refused: content_filter" in found.out
    none = cache("find", "meetin")
    assert (none.code, none.err) == (1, "nothing was ever asked about exactly this text\n")


def test_a_hostile_answer_does_nothing_to_the_terminal(taco, tmp_path):
    """What a terminal would obey is spelt out, in a line of the list as in the whole entry."""
    store = tmp_path / "hostile.sqlite"
    [key] = _fill(store, ("\x1b]0;taken\x07", "\u202eturned\x1b[2J"))
    shown = taco("cache", "show", key, "--store", store).out
    found = taco("cache", "find", "\x1b]0;taken\x07", "--store", store).out
    for said in (shown, found):
        assert "⟨U+202E⟩turned⟨U+001B⟩[2J" in said
        assert not set(said) & set("\x1b\x07\u202e")


def test_a_text_comes_from_standard_input(installed_taco, keys, home):
    """A transcript is too long for a command line."""
    command = [Path(sys.executable).with_name("taco"), "cache", "find", "-"]
    environment = {**os.environ, "TACO_HOME": str(home)}
    done = subprocess.run(command, input=b"meeting\n", env=environment, capture_output=True)
    assert keys[0] in done.stdout.decode()


def test_export_import_and_export_again(cache, keys, home, tmp_path):
    """Through files, into a new store: the same digest; a cut file: one line of error."""
    first = _figures(cache("export", "first.jsonl"))
    assert first["entries"] == "2"
    imported = _figures(cache("import", "first.jsonl", "--store", "new.sqlite"))
    assert imported == {
        "added": "2",
        "same": "0",
        "conflicts": "0",
        "refusals superseded": "0",
        "teachers added": "1",
    }
    again = _figures(cache("export", "again.jsonl", "--store", "new.sqlite"))
    assert again == first
    content = (tmp_path / "first.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(content[: len(content) // 2])
    cut = cache("import", "cut.jsonl", "--store", "other.sqlite")
    assert cut.code == 1
    assert cut.err.startswith("cut.jsonl was cut short")
    assert cut.err.count("\n") == 1


def test_a_part_is_exported(cache, keys, tmp_path):
    """By key and by time."""
    assert _figures(cache("export", "a.jsonl", "--key", keys[0][:12]))["entries"] == "1"
    assert _figures(cache("export", "b.jsonl", "--since", "2020-01-01"))["entries"] == "2"
    assert _figures(cache("export", "c.jsonl", "--since", "2999-01-01"))["entries"] == "0"
    assert _figures(cache("export", "d.jsonl", "--text", "meeting"))["entries"] == "1"
    assert cache("export", "e.jsonl", "--teacher", "gpt").err.startswith("no teacher matches 'gpt'")


def test_merge_reports_one_planted_conflict(cache, keys, home, tmp_path):
    """Named by its key; `fail` adds nothing and ends with status 1."""
    _fill(tmp_path / "theirs.sqlite", ("meeting", "Grace leads it."), ("new", "Yes."))
    failed = cache("merge", "theirs.sqlite", "--on-conflict", "fail")
    assert failed.code == 1
    assert f"the first is {keys[0]}" in failed.err
    assert _figures(cache("stats"))["requests"] == "2"
    merged = cache("merge", "theirs.sqlite")
    figures = _figures(merged)
    assert (figures["added"], figures["conflicts"]) == ("1", "1")
    assert "Conflicts (1 of 1)" in merged.out
    assert keys[0] in merged.out


def test_verify_names_a_bad_row_and_ends_with_status_1(cache, keys, home):
    """And with 0 on a sound store."""
    assert _figures(cache("verify")) == {"rows checked": "6", "bad": "0"}
    with closing(sqlite3.connect(home / "completions.sqlite")) as shell, shell:
        shell.execute("UPDATE completions SET text = 'x'")
    bad = cache("verify")
    assert bad.code == 1
    assert keys[0] in bad.out
    assert "the answer hashes to" in bad.out


def test_prune_is_a_preview_until_told_otherwise(cache, keys, home, tmp_path):
    """What a lock needs stays either way."""
    lock = tmp_path / "run.lock"
    leaf = {"replies": [["completed", keys[0], "00"]]}
    lock.write_text('{"lock": 1}\n' + json.dumps(leaf) + "\n")
    preview = _figures(cache("prune", "--teacher", "demo", "--keep-lock", lock))
    assert (preview["would be removed"], preview["kept for locks"]) == ("1", "1")
    assert _figures(cache("stats"))["requests"] == "2"
    done = _figures(cache("prune", "--teacher", "demo", "--keep-lock", lock, "--no-dry-run"))
    assert (done["removed"], done["kept for locks"]) == ("1", "1")
    assert _figures(cache("stats"))["requests"] == "1"
    assert _figures(cache("prune", "--older-than", "1d"))["selected"] == "0"
    assert cache("prune", "--older-than", "soon").err.startswith("--older-than: expected a number")
    assert cache("prune").err.startswith("expected what to prune")


def test_what_a_run_was_served_is_forgotten(taco, keys, home):
    """By its name; one of a text, keys and a run is meant."""
    store = home / "completions.sqlite"
    with CompletionStore.open(store) as opened:
        opened.record_uses({Use("mine", 1, bytes.fromhex(keys[0]), "hit"): 1}, {})
    said = taco("cache", "forget", "a text", "--run", "mine", "--store", store)
    assert said.err.startswith("expected one of: a text, --key KEY")
    assert said.err.endswith("--run RUN\n")
    forgotten = taco("cache", "forget", "--run", "mine", "--store", store)
    assert re.search(r"removed +│ 1 ", forgotten.out), forgotten.err
    assert "no stored key starts" in taco("cache", "show", keys[0], "--store", store).err


def test_promote_forget_backup_and_migrate(cache, keys, home, tmp_path):
    """Each does what it says, and the result is a table."""
    other = content_digest(Completion("Ada leads it.", "stop")).hex()
    promoted = cache("promote", keys[0][:12], other[:12])
    assert re.search(r"served +│ Ada leads it\.", promoted.out)
    assert _figures(cache("backup", "copy.sqlite"))["rows"] == "6"
    assert _figures(cache("stats", "--store", "copy.sqlite"))["completions"] == "1"
    forgotten = _figures(cache("forget", "secret Zorblax"))
    assert (forgotten["removed"], forgotten["copies"]) == ("1", "none")
    assert all(b"Zorblax" not in file.read_bytes() for file in home.iterdir())
    assert b"Zorblax" in (tmp_path / "copy.sqlite").read_bytes()
    assert _figures(cache("forget", "--key", keys[0]))["removed"] == "1"
    assert cache("forget").err.startswith("expected one of: a text, --key KEY")
    assert "schema version" in _figures(cache("migrate"))


def test_a_store_that_a_service_holds_is_not_written(cache, keys, home):
    """The holder is named, and what to do; reading goes on."""
    with CompletionStore.open(home / "completions.sqlite"):
        for arguments in (("forget", "x"), ("prune", "--teacher", "demo", "--no-dry-run")):
            refused = cache(*arguments)
            assert refused.code == 1
            assert f"open for writing in process {os.getpid()} " in refused.err
            assert "stop it" in refused.err
        assert cache("verify").code == 0
        assert cache("backup", "copy.sqlite").code == 0


def test_a_missing_store_is_not_made_by_looking(cache, home):
    """Nor by commands that only take away."""
    for arguments in (("stats",), ("verify",), ("forget", "x"), ("show", "ab")):
        said = cache(*arguments)
        assert said.code == 1
        assert said.err.startswith(f"there is no store at {home}")
    assert not home.exists()
