import logging
import random
import socket
import threading
import time

import pytest

from trainer.errors import ConfigError, TeacherRejected, TeacherUnreachable
from trainer.rollouts.batch_wire import split
from trainer.rollouts.teacher_client import TeacherClient, recognise
from trainer.rollouts.teacher_counts import TeacherCounts
from trainer.types import Outcome, Served, TeacherItem, TeacherReply

BUSY = {"error": {"message": "too much at once", "type": "rate_limit_error"}}


def connect(server, **settings):
    """A client with short times."""
    settings = {
        "timeout_s": 10,
        "gone_after_s": 5,
        "prompt_template": "Read: {transcript}",
    } | settings
    return TeacherClient.connect(
        server.url, model="gpt-35-turbo", sampling={"temperature": 0, "max_tokens": 9}, **settings
    )


def texts(replies):
    """What was answered."""
    return [reply.text for reply in replies]


@pytest.fixture
def dead_url():
    """A URL at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def test_a_batch_is_one_request(ours):
    """Template, items and sampling fields travel together; the service renders."""
    with connect(ours, system_message="Be brief.", api_key="sesame") as teacher:
        replies = teacher.complete([TeacherItem("ann"), TeacherItem("bob", "who?")])
        assert teacher.is_ours
    assert replies == [
        TeacherReply(Outcome.SCORED, "ANN", f"{0:064x}", f"{100:064x}", Served.MISS),
        TeacherReply(Outcome.SCORED, "BOB", f"{1:064x}", f"{101:064x}", Served.MISS),
    ]
    [seen] = ours.seen
    assert seen.path == "/v1/teacher/completions"
    assert seen.headers["authorization"] == "Bearer sesame"
    assert 0 < int(seen.headers["x-deadline-ms"]) <= 10_000
    assert seen.body == {
        "model": "gpt-35-turbo",
        "prompt_template": "Read: {transcript}",
        "system_message": "Be brief.",
        "temperature": 0,
        "max_tokens": 9,
        "items": [{"text": "ann", "question": None}, {"text": "bob", "question": "who?"}],
    }


def test_nothing_to_ask_asks_nothing(ours):
    """An empty batch costs no request."""
    with connect(ours) as teacher:
        assert teacher.complete([]) == []
    assert ours.seen == []


def test_a_large_batch_travels_as_several_requests_in_order(ours):
    """Beyond the limit the batch is split; the replies are in the order of the items."""
    items = [TeacherItem(f"text {number}") for number in range(1100)]
    with connect(ours) as teacher:
        assert texts(teacher.complete(items)) == [item.text.upper() for item in items]
    assert sorted(len(seen.body["items"]) for seen in ours.seen) == [76, 512, 512]


def test_requests_are_split_by_number_and_by_size():
    """Both limits hold, the question counts, and one text over the limit travels alone."""
    a, b, c, huge = (TeacherItem(x) for x in ("aaaa", "bbb", "cccc", "x" * 99))
    asked = TeacherItem("aaaa", "why?")
    assert list(split([a, b, c], 2, 100)) == [[a, b], [c]]
    assert list(split([a, b, c], 9, 7)) == [[a, b], [c]]
    assert list(split([asked, b], 9, 8)) == [[asked], [b]]
    assert list(split([a, huge, b], 9, 10)) == [[a], [huge], [b]]
    assert list(split([], 9, 10)) == []


def test_outcomes_of_items_are_values(ours):
    """A refusal and a failure come back as replies, beside the answers."""
    refused = ours.completed(1, "") | {"outcome": "refused", "reason": "content_filter"}
    refused |= {"message": "violence", "cache": "hit"}
    ours.then_answer(200, {"data": [ours.completed(0, ""), refused, ours.failed(2, "cache_miss")]})
    with connect(ours) as teacher:
        empty, refusal, failure = teacher.complete([TeacherItem(text) for text in "abc"])
        assert teacher.counts == TeacherCounts(asked=3, hits=1, misses=1, refused=1, failed=1)
    assert (empty.outcome, empty.text) == (Outcome.SCORED, "")
    assert (refusal.outcome, refusal.error) == (Outcome.REFUSED, "content_filter: violence")
    assert refusal.content_digest == f"{101:064x}"
    assert failure == TeacherReply(Outcome.FAILED, error="cache_miss: no luck")


@pytest.mark.parametrize(
    ("kind", "asked"),
    [("upstream_error", 2), ("deadline_exceeded", 2), ("cache_miss", 1), ("store_unavailable", 1)],
)
def test_a_failed_item_is_asked_once_more_unless_that_is_in_vain(ours, kind, asked):
    """Only the failed item travels again, and only once."""
    ours.then_answer(200, {"data": [ours.completed(0, "a"), ours.failed(1, kind)]})
    ours.then_answer(200, {"data": [ours.failed(0, kind)]})
    with connect(ours) as teacher:
        first, second = teacher.complete([TeacherItem("a"), TeacherItem("b")])
        assert teacher.counts == TeacherCounts(asked=2, misses=1, failed=1)
    assert first.text == "A"
    assert second == TeacherReply(Outcome.FAILED, error=f"{kind}: no luck")
    assert [len(seen.body["items"]) for seen in ours.seen] == [2, 1][:asked]


def test_an_item_that_recovers_is_answered(ours):
    """The second asking counts, in the item's own place."""
    data = [ours.failed(0, "upstream_error"), ours.completed(1, "b"), ours.failed(2, "x")]
    ours.then_answer(200, {"data": data})
    with connect(ours) as teacher:
        assert texts(teacher.complete([TeacherItem(text) for text in "abc"])) == ["A", "B", "C"]
        assert teacher.counts == TeacherCounts(asked=3, misses=3)


