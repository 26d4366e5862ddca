import threading
from dataclasses import replace

import pytest
from sqlalchemy import select

from cache import (
    CanonicalError,
    Completion,
    CompletionStore,
    Refusal,
    StoreError,
    StoreReadOnly,
    TeacherIdentity,
    content_digest,
)
from cache.models import requests
from cache.schema import SCHEMA_VERSION


@pytest.fixture
def place(any_place):
    """What a store promises, it promises on every database."""
    return any_place


def _served(store, entry):
    return store.lookup([entry.fingerprint.key]).get(entry.fingerprint.key)


def test_what_was_committed_is_found_with_everything_that_came_with_it(store, make_entry):
    """Text, usage, other fields, provenance and latency come back as they went in."""
    answer = Completion(
        "Ünal leads it.\n\U0001f600",
        "stop",
        {"prompt_tokens": 12, "completion_tokens_details": {"reasoning_tokens": 0}},
        {"logprobs": {"content": [{"token": "Ü", "logprob": -0.5}]}},
        {"engine": "builtin", "version": "1"},
        12.5,
    )
    entry = make_entry("Who leads it?", answer)
    [committed] = store.commit([entry]).result()
    assert committed.answer == answer
    assert committed.content_digest == content_digest(answer)
    assert committed == _served(store, entry)


def test_an_answer_without_text_stays_without_text(store, make_entry):
    """A tool call has no text, which is not the same as an empty one."""
    call = Completion(None, "tool_calls", extra={"tool_calls": [{"id": "1"}]})
    silent, empty = make_entry("call", call), make_entry("empty", "")
    store.commit([silent, empty]).result()
    assert _served(store, silent).answer == call
    assert _served(store, empty).answer.text == ""


def test_keys_that_are_not_stored_are_absent(store, make_entry):
    """A look-up returns what it found and nothing else, for no keys nothing."""
    known, unknown = make_entry("known"), make_entry("unknown")
    store.commit([known]).result()
    keys = [known.fingerprint.key, unknown.fingerprint.key, known.fingerprint.key]
    assert list(store.lookup(keys)) == [known.fingerprint.key]
    assert store.lookup([]) == {}


def test_a_batch_of_thousands_is_looked_up_and_committed(store, make_entry):
    """More than fits into one statement, in an order that is not the keys'."""
    entries = [make_entry(str(number), f"answer {number}") for number in range(2_000)]
    committed = store.commit(entries).result()
    found = store.lookup([entry.fingerprint.key for entry in entries])
    assert [found[each.key].answer.text for each in committed] == [
        f"answer {number}" for number in range(2_000)
    ]


def test_the_first_committed_completion_is_the_answer(store, make_entry):
    """A later one that differs changes nothing that is served, and is kept as an alternate."""
    store.commit([make_entry("q", "first")]).result()
    [served] = store.commit([make_entry("q", "second")]).result()
    assert served.answer.text == "first"
    assert _served(store, make_entry("q")).answer.text == "first"
    assert store.stats().alternates == 1
    assert store.stats().completions == 1


def test_an_equal_answer_is_not_kept_twice(store, make_entry):
    """The same content adds nothing, whatever its usage or latency; nor does an alternate again."""
    store.commit([make_entry("q", Completion("first", "stop", latency_ms=1.0))]).result()
    store.commit([make_entry("q", Completion("first", "stop", {"total_tokens": 9}))]).result()
    assert store.stats().alternates == 0
    for _ in range(2):
        store.commit([make_entry("q", "second")]).result()
    assert store.stats().alternates == 1


def test_of_two_answers_in_one_commit_the_first_is_served(store, make_entry):
    """Order within a commit counts like order between commits."""
    answers = store.commit([make_entry("q", "first"), make_entry("q", "second")]).result()
    assert [each.answer.text for each in answers] == ["first", "first"]
    assert store.stats().alternates == 1


