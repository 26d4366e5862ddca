"""Against a server that is not ours: rendered here, one chat for each item."""

import threading

import pytest

from trainer.errors import TeacherRejected
from trainer.rollouts.teacher_client import TeacherClient
from trainer.rollouts.teacher_counts import TeacherCounts
from trainer.types import Outcome, TeacherItem, TeacherReply


def connect(server, path="", **settings):
    """A client of the server's API at a path."""
    settings = {"prompt_template": "{transcript} {question}", "timeout_s": 10} | settings
    return TeacherClient.connect(server.url + path, model="llama", **settings)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1beta/openai/", "/v1beta/openai/chat/completions"),
    ],
)
def test_the_template_is_rendered_here(other, path, asked):
    """The server gets plain chat messages at the base URL that OpenAI's clients would use."""
    with connect(other, path, system_message="Be brief.", sampling={"seed": 42}) as teacher:
        replies = teacher.complete([TeacherItem("{question}", "why?")])
        assert not teacher.is_ours
    assert replies == [TeacherReply(Outcome.SCORED, "{QUESTION} WHY?")]
    [seen] = other.seen
    assert seen.path == asked
    assert seen.body == {
        "model": "llama",
        "seed": 42,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "{question} why?"},
        ],
    }


def test_many_items_in_order_and_equal_ones_once(other):
    """Replies are in the order of the items; an item that comes twice is asked once."""
    items = [TeacherItem(f"text {number % 40}") for number in range(80)]
    with connect(other, prompt_template="{transcript}") as teacher:
        replies = teacher.complete(items)
        assert teacher.counts == TeacherCounts(asked=80)
    assert [reply.text for reply in replies] == [item.text.upper() for item in items]
    assert len(other.seen) == 40


def test_no_more_requests_at_a_time_than_allowed(other):
    """Our own bound holds, whatever the batch's size."""
    arrived = threading.Semaphore(0)
    leave = threading.Event()

    def wait(handler, seen):
        arrived.release()
        leave.wait(10)
        handler.serve(seen)

    other.script.extend([wait] * 40)
    with connect(other) as teacher:
        caller = threading.Thread(
            target=teacher.complete, args=([TeacherItem(str(number)) for number in range(40)],)
        )
        caller.start()
        for _ in range(16):
            assert arrived.acquire(timeout=10)
        assert not arrived.acquire(timeout=0.3)
        leave.set()
        caller.join()
    assert len(other.seen) == 40


@pytest.mark.parametrize(
    ("choice", "reply"),
    [
        ({"message": {"content": ""}, "finish_reason": "stop"}, TeacherReply(Outcome.SCORED, "")),
        ({"message": {"content": None}, "finish_reason": "length"}, TeacherReply(Outcome.SCORED)),
        (
            {"message": {"content": "This has sensitive content."}, "finish_reason": "stop"},
            TeacherReply(Outcome.SCORED, "This has sensitive content."),
        ),
        (
            {"message": {"content": "I may"}, "finish_reason": "content_filter"},
            TeacherReply(Outcome.REFUSED, error="content_filter"),
        ),
        (
            {"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"},
            TeacherReply(Outcome.REFUSED, error="I cannot."),
        ),
    ],
)
def test_a_refusal_is_what_the_api_declares(other, choice, reply):
    """Never guessed from the text; an empty completion is an answer."""
    other.then_answer(200, {"choices": [choice]})
    with connect(other) as teacher:
        assert teacher.complete([TeacherItem("a")]) == [reply]


def test_a_filtered_prompt_is_a_refusal(other):
    """Azure answers 400 with the code `content_filter`."""
    other.then_answer(400, {"error": {"message": "policy", "code": "content_filter"}})
    with connect(other) as teacher:
        [reply] = teacher.complete([TeacherItem("a")])
    assert reply == TeacherReply(Outcome.REFUSED, error="content_filter: policy")


def test_an_item_that_the_server_cannot_take_fails_alone(other):
    """A prompt that is too long fails at once and is not asked again."""
    error = {"message": "content is too long", "type": "invalid_request_error"}
    other.then_answer(400, {"error": error | {"code": "context_length_exceeded"}})
    with connect(other) as teacher:
        [reply] = teacher.complete([TeacherItem("a")])
    assert reply.outcome is Outcome.FAILED
    assert reply.error == "invalid_request_error: HTTP 400: content is too long"
    assert len(other.seen) == 1


def test_a_server_error_is_asked_once_more(other):
    """An item that meets a passing fault gets its second chance within the call."""
    other.then_answer(500, b"oops")
    with connect(other) as teacher:
        [reply] = teacher.complete([TeacherItem("a", "b")])
    assert reply == TeacherReply(Outcome.SCORED, "A B")
    assert len(other.seen) == 2


def test_a_busy_server_is_waited_for(other):
    """429 and a reset belong to the hop."""
    other.then_answer(429, {"error": {"message": "slow down"}}, Retry_After="0.1")
    other.then_reset()
    with connect(other) as teacher:
        assert teacher.complete([TeacherItem("a", "b")])[0].text == "A B"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_no_item_would_survive_ends_the_call(other, status):
    """A wrong key or model is one error, not a thousand failed items."""
    for _ in range(20):
        other.then_answer(status, {"error": {"message": "no"}})
    with connect(other) as teacher, pytest.raises(TeacherRejected, match=f"HTTP {status}: no"):
        teacher.complete([TeacherItem(str(number)) for number in range(20)])


def test_an_answer_without_choices_is_an_error(other):
    """Whatever it is, it is no chat completion."""
    other.then_answer(200, {"choices": []})
    with connect(other) as teacher, pytest.raises(TeacherRejected, match="another form"):
        teacher.complete([TeacherItem("a")])


def test_a_server_without_a_store_is_no_place_for_a_replay(other):
    """A replay must not buy completions: it refuses before it asks."""
    with pytest.raises(TeacherRejected, match="only it keeps completions to replay"):
        connect(other, stored_only=True)
    assert other.seen == []
