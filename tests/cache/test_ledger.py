from functools import partial

import pytest

from cache import Account, Amount, CompletionStore, StoreReadOnly, Use
from cache.ledger import KeyUse, LedgerLine, read_ledger, read_run, read_runs, uses_of_key

KEY, OTHER_KEY = bytes(32), bytes(31) + b"\1"


@pytest.fixture
def place(any_place):
    """Every test runs on each database."""
    return any_place


@pytest.fixture
def book(store, teacher):
    """Book one amount of a run, and wait for the disk."""

    def book_it(run, served, amount, currency="USD"):
        account = Account(run, teacher.digest, served, currency)
        store.record_uses({}, {account: amount}).result()

    return book_it


def test_what_is_booked_is_added_to_what_was(store, book, teacher):
    """In total, and for each run alone."""
    book("one", "miss", Amount(2, 1, 100, 10, 0.5))
    book("one", "miss", Amount(1, 0, 50, 5, 0.25))
    book("one", "hit", Amount(4, 0, 200, 20, 1.0))
    book("two", "miss", Amount(1, 0, 1, 1, 0.125))
    book("two", "collapsed", Amount(3, 0, 3, 3, 0.375))
    assert store.query(read_ledger) == [
        LedgerLine(
            teacher.digest,
            teacher.name,
            "USD",
            spent=Amount(4, 1, 151, 16, 0.875),
            saved_by_hits=Amount(4, 0, 200, 20, 1.0),
            saved_by_collapsing=Amount(3, 0, 3, 3, 0.375),
        )
    ]
    [line] = store.query(partial(read_ledger, run="one"))
    assert (line.spent, line.saved_by_collapsing) == (Amount(3, 1, 150, 15, 0.75), Amount())
    assert store.query(partial(read_ledger, run="none")) == []


def test_currencies_are_never_added_together(store, book):
    """A line for each; '' is for the time before there were prices."""
    book("one", "miss", Amount(1, money=1.0), "USD")
    book("one", "miss", Amount(1, money=2.0), "EUR")
    book("one", "miss", Amount(1), "")
    lines = store.query(read_ledger)
    assert [(line.currency, line.spent.money) for line in lines] == [
        ("", 0.0),
        ("EUR", 2.0),
        ("USD", 1.0),
    ]


def test_runs_are_listed_by_their_last_use(store, book):
    """The latest first; what names no run counts in the total and is no run."""
    for run in ("one", "two", "", "one"):
        book(run, "miss", Amount(1))
    book("one", "hit", Amount(5))
    one, two = store.query(read_runs)
    assert (one.name, one.answers) == ("one", {"miss": 2, "hit": 5})
    assert (two.name, two.answers) == ("two", {"miss": 1})
    assert one.started_at < two.started_at < one.last_used_at
    assert store.query(read_ledger)[0].spent.answers == 4


def test_a_run_knows_its_keys_and_steps(store):
    """Each key counts once, however often it was used."""
    uses = {
        Use("one", 1, KEY, "miss"): 1,
        Use("one", 1, KEY, "collapsed"): 7,
        Use("one", 3, KEY, "hit"): 1,
        Use("one", 2, OTHER_KEY, "miss"): 1,
        Use("two", None, KEY, "hit"): 1,
    }
    store.record_uses(uses, {}).result()
    one, two = (store.query(partial(read_run, name=name)) for name in ("one", "two"))
    assert (one.keys, one.first_step, one.last_step) == (2, 1, 3)
    assert (two.keys, two.first_step, two.last_step) == (1, None, None)
    assert store.query(partial(read_run, name="three")) is None


def test_a_key_knows_the_runs_that_used_it(store):
    """With step, how it was served, and how often."""
    store.record_uses({Use("one", 1, KEY, "miss"): 1, Use("one", 1, KEY, "hit"): 7}, {}).result()
    store.record_uses({Use("two", None, KEY, "hit"): 1, Use("two", 4, OTHER_KEY, "hit"): 1}, {})
    store.commit([]).result()
    assert store.query(partial(uses_of_key, key=KEY)) == [
        KeyUse("one", 1, "miss", 1),
        KeyUse("one", 1, "hit", 7),
        KeyUse("two", None, "hit", 1),
    ]


def test_a_store_open_for_reading_takes_no_notes(store, place):
    """Refused like any other write."""
    with CompletionStore.open(place, read_only=True) as reader, pytest.raises(StoreReadOnly):
        reader.record_uses({}, {})