def test_an_outage_is_waited_out_item_by_item(ours):
    """An item is asked again for as long as the service says when to come again."""
    for _ in range(3):
        ours.then_answer(200, {"data": [ours.failed(0, "upstream_error", retry_after_s=0.15)]})
    with connect(ours) as teacher:
        started = time.monotonic()
        assert texts(teacher.complete([TeacherItem("a")])) == ["A"]
    assert time.monotonic() - started >= 0.45
    assert len(ours.seen) == 4


def test_an_outage_beyond_the_total_time_is_not_waited_for(ours):
    """The item has failed at once when waiting cannot help."""
    ours.then_answer(200, {"data": [ours.failed(0, "upstream_error", retry_after_s=3600)]})
    with connect(ours) as teacher:
        [reply] = teacher.complete([TeacherItem("a")])
    assert reply.outcome is Outcome.FAILED
    assert len(ours.seen) == 1


def test_lost_requests_are_sent_again(ours, caplog):
    """Resets and busy answers on our own hop are waited out, and mentioned once."""
    ours.then_reset(2)
    ours.then_answer(503, {"error": {"message": "starting"}})
    with connect(ours) as teacher, caplog.at_level(logging.WARNING):
        assert texts(teacher.complete([TeacherItem("a")])) == ["A"]
    assert len(ours.seen) == 4
    assert len([record for record in caplog.records if record.name.startswith("trainer")]) == 1


def test_retry_after_is_the_shortest_pause(ours):
    """A full queue says when to come again."""
    ours.then_answer(429, BUSY, Retry_After="0.4")
    with connect(ours) as teacher:
        started = time.monotonic()
        assert texts(teacher.complete([TeacherItem("a")])) == ["A"]
    assert time.monotonic() - started >= 0.4


def test_a_retry_after_beyond_the_total_time_is_not_waited_for(ours):
    """When waiting cannot help the call ends at once, and says why."""
    ours.then_answer(429, BUSY, Retry_After="3600")
    started = time.monotonic()
    with (
        connect(ours) as teacher,
        pytest.raises(TeacherUnreachable, match=r"busy \(HTTP 429: too much at once\)"),
    ):
        teacher.complete([TeacherItem("a")])
    assert time.monotonic() - started < 5


def test_a_server_that_hangs_ends_the_call_after_its_total_time(ours):
    """No request outlives the total time by much."""
    ours.then_hang()
    started = time.monotonic()
    with connect(ours, timeout_s=0.3) as teacher, pytest.raises(TeacherUnreachable):
        teacher.complete([TeacherItem("a")])
    assert time.monotonic() - started < 5


def test_a_server_that_went_away_is_not_waited_for_longer_than_allowed(ours):
    """Silence has its own, shorter limit; the message says what to do."""
    ours.then_reset(1000)
    started = time.monotonic()
    with (
        connect(ours, gone_after_s=0.5, timeout_s=600) as teacher,
        pytest.raises(TeacherUnreachable, match="taco serve"),
    ):
        teacher.complete([TeacherItem("a")])
    assert time.monotonic() - started < 10


def test_a_busy_server_is_not_a_silent_one(ours):
    """Any answer ends the silence: the limit counts from the next lost request on."""
    ours.then_reset()
    ours.then_answer(429, BUSY, Retry_After="0.6")
    ours.then_reset()
    with connect(ours, gone_after_s=0.5) as teacher:
        assert texts(teacher.complete([TeacherItem("a")])) == ["A"]


