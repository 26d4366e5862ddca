import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx2
import pytest

from cache import Completion, CompletionStore, NewEntry
from teacher_service.backends.builtin import BuiltinBackend
from teacher_service.cache_control import CacheControl
from teacher_service.service import Teacher

PLAIN = CacheControl()


@pytest.fixture
def store(store_path):
    """A store of the test's own, with no service in front."""
    with CompletionStore.open(store_path) as store:
        yield store


def test_a_thousand_identical_requests_are_one_call(start_hosted, upstream, ask_a_thousand_times):
    """The upstream answers when all have come; one was the miss, all others waited for it."""
    service = start_hosted()
    replies = ask_a_thousand_times(service.url)
    assert {reply.status_code for reply in replies} == {200}
    assert all(reply.json() == replies[0].json() for reply in replies)
    assert len(upstream.requests) == 1
    counts = service.since_start()
    assert counts["backend_calls"] == counts["misses"] == 1
    assert counts["hits"] + counts["collapsed"] == 999
    joined = [reply for reply in replies if "collapsed" in reply.headers["Cache-Status"]]
    assert len(joined) == counts["collapsed"] > 0
    assert all("stored" not in reply.headers["Cache-Status"] for reply in joined)
    assert "hit" in service.chat("one").headers["Cache-Status"]


def test_the_work_goes_on_when_its_client_leaves(start):
    """The answer is stored, and those who joined the flight get it."""
    service = start(builtin={"latency_ms": 600})
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(
            f"{service.url}/v1/chat/completions",
            json={"model": "builtin", "messages": [{"role": "user", "content": "one"}]},
            timeout=0.2,
        )
    assert "collapsed" in service.chat("one").headers["Cache-Status"]
    assert "hit" in service.chat("one").headers["Cache-Status"]
    assert service.since_start()["backend_calls"] == 1


def test_no_answer_leaves_before_its_commit(service, store_path):
    """While the store cannot commit, the client waits."""
    service.chat("warm up")
    with (
        closing(sqlite3.connect(store_path, isolation_level=None)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute("BEGIN IMMEDIATE")
        reply = pool.submit(service.chat, "one")
        time.sleep(0.5)
        assert service.since_start()["backend_calls"] == 2
        assert not reply.done()
        other.execute("ROLLBACK")
        assert reply.result().status_code == 200


def test_past_the_deadline_the_answer_is_still_stored(start):
    """504 now, a hit later."""
    service = start(builtin={"latency_ms": 500})
    late = service.chat("one", headers={"X-Deadline-Ms": "50"})
    assert late.status_code == 504
    assert late.json()["error"]["type"] == "deadline_exceeded"
    assert "x-should-retry" not in late.headers
    assert service.chat("one").status_code == 200
    assert service.since_start()["backend_calls"] == 1


@pytest.mark.parametrize("directive", ["no-store", "no-cache"])
def test_who_wants_it_fresh_or_unstored_flies_alone(start, directive):
    """Neither joins a flight, nor is joined."""
    service = start(builtin={"latency_ms": 400})
    headers = {"Cache-Control": directive}
    with ThreadPoolExecutor(3) as pool:
        asks = [pool.submit(service.chat, "one")]
        asks += [pool.submit(service.chat, "one", headers) for _ in range(2)]
        assert {ask.result().status_code for ask in asks} == {200}
    assert service.since_start()["backend_calls"] == 3


def test_a_failed_flight_fails_for_all_and_is_not_kept(start_hosted, upstream):
    """The next request tries anew."""
    service = start_hosted()

    def slow_refusal():
        time.sleep(0.5)
        return upstream.error(422)

    upstream.script = [slow_refusal]
    with ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(lambda _: service.chat("one"), range(5)))
    assert {reply.status_code for reply in replies} == {400}
    assert len(upstream.requests) == 1
    assert service.completions_stored() == 0
    assert service.chat("one").status_code == 200


def test_what_was_stored_since_the_first_look_is_found_by_the_second(store):
    """Registered first, then looked up again: no call is made for it."""

    async def scenario():
        teacher = _teacher(store)
        ask = teacher.ask("chat/completions", {"messages": [{"role": "user", "content": "one"}]})
        tickets = teacher.submit([ask], PLAIN)
        entry = NewEntry(
            ask.fingerprint, teacher.identity.digest, None, Completion("theirs", "stop")
        )
        store.commit([entry]).result()
        [outcome] = await teacher.settle(tickets, None)
        return outcome, teacher.counters.backend_calls

    outcome, backend_calls = asyncio.run(scenario())
    assert outcome.result.text == "theirs"
    assert outcome.served == "hit"
    assert backend_calls == 0


def test_a_cancelled_waiter_takes_nothing_with_it(store):
    """The flight belongs to the service."""

    async def scenario():
        teacher = _teacher(store, latency_ms=200)
        ask = teacher.ask("chat/completions", {"messages": [{"role": "user", "content": "one"}]})
        leader = asyncio.create_task(teacher.settle(teacher.submit([ask], PLAIN), None))
        follower = asyncio.create_task(teacher.settle(teacher.submit([ask], PLAIN), None))
        await asyncio.sleep(0.05)
        leader.cancel()
        [outcome] = await follower
        return outcome

    assert asyncio.run(scenario()).served == "collapsed"
    assert store.stats().completions == 1


def test_too_much_at_one_time_is_told_to_wait(start):
    """429 with Retry-After for what is new; what is stored is served."""
    service = start(builtin={"latency_ms": 400}, max_in_flight=1)
    service.chat("stored")
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(service.chat, "one")
        time.sleep(0.2)
        turned_away = service.chat("two")
        assert service.chat("stored").status_code == 200
        assert under_way.result().status_code == 200
    assert turned_away.status_code == 429
    assert turned_away.headers["Retry-After"] == "1"
    assert service.chat("two").status_code == 200


def _teacher(store, latency_ms: float = 0) -> Teacher:
    backend = BuiltinBackend(latency_ms)
    store.register_teacher(backend.identity)
    return Teacher(backend.identity, store, backend, max_in_flight=10)