def test_a_refusal_is_served_until_there_is_a_completion(store, make_entry):
    """A declared refusal is an answer; a completion that comes later wins, for good."""
    refusal = Refusal("content_filter", "Not that.", {"engine": "azure"}, 3.5)
    [first] = store.commit([make_entry("q", refusal)]).result()
    assert first.answer == refusal
    assert _served(store, make_entry("q")) == first

    [second] = store.commit([make_entry("q", "An answer.")]).result()
    assert second.answer.text == "An answer."
    [third] = store.commit([make_entry("q", refusal)]).result()
    assert third.answer.text == "An answer."
    assert _served(store, make_entry("q")).answer.text == "An answer."
    assert (store.stats().refusals, store.stats().alternates) == (1, 0)


def test_of_several_refusals_the_first_is_served_and_all_are_kept(store, make_entry):
    """Which one is served does not depend on what the messages hash to."""
    for number in range(5):
        store.commit([make_entry("q", Refusal("content_filter", f"No {number}."))]).result()
    assert _served(store, make_entry("q")).answer.message == "No 0."
    assert store.stats().refusals == 5


def test_an_answer_is_found_by_its_content_whatever_is_served(store, make_entry):
    """The served one, an alternate, a refusal that a completion has replaced; nothing else."""
    answers = ["first", "second", Refusal("content_filter", "No.")]
    for answer in reversed(answers):
        store.commit([make_entry("q", answer)]).result()
    assert _served(store, make_entry("q")).answer.text == "second"
    wanted = [
        (make_entry("q").fingerprint.key, content_digest(make_entry("q", answer).answer))
        for answer in answers
    ]
    nowhere = [(wanted[0][0], bytes(32)), (bytes(32), wanted[0][1])]
    found = store.lookup_exact([*nowhere, *wanted])
    assert [found[pair].answer for pair in wanted] == [
        make_entry("q", answer).answer for answer in answers
    ]
    assert len(found) == 3
    assert store.lookup_exact([]) == {}


def test_answers_are_found_by_their_content_in_batches_of_any_size(store, make_entry):
    """Pairs of key and digest stay pairs where a batch is more than one statement."""
    entries = [make_entry(str(number), f"answer {number}") for number in range(1_000)]
    wanted = [(each.key, each.content_digest) for each in store.commit(entries).result()]
    found = store.lookup_exact(wanted)
    assert [found[pair].answer.text for pair in wanted] == [f"answer {n}" for n in range(1_000)]


def test_a_commit_of_completions_and_refusals_keeps_their_order(store, make_entry):
    """Each entry gets the answer to its own request."""
    answers = ["a", Refusal("content_filter", "b"), "c"]
    entries = [make_entry(f"q{number}", answer) for number, answer in enumerate(answers)]
    committed = store.commit(entries).result()
    assert [each.key for each in committed] == [entry.fingerprint.key for entry in entries]
    assert [each.answer for each in committed] == [entry.answer for entry in entries]


def test_an_entry_of_an_unknown_teacher_is_refused(store, make_entry):
    """Every request belongs to a registered teacher, and the message says how to register one."""
    entry = replace(make_entry("q"), teacher_digest="f" * 64)
    with pytest.raises(StoreError, match="call register_teacher"):
        store.commit([entry]).result()


def test_an_answer_that_is_no_text_for_json_is_refused(store, make_entry):
    """A lone surrogate cannot be stored faithfully, so it is not stored at all."""
    entries = [make_entry("good"), make_entry("bad", "\ud83d")]
    with pytest.raises(CanonicalError):
        store.commit(entries).result()
    assert store.stats().requests == 0


def test_an_empty_commit_is_an_empty_answer(store):
    """Nothing to add is no error."""
    assert store.commit([]).result() == []