@pytest.mark.parametrize(
    ("status", "kind", "part"),
    [
        (400, "invalid_request_error", "HTTP 400: mind the gap"),
        (401, "invalid_request_error", "is TACO_TEACHER_KEY right?"),
        (404, "invalid_request_error", "HTTP 404: mind the gap"),
        (429, "insufficient_quota", "HTTP 429: mind the gap"),
        (500, "server_error", "HTTP 500: mind the gap"),
        (507, "store_unavailable", "HTTP 507: mind the gap"),
    ],
)
def test_a_request_refused_as_a_whole_is_an_error_with_the_services_words(ours, status, kind, part):
    """Asking again would not help: it is not done."""
    ours.then_answer(status, {"error": {"message": "mind the gap", "type": kind}})
    with connect(ours) as teacher, pytest.raises(TeacherRejected) as raised:
        teacher.complete([TeacherItem("a")])
    assert part in str(raised.value)
    assert len(ours.seen) == 1


def test_a_server_may_say_that_asking_again_is_in_vain(ours):
    """`x-should-retry: false` is believed."""
    ours.then_answer(503, {"error": {"message": "for good"}}, x_should_retry="false")
    with connect(ours) as teacher, pytest.raises(TeacherRejected, match="for good"):
        teacher.complete([TeacherItem("a")])


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"<html>hello</html>", "Invalid JSON"),
        (b'{"data": [', "Invalid JSON"),
        ({"data": []}, "0 outcomes for 1 items"),
        ({"data": [{"outcome": "completed"}]}, "text"),
        ({"data": [{"outcome": "guessed"}]}, "guessed"),
        ({"choices": []}, "data"),
    ],
)
def test_an_answer_of_another_form_is_an_error(ours, body, part):
    """Malformed and short answers never become rewards."""
    ours.then_answer(200, body)
    with connect(ours) as teacher, pytest.raises(TeacherRejected) as raised:
        teacher.complete([TeacherItem("a")])
    assert "an answer of another form" in str(raised.value)
    assert part in str(raised.value)


def test_one_bad_request_of_several_ends_the_call(ours):
    """When a batch is split, an error of one part is the call's error."""
    ours.then_answer(400, {"error": {"message": "mind the gap"}})
    with connect(ours) as teacher, pytest.raises(TeacherRejected, match="mind the gap"):
        teacher.complete([TeacherItem(str(number)) for number in range(1100)])


def test_many_threads_share_one_client(ours):
    """Calls do not mix, and every item is counted."""
    with connect(ours) as teacher:
        answers = {}

        def ask(name):
            answers[name] = texts(teacher.complete([TeacherItem(name)] * 3))

        threads = [threading.Thread(target=ask, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {name: [name.upper()] * 3 for name in "abcdefgh"}
        assert teacher.counts == TeacherCounts(asked=24, misses=24)


def test_retries_leave_the_global_random_generator_alone(ours):
    """Pauses must not change what training draws."""
    random.seed(1)
    state = random.getstate()
    ours.then_reset(2)
    with connect(ours) as teacher:
        teacher.complete([TeacherItem("a")])
    assert random.getstate() == state


def test_our_service_is_recognised(ours, other, dead_url):
    """By /livez alone; nobody there, or someone else, is not ours."""
    assert recognise(ours.url)
    assert recognise(f"{ours.url}/v1/")
    assert not recognise(other.url)
    assert not recognise(dead_url)
    assert not recognise("127.0.0.1:8080")
    assert not recognise("http://[")


@pytest.mark.parametrize("url", [None, "127.0.0.1:8080", "http://["])
def test_nobody_at_the_url_is_said_at_once(url, dead_url):
    """At the start nothing is waited for; the message says what to do."""
    started = time.monotonic()
    with pytest.raises(TeacherUnreachable, match="expected a"):
        TeacherClient.connect(url or dead_url, model="m", prompt_template="{transcript}")
    assert time.monotonic() - started < 3


def test_what_cannot_be_asked_is_said_before_asking(ours):
    """A template without its text, and fields that change what a reply is."""
    with pytest.raises(ConfigError) as raised:
        TeacherClient.connect(
            ours.url, model="m", prompt_template="hello", sampling={"n": 2, "stream": True}
        )
    assert len(raised.value.problems) == 3


def test_one_completion_a_reply_is_not_sent_along(ours):
    """`n: 1`, the reference's default, is what the batch route does anyway."""
    with TeacherClient.connect(
        ours.url, model="m", prompt_template="{transcript}", sampling={"n": 1, "seed": 42}
    ) as teacher:
        teacher.complete([TeacherItem("a")])
    assert "n" not in ours.seen[0].body
    assert ours.seen[0].body["seed"] == 42


def test_the_services_own_counts(ours, other):
    """Our service tells what it did; another server has nothing to tell."""
    with connect(ours) as teacher:
        assert teacher.stats() == {"mode": "record"}
    with connect(other) as teacher:
        assert teacher.stats() is None
