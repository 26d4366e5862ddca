"""Every fault of an upstream, and its stated outcome; the service is real, and so is the wire."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from teacher_service.backends import retries
from tests.faulty_upstream import TRANSIENT, faulty_upstream


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.02)


@pytest.fixture
def faulty():
    """An upstream that can be told what goes wrong."""
    with faulty_upstream() as upstream:
        yield upstream


@pytest.fixture
def start_on(start, faulty):
    """Start a service whose teacher is that upstream; sections are changed key by key."""

    def start_it(**changes):
        openai = {"total_timeout_s": 30, "attempt_timeout_s": 0.5, **changes.pop("openai", {})}
        return start(**faulty.settings(openai=openai, **changes))

    return start_it


QUESTION = {"text": "Anna has the budget.", "question": "Who has the budget?"}


def ask(service, *names):
    """The outcomes of one question about texts that differ in a name."""
    texts = [QUESTION["text"].replace("Anna", name) for name in names or ["Anna"]]
    return service.batch([{**QUESTION, "text": text} for text in texts]).json()["data"]


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_fault_that_passes_is_outlasted(start_on, faulty, fault):
    """Two faults, then the right answer, stored; a Retry-After is the least to wait."""
    service = start_on()
    faulty.faults, faulty.share = [fault], 1.0
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, service)
        while faulty.met.total() < 2:
            assert not asked.done()
            time.sleep(0.002)
        faulty.share = 0.0
        [item] = asked.result()
    assert item["outcome"] == "completed"
    assert item["text"]
    assert service.completions_stored() == 1
    if fault == "429 with Retry-After":
        assert time.monotonic() - started >= 2


@pytest.mark.parametrize(
    ("fault", "outcome", "kind"),
    [
        ("exhausted quota", "failed", "insufficient_quota"),
        ("refused key", "failed", "upstream_error"),
        ("filtered prompt", "refused", "content_filter"),
        ("filtered answer", "refused", "content_filter"),
        ("wrong schema", "failed", "upstream_error"),
        ("empty choices", "failed", "upstream_error"),
        ("endless reply", "failed", "upstream_error"),
        ("packed reply", "failed", "upstream_error"),
        ("another model", "failed", "upstream_error"),
    ],
)
def test_a_fault_that_lasts_has_its_stated_outcome(start_on, faulty, fault, outcome, kind):
    """None is an answer, so that none can become a reward, and no failure is stored."""
    service = start_on(openai={"total_timeout_s": 0.5})
    faulty.faults, faulty.share = [fault], 1.0
    [item] = ask(service)
    assert item["outcome"] == outcome
    assert (item["reason"] if outcome == "refused" else item["error"]["type"]) == kind
    assert "text" not in item
    assert service.completions_stored() == 0


@pytest.mark.parametrize("fault", ["exhausted quota", "refused key"])
def test_nobody_knocks_again_where_the_door_stays_shut(start_on, faulty, fault):
    """One call learns it, the others are told; when a probe is let in, all are."""
    service = start_on(openai={"max_concurrency": 1}, upstream={"breaker_rest_s": 0.3})
    faulty.faults, faulty.share = [fault], 1.0
    items = ask(service, "Bob", "Eve", "Ida", "Jim")
    assert {item["outcome"] for item in items} == {"failed"}
    assert faulty.calls.total() == 1
    faulty.share = 0.0
    time.sleep(0.4)
    assert [item["outcome"] for item in ask(service, "Bob", "Eve")] == ["completed"] * 2


def test_an_outage_opens_the_breaker_and_those_who_wait_are_served_after_it(start_on, faulty):
    """While it is open nobody is asked; the first probe that comes back lets all through."""
    service = start_on(upstream={"breaker_failures": 3, "breaker_rest_s": 0.4})
    faulty.faults, faulty.share = ["503"], 1.0
    names = [f"Name{number}" for number in range(12)]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, service, *names)
        time.sleep(1.0)
        met = faulty.met.total()
        faulty.share = 0.0
        items = asked.result()
    assert [item["outcome"] for item in items] == ["completed"] * 12
    assert met <= 12 + 3  # Each once before anyone knew, then a probe or two.


def test_an_upstream_that_fails_everything_is_not_asked_twice_as_much(start_on, faulty):
    """Retries stay within their share of the calls and the reserve.

    With time for each: an attempt that ends before it arrives is one that the upstream never sees.
    """
    limits = {"retry_share": 0.2, "retry_reserve": 5, "breaker_failures": 10_000}
    service = start_on(upstream=limits, openai={"attempt_timeout_s": 30, "total_timeout_s": 120})
    faulty.faults, faulty.share = ["500"], 1.0
    items = ask(service, *[f"Name{number}" for number in range(50)])
    assert {item["outcome"] for item in items} == {"failed"}
    assert 50 < faulty.calls.total() <= 50 + 5 + 0.2 * 50


def test_calls_beyond_the_budget_are_not_made(start_on, faulty):
    """What fits is answered and stored, what does not says why; hits are still served."""
    service = start_on(budget={"calls": 3})
    items = ask(service, "Bob", "Eve", "Ida", "Jim", "Kim")
    assert [item["outcome"] for item in items].count("completed") == 3
    failed = next(item for item in items if item["outcome"] == "failed")
    assert failed["error"]["type"] == "budget_exhausted"
    assert "budget.calls allows 3" in failed["error"]["message"]
    assert faulty.calls.total() == service.completions_stored() == 3
    again = ask(service, "Bob", "Eve", "Ida", "Jim", "Kim")
    assert [item["outcome"] for item in again] == [item["outcome"] for item in items]
    reply = service.chat("another")
    assert (reply.status_code, reply.headers["x-should-retry"]) == (429, "false")


def test_money_beyond_the_budget_is_not_spent(start_on, faulty):
    """Each answer takes 30 tokens in and 2 out, here 34 dollars."""
    prices = {"input_per_million": 1e6, "output_per_million": 2e6}
    service = start_on(prices=prices, budget={"usd": 60}, openai={"max_concurrency": 1})
    outcomes = [item["outcome"] for item in ask(service, "Bob", "Eve", "Ida", "Jim")]
    assert outcomes == ["completed", "completed", "failed", "failed"]


def test_the_pace_is_held_before_the_upstream_complains(start_on, faulty):
    """600 a minute are one each 100 ms, however many could be under way."""
    service = start_on(upstream={"requests_per_minute": 600})
    started = time.monotonic()
    assert {one["outcome"] for one in ask(service, *"ABCDEF")} == {"completed"}
    assert time.monotonic() - started >= 0.5


def test_the_guard_gives_its_slot_back_to_the_next_when_a_caller_is_cancelled():
    """A service that stops, or a client's closed stream, leaves nothing locked behind."""
    from teacher_service.backends.guard import Guard
    from teacher_service.backends.spending import Spending
    from teacher_service.settings import BudgetSettings, PriceSettings, UpstreamSettings

    async def story():
        spending = Spending(BudgetSettings(), PriceSettings())
        guard = Guard(UpstreamSettings(), spending, max_concurrency=1, total_timeout_s=5)

        async def never():
            await asyncio.Event().wait()

        async def at_once():
            return "answer"

        first = asyncio.create_task(guard.call(never, 0))
        second = asyncio.create_task(guard.call(at_once, 0))
        await asyncio.sleep(0.01)
        assert not second.done()
        first.cancel()
        assert await second == "answer"
        assert guard.slots.taken == 0

    asyncio.run(story())


def test_a_reply_without_an_end_is_broken_off(start_on, faulty):
    """At once, with the limit's name, and not asked for again; the next answer is not affected."""
    service = start_on(upstream={"max_reply_bytes": 2**20}, openai={"attempt_timeout_s": 30})
    faulty.faults, faulty.share = ["endless reply"], 1.0
    [item] = ask(service)
    assert item["error"]["code"] == "reply_too_large"
    assert "over 1048576 bytes (upstream.max_reply_bytes)" in item["error"]["message"]
    assert faulty.calls.total() == 1
    faulty.share = 0.0
    assert ask(service)[0]["outcome"] == "completed"
