"""Whether a store still holds what a run's lock needs."""

import json

import pytest

from cache import Completion, LockFileError, Refusal, StoreError, content_digest
from cache.forgetting import forget_keys
from cache.lock_checking import check_needs
from cache.run_locks import needed_answers

REFUSED = Refusal("content_filter", "No.")


@pytest.fixture
def write_lock(tmp_path, key_of):
    """Write the lock of a run that got these answers, one a step: (request, text or refusal)."""

    def write(*replies):
        lines = [{"lock": 1, "config": {}}]
        for step, (content, answer) in enumerate(replies, start=1):
            given = Completion(answer, "stop") if isinstance(answer, str) else answer
            reply = ["scored", key_of(content).hex(), content_digest(given).hex()]
            place = {"phase": "train", "step": step, "example": "e", "sample": 0}
            lines.append({**place, "replies": [reply, ["failed", None, None]]})
        lines.append({"leaves": len(replies), "root": "ab"})
        path = tmp_path / "run.lock"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


def test_a_store_that_holds_all_lacks_nothing(stocked, write_lock):
    """The served answer, an alternate and a refusal all count; a failure needs nothing."""
    lock = write_lock(("1", "Answer 1."), ("7", "Seven."), ("7", "Answer 7."), ("refused", REFUSED))
    report = check_needs(stocked, lock)
    assert (report.answers, report.missing, report.named) == (4, 0, ())


def test_what_is_missing_is_named_with_its_place_and_with_what_there_is(
    stocked, write_lock, key_of
):
    """A key that nobody asked, and a key with other answers than the recorded one."""
    lock = write_lock(("1", "Answer 1."), ("never", "x"), ("7", "Sieben."))
    report = check_needs(stocked, lock)
    assert (report.answers, report.missing) == (3, 2)
    never, changed = report.named
    assert never.needed.key == key_of("never")
    assert never.needed.place == "train step 2, example 'e', sample 0"
    assert (never.needed.line, never.others) == (3, ())
    assert set(changed.others) == {
        content_digest(Completion(text, "stop")) for text in ("Answer 7.", "Seven.")
    }


def test_an_answer_that_is_missing_often_is_counted_each_time_and_named_once(stocked, write_lock):
    """At its first place; the list is short however long the lock is."""
    report = check_needs(stocked, write_lock(*[("never", "x")] * 1_200))
    assert (report.answers, report.missing, len(report.named)) == (1_200, 1_200, 1)
    assert report.named[0].needed.line == 2
    many = check_needs(stocked, write_lock(*[(f"never {n}", "x") for n in range(150)]))
    assert (many.missing, len(many.named)) == (150, 100)


def test_a_forgotten_text_is_missing(stocked, write_lock, key_of):
    """A lock outlives the answers that it names."""
    lock = write_lock(("3", "Answer 3."))
    assert check_needs(stocked, lock).missing == 0
    forget_keys(stocked, [key_of("3").hex()])
    assert check_needs(stocked, lock).missing == 1


def test_progress_counts_the_locks_bytes(stocked, write_lock):
    """Up to its size."""
    lock = write_lock(("1", "Answer 1."), ("2", "Answer 2."))
    moves = []
    check_needs(stocked, lock, lambda done, total: moves.append((done, total)))
    size = lock.stat().st_size
    assert moves[-1] == (size, size)
    assert [done for done, _ in moves] == sorted(done for done, _ in moves)


def test_no_lock_and_no_store_are_named(stocked, write_lock, tmp_path):
    """Each by what was expected."""
    with pytest.raises(LockFileError, match="expected a lock file"):
        check_needs(stocked, tmp_path / "none.lock")
    with pytest.raises(StoreError, match=r"none\.sqlite"):
        check_needs(tmp_path / "none.sqlite", write_lock())


@pytest.mark.parametrize("reply", ['["scored", "zz", "00"]', '["scored", "00"]', '["scored"]', "1"])
def test_a_reply_that_cannot_be_read_is_an_error(tmp_path, reply):
    """What the run needs is not known then; nothing is skipped in silence."""
    lock = tmp_path / "run.lock"
    lock.write_text(f'{{"lock": 1}}\n{{"replies": [{reply}]}}\n')
    with pytest.raises(LockFileError, match="line 2: expected a rollout with its replies"):
        list(needed_answers(lock))
