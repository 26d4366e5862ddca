import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from cache import CompletionStore


@pytest.fixture
def place(any_place):
    """A commit means the same on every database."""
    return any_place


def test_what_was_released_survives_kill_9(place, teacher):
    """Every key that a child printed after its commit is in the store after it was killed."""
    code = """
        import sys
        from cache import Completion, CompletionStore, NewEntry, TeacherIdentity, fingerprint
        teacher = TeacherIdentity.from_definition("demo", "builtin", {"rules": 1})
        store = CompletionStore.open(sys.argv[1])
        store.register_teacher(teacher)
        for number in range(10**9):
            asked = fingerprint(teacher.digest, {"prompt": str(number)})
            answer = Completion(f"answer {number}", "stop")
            store.commit([NewEntry(asked, teacher.digest, None, answer)]).result()
            print(asked.key.hex(), flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        released = [child.stdout.readline().strip() for _ in range(50)]
        child.kill()
        released += [line.strip() for line in child.stdout if line.endswith("\n")]
    assert child.returncode == -signal.SIGKILL

    with CompletionStore.open(place) as store:
        found = store.lookup([bytes.fromhex(key) for key in released])
        assert [found[bytes.fromhex(key)].answer.text for key in released] == [
            f"answer {number}" for number in range(len(released))
        ]


def test_an_answer_is_released_only_after_its_commit(store, make_entry):
    """While the group's transaction is open nobody sees the entry, and its future is open."""
    inside, go_on = threading.Event(), threading.Event()

    def hold(connection):
        inside.set()
        go_on.wait(timeout=30)

    store._writer.submit(hold)
    inside.wait(timeout=30)
    entry = make_entry("q")
    future = store.commit([entry])
    assert not future.done()
    assert store.lookup([entry.fingerprint.key]) == {}
    go_on.set()
    future.result(timeout=30)
    assert entry.fingerprint.key in store.lookup([entry.fingerprint.key])


def test_what_arrives_during_a_commit_is_one_group(store, make_entry, monkeypatch):
    """A hundred commits that wait behind a slow one share a single transaction."""
    inside, go_on, groups = threading.Event(), threading.Event(), []

    def count(work, transact=store._writer._transact):
        groups.append(work)
        return transact(work)

    def hold(connection):
        inside.set()
        go_on.wait(timeout=30)

    monkeypatch.setattr(store._writer, "_transact", count)
    store._writer.submit(hold)
    inside.wait(timeout=30)
    futures = [store.commit([make_entry(str(number))]) for number in range(100)]
    go_on.set()
    for future in futures:
        future.result(timeout=30)
    assert len(groups) == 2


def test_a_bad_entry_does_not_fail_its_neighbours(store, make_entry):
    """A group that cannot be committed is committed again, one by one; only the bad one fails."""
    inside, go_on = threading.Event(), threading.Event()

    def hold(connection):
        inside.set()
        go_on.wait(timeout=30)

    store._writer.submit(hold)
    inside.wait(timeout=30)
    contents = ["good", "\ud83d", "better"]
    futures = [
        store.commit([make_entry(f"q{number}", content)]) for number, content in enumerate(contents)
    ]
    go_on.set()
    assert [future.exception(timeout=30) is None for future in futures] == [True, False, True]
    assert store.stats().completions == 2
    store.check_writable()


def test_a_cancelled_future_is_stored_all_the_same(store, make_entry):
    """The answer was paid for: a caller who no longer waits does not lose it."""
    entry = make_entry("q")
    future = store.commit([entry])
    assert not future.cancel()
    future.result(timeout=30)
    assert store.stats().completions == 1
