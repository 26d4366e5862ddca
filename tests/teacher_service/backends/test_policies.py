"""What decides about a call upstream, each with a clock of the test's own."""

import asyncio

import pytest

from teacher_service.backends.breaker import Breaker
from teacher_service.backends.concurrency import AdaptiveLimit, Slots
from teacher_service.backends.pace import Pace, estimate_tokens
from teacher_service.backends.retries import RetryBudget, pause_s
from teacher_service.backends.spending import Spending
from teacher_service.errors import BudgetExhausted, QuotaExhausted
from teacher_service.settings import BudgetSettings, PriceSettings


class Clock:
    """Seconds that go by when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Time that stands still."""
    return Clock()


@pytest.mark.parametrize(
    ("number", "longest"), [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (2000, 30.0)]
)
def test_pauses_grow_with_full_jitter(number, longest):
    """Anywhere between nothing and a bound that doubles, up to half a minute."""
    assert pause_s(number, 0, draw=lambda: 0.0) == 0
    assert pause_s(number, 0, draw=lambda: 0.5) == longest / 2


def test_a_pause_is_never_below_what_the_upstream_asked_for():
    """Retry-After is the minimum, not the maximum."""
    assert pause_s(0, 7, draw=lambda: 0.9) == 7
    assert pause_s(6, 7, draw=lambda: 0.9) == 27


def test_retries_are_a_share_of_calls():
    """The reserve first; then one retry for four calls; what is saved has a bound."""
    budget = RetryBudget(share=0.25, reserve=2)
    assert [budget.take_retry() for _ in range(3)] == [True, True, False]
    for _ in range(4):
        assert not budget.take_retry()
        budget.add_call()
    assert [budget.take_retry() for _ in range(2)] == [True, False]
    for _ in range(1000):
        budget.add_call()
    assert [budget.take_retry() for _ in range(3)] == [True, True, False]


def test_faults_in_a_row_open_the_breaker_and_one_probe_closes_it(clock):
    """While the probe is under way, the others wait."""
    breaker = Breaker(failures=3, rest_s=5, clock=clock)
    for _ in range(3):
        assert breaker.state == "closed"
        assert breaker.admit() == 0
        breaker.failed()
    assert breaker.state == "open"
    assert breaker.admit() == 5
    clock.now += 5
    assert breaker.state == "half_open"
    assert breaker.admit() == 0
    assert breaker.admit() > 0
    breaker.succeeded()
    assert (breaker.state, breaker.admit()) == ("closed", 0)


def test_a_success_between_faults_keeps_it_closed(clock):
    """Three faults of four calls are a bad day, not an outage."""
    breaker = Breaker(failures=2, rest_s=5, clock=clock)
    for _ in range(10):
        breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"


def test_each_probe_that_fails_doubles_the_rest_up_to_five_minutes(clock):
    """5, 10, 20 ... 300, 300; after a success it is short again."""
    breaker = Breaker(failures=1, rest_s=5, clock=clock)
    rests = []
    for _ in range(8):
        assert breaker.admit() == 0
        breaker.failed()
        rests.append(breaker.admit())
        clock.now += rests[-1]
    assert rests == [5, 10, 20, 40, 80, 160, 300, 300]
    assert breaker.admit() == 0
    breaker.succeeded()
    breaker.failed()
    assert breaker.admit() == 5


def test_what_no_retry_mends_opens_it_at_once_and_is_told_to_all(clock):
    """Until a probe finds that somebody has paid the bill."""
    breaker = Breaker(failures=10, rest_s=5, clock=clock)
    breaker.denied(QuotaExhausted("nothing left", code="insufficient_quota"))
    for _ in range(2):
        with pytest.raises(QuotaExhausted, match="nothing left") as told:
            breaker.admit()
        assert told.value.code == "insufficient_quota"
    clock.now += 5
    assert breaker.admit() == 0
    breaker.succeeded()
    assert breaker.admit() == 0


def test_a_cancelled_probe_leaves_the_next_one_to_another(clock):
    """Else nobody would ever ask again."""
    breaker = Breaker(failures=1, rest_s=5, clock=clock)
    breaker.failed()
    clock.now += 5
    assert breaker.admit() == 0
    breaker.abandoned()
    assert breaker.admit() == 0


