"""Verify: every hash is computed again, and what is bad is named."""

import random
import sqlite3
from contextlib import closing

import pytest

from cache import CompletionStore, StoreDamaged, StoreError
from cache.verifying import verify_store


def _execute(path, statement, *values):
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute(statement, values)


def test_a_sound_store_verifies(stocked):
    """Every row of every table is checked: a teacher, 301 requests, 302 answers."""
    report = verify_store(stocked)
    assert (report.rows, report.bad, report.named) == (1 + 301 + 302, 0, ())


def test_a_store_verifies_while_it_is_written(stocked, make_entry):
    """A service need not stop for it."""
    with CompletionStore.open(stocked) as store:
        store.commit([make_entry("more")]).result()
        assert verify_store(stocked).bad == 0


@pytest.mark.parametrize(
    ("statement", "table", "problem"),
    [
        ("UPDATE completions SET text = 'Answer 8!' WHERE key = ?", "completions", "hashes to"),
        ("UPDATE completions SET extra = '{' WHERE key = ?", "completions", "damaged"),
        ("UPDATE completions SET usage = x'ff' WHERE key = ?", "completions", "damaged"),
        ("UPDATE completions SET finish_reason = 7 WHERE key = ?", "completions", "hashes to"),
        (
            "UPDATE requests SET document = document || ' ' WHERE key = ?",
            "requests",
            "the document hashes to",
        ),
        ("UPDATE requests SET compressed_text = 'x' WHERE key = ?", "requests", "compressed text"),
        ("UPDATE requests SET compressed_text = NULL WHERE key = ?", "requests", "compressed text"),
        ("UPDATE requests SET teacher_id = 99 WHERE key = ?", "requests", "filed under None"),
        ("DELETE FROM completions WHERE key = ?", "requests", "the request has no answer"),
        ("DELETE FROM requests WHERE key = ?", "completions", "its request is missing"),
        (
            "UPDATE completions SET key = zeroblob(32) WHERE key = ?",
            "completions",
            "its answer is another key's",
        ),
    ],
)
def test_a_changed_row_is_found_and_named(stocked, key_of, statement, table, problem):
    """By table and key, exactly once."""
    key = key_of("8")
    _execute(stocked, statement, key)
    report = verify_store(stocked)
    assert report.bad == 1
    [finding] = report.named
    assert (finding.table, finding.row) == (table, key.hex())
    assert problem in finding.problem


def test_a_changed_teacher_is_found_and_named(stocked, teacher):
    """Its definition is what its digest is the hash of."""
    _execute(stocked, "UPDATE teachers SET definition = '{}'")
    [finding] = verify_store(stocked).named
    assert (finding.table, finding.row) == ("teachers", teacher.digest)


def test_a_changed_alternate_or_refusal_is_found(stocked, key_of):
    """What is not served is checked too."""
    _execute(stocked, "UPDATE alternates SET text = 'Eight.'")
    _execute(stocked, "UPDATE refusals SET message = 'Yes.'")
    found = [(finding.table, finding.row) for finding in verify_store(stocked).named]
    assert found == [
        ("alternates", key_of("7").hex()),
        ("refusals", key_of("refused").hex()),
    ]


def test_a_flipped_byte_is_found_and_named(stocked, key_of):
    """One bit of one answer, changed in the file itself, also where no valid UTF-8 is left."""
    content = stocked.read_bytes()
    for position_in_answer, mask in ((0, 0x01), (3, 0x80)):
        position = content.index(b"Answer 123.") + position_in_answer
        flipped = bytearray(content)
        flipped[position] ^= mask
        stocked.write_bytes(flipped)
        [finding] = verify_store(stocked).named
        assert (finding.table, finding.row) == ("completions", key_of("123").hex())
    stocked.write_bytes(content)
    assert verify_store(stocked).bad == 0


def test_what_is_asked_for_by_its_content_is_that_content(stocked, key_of):
    """A replay would train on a changed answer in silence: its digest is in the same row."""
    keys = [key_of("7"), key_of("8")]
    with CompletionStore.open(stocked, read_only=True) as store:
        changed, sound = ((key, store.lookup([key])[key].content_digest) for key in keys)
    _execute(stocked, "UPDATE completions SET text = 'Answer 9.' WHERE text = 'Answer 7.'")
    with CompletionStore.open(stocked, read_only=True) as store:
        assert store.lookup_exact([sound])[sound].answer.text == "Answer 8."
        with pytest.raises(StoreDamaged, match=f"{keys[0].hex()} is not .*cache verify.*backup"):
            store.lookup_exact([sound, changed])


def test_another_key_s_answer_is_never_served(stocked, key_of, make_entry):
    """Not when a row was given another number by hand; nor is the next answer silently lost."""
    key = key_of("8")
    _execute(stocked, "UPDATE completions SET key = ? WHERE key = ?", key_of("none"), key)
    with CompletionStore.open(stocked) as store:
        assert store.lookup([key, key_of("9")]).keys() == {key_of("9")}
        with pytest.raises(StoreDamaged, match=f"{key.hex()} cannot be stored.*taco cache verify"):
            store.commit([make_entry("8")]).result()


def test_wherever_a_byte_of_an_answer_or_document_flips_it_is_found(stocked, make_entry):
    """Every byte of one document and one answer."""
    entry = make_entry("200")
    content = stocked.read_bytes()
    for text in (entry.fingerprint.document, "Answer 200."):
        start = content.index(text.encode())
        for position in range(start, start + len(text.encode())):
            flipped = bytearray(content)
            flipped[position] ^= 0x04
            stocked.write_bytes(flipped)
            report = verify_store(stocked)
            assert report.bad == 1, position - start
            assert report.named[0].row == entry.fingerprint.key.hex()


def test_damaged_pages_are_reported_not_raised(stocked):
    """Wherever the file is damaged, there is a report of it or the store does not open."""
    content = stocked.read_bytes()
    chance = random.Random(0)
    reported = 0
    for _ in range(40):
        start = chance.randrange(0, len(content) // 4096) * 4096
        damaged = bytearray(content)
        damaged[start : start + 64] = chance.randbytes(64)
        stocked.write_bytes(damaged)
        try:
            report = verify_store(stocked)
        except StoreError:
            continue
        assert report.bad > 0
        reported += 1
    assert reported > 10