def test_teachers_come_back_in_the_order_of_their_last_registration(store, teacher):
    """The most recent one is last, also when it was known before."""
    other = TeacherIdentity.from_definition("gpt", "openai", {"model": "gpt-4o-mini-2024-07-18"})
    store.register_teacher(other)
    assert [known.name for known in store.teachers()] == ["demo", "gpt"]
    store.register_teacher(teacher)
    assert [known.name for known in store.teachers()] == ["gpt", "demo"]
    last = store.teachers()[-1]
    assert replace(last, registered_at=None) == teacher
    assert last.registered_at is not None


def test_stats_count_every_table(store, make_entry):
    """Two requests, one refused, one answered twice over."""
    store.commit([make_entry("a", "first"), make_entry("b", Refusal("content_filter", "No."))])
    store.commit([make_entry("a", "second")]).result()
    stats = store.stats()
    assert (stats.requests, stats.completions, stats.alternates) == (2, 1, 1)
    assert (stats.refusals, stats.teachers) == (1, 1)
    assert stats.schema_version == SCHEMA_VERSION
    assert stats.file_bytes > 32_000


@pytest.mark.parametrize(
    "text", ["\0", "a\0b\ufdd0c\ufdd00\ufdd01", "\ufdd0", "\U0010ffff", "word " * 10**6]
)
def test_every_text_comes_back_as_it_was(store, make_entry, text):
    """Also what PostgreSQL has no place for in a text, and five megabytes."""
    answer = Completion(text, "stop", None, {"reasoning": text})
    entry = make_entry(text, answer, compressed_text=text)
    store.commit([entry]).result()
    assert _served(store, entry).answer == answer
    query = select(requests.c.compressed_text, requests.c.document)
    assert store.query(lambda connection: connection.execute(query).all()) == [
        (text, entry.fingerprint.document)
    ]


def test_a_reader_sees_each_commit_of_the_writer(store, make_entry, place):
    """Reading takes no lock, and a look-up sees all that was committed before it."""
    with CompletionStore.open(place, read_only=True) as reader:
        for number in range(3):
            entry = make_entry(str(number))
            assert _served(reader, entry) is None
            store.commit([entry]).result()
            assert _served(reader, entry).answer.text == "Yes."


def test_a_reader_cannot_write(store, make_entry, place, teacher):
    """Every way to add something says that the store was opened read-only."""
    with CompletionStore.open(place, read_only=True) as reader:
        for write in (
            lambda: reader.commit([make_entry("q")]),
            lambda: reader.register_teacher(teacher),
            reader.check_writable,
        ):
            with pytest.raises(StoreReadOnly, match="opened read-only"):
                write()
        assert reader.stats().teachers == 1
        assert reader.teachers()[0].digest == teacher.digest


def test_closing_finishes_what_was_submitted(place, teacher, make_entry):
    """Futures that are open at `close` are resolved, and their entries are there afterwards."""
    with CompletionStore.open(place) as store:
        store.register_teacher(teacher)
        futures = [store.commit([make_entry(str(number))]) for number in range(100)]
    assert all(future.done() for future in futures)
    with CompletionStore.open(place) as store:
        assert store.stats().completions == 100


def test_a_closed_store_refuses_to_commit(store, make_entry):
    """The message says what to do; closing twice is harmless."""
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed; open it again"):
        store.commit([make_entry("q")])
    with pytest.raises(StoreError, match="closed"):
        store.lookup([make_entry("q").fingerprint.key])


def test_many_threads_share_one_writer(store, make_entry):
    """Twelve threads that commit and look up the same keys all get one and the same answer."""
    keys = 40
    seen = [{} for _ in range(12)]

    def work(number):
        for key in range(keys):
            entry = make_entry(str(key), f"from thread {number}")
            [served] = store.commit([entry]).result(timeout=30)
            assert _served(store, entry) == served
            seen[number][served.key] = served.answer.text

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answers == seen[0] for answers in seen)
    assert len(seen[0]) == keys
    stats = store.stats()
    assert (stats.completions, stats.alternates) == (keys, keys * 11)
