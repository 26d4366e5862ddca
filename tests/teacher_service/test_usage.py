import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from cache import Amount, CompletionStore
from cache.ledger import read_ledger, read_run, read_runs, uses_of_key
from teacher_service.settings import PriceSettings

PRICES = {"input_per_million": 2.0, "output_per_million": 10.0}


@pytest.fixture
def ask_store(store_path):
    """What a report says about the test's store."""

    def ask(report, **arguments):
        with CompletionStore.open(store_path, read_only=True) as store:
            return store.query(partial(report, **arguments))

    return ask


def _of(run, step=None):
    return {"X-Taco-Run": run} | ({} if step is None else {"X-Taco-Step": str(step)})


def test_a_run_s_uses_are_known_after_a_stop(run_service, ask_store):
    """Which key, at which step, and how it was served."""
    with run_service() as service:
        first = service.batch([{"text": "a"}, {"text": "b"}], headers=_of("one", 1))
        service.batch([{"text": "a"}, {"text": "a"}], headers=_of("one", 2))
        service.batch([{"text": "a"}], headers=_of("two"))
    key = bytes.fromhex(first.json()["data"][0]["key"])
    uses = ask_store(uses_of_key, key=key)
    assert [(use.run, use.step, use.served, use.uses) for use in uses] == [
        ("one", 1, "miss", 1),
        ("one", 2, "hit", 2),
        ("two", None, "hit", 1),
    ]
    one = ask_store(read_run, name="one")
    assert (one.keys, one.first_step, one.last_step) == (2, 1, 2)
    assert one.summary.answers == {"miss": 2, "hit": 2}


def test_tokens_and_money_are_booked_as_spent_or_saved(run_service, ask_store):
    """At the settings' prices, from the usage that is stored with each answer."""
    with run_service(prices=PRICES) as service:
        replies = [service.chat("one two three", headers=_of(run)) for run in ("a", "a", "b")]
    assert [reply.json()["usage"] for reply in replies] == [
        {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    ] * 3
    [total] = ask_store(read_ledger)
    assert total.currency == "USD"
    assert total.spent == Amount(1, 0, 3, 1, pytest.approx(16e-6))
    assert total.saved_by_hits == Amount(2, 0, 6, 2, pytest.approx(32e-6))
    assert total.saved_by_collapsing == Amount()
    [line] = ask_store(read_ledger, run="b")
    assert (line.spent, line.saved_by_hits.money) == (Amount(), pytest.approx(16e-6))


def test_collapsed_requests_are_booked_as_saved(run_service, ask_store):
    """One is spent, whoever waited with it was saved a call."""
    with (
        run_service(builtin={"latency_ms": 300}) as service,
        ThreadPoolExecutor(5) as pool,
    ):
        list(pool.map(lambda _: service.chat("the same", headers=_of("one")), range(5)))
    [line] = ask_store(read_ledger)
    assert line.currency == ""
    assert (line.spent.answers, line.saved_by_collapsing.answers) == (1, 4)
    assert ask_store(read_run, name="one").summary.answers == {"miss": 1, "collapsed": 4}


def test_notes_are_written_about_every_second(service, ask_store):
    """While the service runs, and without a request to trigger it."""
    service.chat("one", headers=_of("one"))
    assert ask_store(read_runs) == []
    deadline = time.monotonic() + 10
    while not ask_store(read_runs):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_names_no_run_is_in_the_total_alone(run_service, ask_store):
    """It is no run, and its keys are not listed."""
    with run_service() as service:
        key = bytes.fromhex(service.batch([{"text": "a"}]).json()["data"][0]["key"])
    assert ask_store(read_ledger)[0].spent.answers == 1
    assert ask_store(read_runs) == []
    assert ask_store(uses_of_key, key=key) == []


def test_an_answer_that_came_too_late_is_booked_all_the_same(run_service, ask_store):
    """It was paid for, though its client had gone."""
    with run_service(builtin={"latency_ms": 300}) as service:
        late = service.chat("one", headers={**_of("one"), "X-Deadline-Ms": "50"})
        assert late.status_code == 504
    assert ask_store(read_run, name="one").summary.answers == {"miss": 1}


def test_what_is_not_stored_is_paid_for_and_no_use(run_service, ask_store):
    """`no-store` leaves nothing that the run could need again."""
    with run_service() as service:
        service.chat("one", headers={**_of("one"), "Cache-Control": "no-store"})
    one = ask_store(read_run, name="one")
    assert (one.summary.answers, one.keys) == ({"miss": 1}, 0)


def test_failures_are_not_booked(start_hosted, upstream, ask_store):
    """Nobody knows what they cost; an answer without usage counts as unmetered."""
    service = start_hosted()
    upstream.script = [upstream.error(400), upstream.chat(usage=None)]
    for content in ("bad", "unmetered"):
        service.chat(content, headers=_of("one"))
    time.sleep(1.5)
    assert ask_store(read_ledger)[0].spent == Amount(answers=1, unmetered=1)


@pytest.mark.parametrize(
    "headers",
    [{"X-Taco-Run": "x" * 201}, {"X-Taco-Run": ""}, {"X-Taco-Step": "-1"}, {"X-Taco-Step": "one"}],
)
def test_a_malformed_caller_is_refused(service, headers):
    """With the header's name in the message."""
    reply = service.chat("one", headers=headers)
    assert reply.status_code == 400
    assert next(iter(headers)) in reply.json()["error"]["message"]


def test_a_price_that_is_not_set_is_nothing():
    """And without any, there is no currency."""
    assert PriceSettings().unit == ""
    half = PriceSettings(output_per_million=4.0, currency="EUR")
    assert (half.unit, half.of(10**6, 10**6)) == ("EUR", 4.0)