def test_the_limit_falls_by_a_share_and_rises_by_one_a_round(clock):
    """From 10 to 7; seven calls that do well make it 8, and never more than it was."""
    limit = AdaptiveLimit(10, clock)
    limit.overloaded(started=clock.now)
    assert limit.limit == 7
    clock.now += 1
    for _ in range(8):
        limit.came_back(started=clock.now)
    assert limit.limit == 8
    for _ in range(1000):
        limit.came_back(started=clock.now)
    assert limit.limit == 10


def test_one_overload_cuts_once_and_never_below_one_call(clock):
    """Ten calls that met the same 429 tell of one overload; ten overloads leave one call."""
    limit = AdaptiveLimit(10, clock)
    for _ in range(10):
        limit.overloaded(started=clock.now)
    assert limit.limit == 7
    for _ in range(20):
        clock.now += 1
        limit.overloaded(started=clock.now)
    assert limit.limit == 1


def test_answers_far_slower_than_usual_are_an_overload(clock):
    """One slow answer is not."""
    limit = AdaptiveLimit(10, clock)

    def answers(count, seconds):
        for _ in range(count):
            started = clock.now
            clock.now += seconds
            limit.came_back(started)

    answers(100, 1)
    answers(1, 12)
    assert limit.limit == 10
    answers(3, 12)
    assert limit.limit < 10


async def _holders(limit: AdaptiveLimit, slots: Slots, count: int):
    release = asyncio.Event()

    async def hold():
        async with slots:
            await release.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks, release


def test_slots_follow_the_limit_and_lose_none_to_cancelled_callers(clock):
    """Two of five run; whoever is cancelled, waiting or running, makes room for the next."""

    async def story():
        limit = AdaptiveLimit(2, clock)
        slots = Slots(limit)
        tasks, release = await _holders(limit, slots, 5)
        assert (slots.taken, slots.waiting) == (2, 3)
        tasks[2].cancel()
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        assert (slots.taken, slots.waiting) == (2, 1)
        limit.overloaded(clock.now)
        tasks[1].cancel()
        await asyncio.sleep(0.01)
        assert (slots.taken, slots.waiting) == (1, 1)
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (slots.taken, slots.waiting) == (0, 0)

    asyncio.run(story())


def test_requests_are_spaced_so_that_no_minute_has_too_many(clock):
    """60 a minute: one a second, also after an idle hour."""
    pace = Pace(60, None, clock)
    assert [pace.reserve(10**6) for _ in range(3)] == [0, 1, 2]
    clock.now += 3600
    assert [pace.reserve(0) for _ in range(2)] == [0, 1]


def test_tokens_are_spaced_and_corrected_by_what_was_used(clock):
    """600 a minute: 100 tokens take ten seconds, or two where it were only 20."""
    pace = Pace(None, 600, clock)
    assert pace.reserve(100) == 0
    pace.correct(reserved=100, used=20)
    assert pace.reserve(100) == 2
    assert Pace(None, None, clock).reserve(10**9) == 0


def test_nobody_calls_before_the_upstream_listens_again(clock):
    """A Retry-After holds for all, not only for who was told."""
    pace = Pace(None, None, clock)
    pace.hold(8)
    assert pace.reserve(1) == 8
    clock.now += 8
    assert pace.reserve(1) == 0


def test_a_request_may_take_its_prompt_and_its_longest_answer():
    """A token for four bytes; either name of the limit."""
    messages = [{"role": "user", "content": "x" * 400}]
    assert estimate_tokens({"messages": messages, "max_tokens": 50}) in range(150, 170)
    assert estimate_tokens({"prompt": "x" * 398, "max_completion_tokens": 7}) == 107


def test_calls_beyond_the_budget_are_refused():
    """The message names the key, and what to do."""
    spending = Spending(BudgetSettings(calls=2), PriceSettings())
    spending.start_call()
    spending.start_call()
    with pytest.raises(BudgetExhausted, match=r"budget\.calls allows 2, 2 are spent.*raise it"):
        spending.start_call()
    assert spending.calls == 2


def test_money_is_counted_by_the_prices():
    """A million tokens in at 2, half a million out at 4: the four dollars are gone."""
    prices = PriceSettings(input_per_million=2, output_per_million=4)
    spending = Spending(BudgetSettings(usd=4), prices)
    spending.start_call()
    spending.pay({"prompt_tokens": 10**6, "completion_tokens": 499_999})
    spending.start_call()
    spending.pay(None)
    spending.pay({"prompt_tokens": 0, "completion_tokens": 1})
    with pytest.raises(BudgetExhausted, match=r"budget\.usd allows 4, 4 are spent"):
        spending.start_call()
