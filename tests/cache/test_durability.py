import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

from cache import CompletionStore, StoreError, StoreFull, canonical_json
from cache import store as store_module
from cache.sqlite_file import wal_bytes
from cache.verifying import verify_store


def _pragma(store, name):
    return store._writer.submit(
        lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0]
    ).result()


def _statements_of(store, action):
    statements = []
    store._database._writer.set_trace_callback(statements.append)
    action()
    store._database._writer.set_trace_callback(None)
    return statements


def test_the_live_writer_waits_for_the_disk(store):
    """Write-ahead log, `synchronous` FULL (2), and foreign keys that are enforced."""
    assert _pragma(store, "journal_mode") == "wal"
    assert _pragma(store, "synchronous") == 2
    assert _pragma(store, "fullfsync") == 1
    assert _pragma(store, "foreign_keys") == 1


def test_commits_are_copied_from_the_log_into_the_file_only_now_and_then(store, path, make_entry):
    """The pages of several large groups wait in the log together, and are all there at the end."""
    before = path.stat().st_size
    for group in range(8):
        asked = [make_entry(f"{group} {number}", "words " * 300) for number in range(250)]
        store.commit(asked).result()
    assert path.stat().st_size == before
    assert wal_bytes(path) > 1_200 * 4096  # SQLite's own rule is to copy 1,000 pages.
    store.close()
    assert path.stat().st_size > 1_000 * 4096
    assert verify_store(path).bad == 0


def test_a_transaction_that_another_program_holds_is_named(store, path, make_entry):
    """A database shell that holds a transaction open: an error that says so, and no hang."""
    _pragma(store, "busy_timeout = 50")
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another program holds a transaction open"):
            store.commit([make_entry("q")]).result(timeout=30)
        shell.execute("ROLLBACK")
    store.commit([make_entry("q")]).result(timeout=30)


@pytest.fixture
def eager_probe(monkeypatch):
    """Let `check_writable` look again at once, not only a second later."""
    monkeypatch.setattr(store_module, "_PROBE_INTERVAL_S", 0.0)


def test_a_database_that_may_not_grow_is_full(store, make_entry, eager_probe):
    """What was stored is served, misses are refused beforehand, until it may grow again."""
    kept = make_entry("kept")
    store.commit([kept]).result()
    pages = _pragma(store, "page_count")
    _pragma(store, f"max_page_count = {pages}")

    with pytest.raises(StoreFull, match=r"completions\.sqlite: .*make room on that disk"):
        store.commit([make_entry("large", "word " * 50_000)]).result()
    with pytest.raises(StoreFull, match=r"completions\.sqlite: .*make room on that disk"):
        store.check_writable()
    assert kept.fingerprint.key in store.lookup([kept.fingerprint.key])

    _pragma(store, f"max_page_count = {pages + 1000}")
    store.check_writable()
    store.commit([make_entry("large", "word " * 50_000)]).result()
    assert store.stats().completions == 2
    assert _statements_of(store, store.check_writable) == []


def test_a_full_store_is_not_asked_again_at_once(store, make_entry):
    """Within a second of a failed probe the last reason is repeated, without touching the disk."""
    _pragma(store, f"max_page_count = {_pragma(store, 'page_count')}")
    assert store.commit([make_entry("a", "word " * 50_000)]).exception() is not None
    for _ in range(2):
        with pytest.raises(StoreFull):
            store.check_writable()

    def check_again():
        with pytest.raises(StoreFull):
            store.check_writable()

    assert _statements_of(store, check_again) == []


def test_a_full_disk_loses_nothing(small_disk, teacher, make_entry, eager_probe):
    """Commits fail until there is room again; every one that succeeded is there, and intact."""
    path = small_disk / "completions.sqlite"
    ballast = small_disk / "ballast"
    committed = []
    with CompletionStore.open(path) as store:
        store.register_teacher(teacher)
        store.check_writable()
        ballast.write_bytes(bytes(26 << 20))
        with pytest.raises(StoreFull, match="MB free"):
            store.check_writable()

        for number in range(1000):
            entry = make_entry(str(number), f"{number} " * 20_000)
            error = store.commit([entry]).exception(timeout=30)
            if error is not None:
                break
            committed.append(entry.fingerprint.key)
        assert isinstance(error, StoreFull)
        assert len(committed) > 5
        assert set(store.lookup(committed)) == set(committed)

        ballast.unlink()
        store.check_writable()
        store.commit([make_entry("after")]).result(timeout=30)
    with CompletionStore.open(path, read_only=True) as store:
        assert set(store.lookup(committed)) == set(committed)
        assert store.stats().completions == len(committed) + 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_may_not_grow_loses_nothing(stocked, key_of, make_entry):
    """By the limit of the process that writes: an error for each commit too many, and no crash.

    What it was told to be stored is there; all verifies, and without the limit it grows again.
    """
    limit = stocked.stat().st_size + (1 << 20)
    code = """
        import resource, sys
        from pathlib import Path
        from cache import CompletionStore, Completion, NewEntry, StoreUnwritable, fingerprint
        with CompletionStore.open(Path(sys.argv[1])) as store:
            [teacher] = store.teachers()
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
            for number in range(1000):
                asked = fingerprint(teacher.digest, {"prompt": str(number)})
                answer = Completion(f"{number} " * 20_000, "stop")
                error = store.commit([NewEntry(asked, teacher.digest, None, answer)]).exception()
                if error is not None:
                    break
                print(asked.key.hex(), flush=True)
            assert isinstance(error, StoreUnwritable), error
            assert "look at the disk" in str(error), error
            assert len(store.lookup([bytes.fromhex(sys.argv[3])])) == 1
    """
    known = key_of("7")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), stocked, str(limit), known.hex()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    promised = [bytes.fromhex(line) for line in done.stdout.split()]
    assert len(promised) > 2
    with CompletionStore.open(stocked) as store:
        assert set(store.lookup([known, *promised])) == {known, *promised}
        assert store.stats().completions == 300 + len(promised)
        store.commit([make_entry("after", "word " * 500_000)]).result()
    assert verify_store(stocked).named == ()


def test_documents_and_texts_are_stored_as_they_were_asked(store, path, make_entry):
    """The request can be read back from the file, and hashes to its key."""
    entry = make_entry("What is “new”?", compressed_text="new?")
    store.commit([entry]).result()
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT key, document, compressed_text FROM requests").fetchone()
    assert row == (entry.fingerprint.key, entry.fingerprint.document, "new?")
    assert canonical_json("What is “new”?").decode() in row[1]
