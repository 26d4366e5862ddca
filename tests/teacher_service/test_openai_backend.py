"""The openai backend against a scripted upstream on loopback."""

import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest

from teacher_service import StartError, create_app, load_settings
from teacher_service.backends import retries


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.02)


def test_every_field_of_the_client_goes_upstream_under_the_pinned_name(start_hosted, upstream):
    """The alias is the client's, the model name the settings'; n and stream are ours."""
    service = start_hosted()
    fields = {"temperature": 0.5, "seed": 1, "stop": ["x"], "min_p": 0.1, "logit_bias": {"1": 2}}
    service.chat("one", n=1, stream=True, stream_options={"include_usage": True}, **fields)
    messages = [{"role": "user", "content": "one"}]
    assert upstream.requests == [{"model": upstream.MODEL, "messages": messages, **fields}]
    assert upstream.authorizations == ["Bearer sk-secret"]


def test_several_choices_get_seeds_of_their_own(start_hosted, upstream):
    """With one seed for all, they would be one answer n times."""
    start_hosted().chat("one", n=3, seed=7)
    assert sorted(body["seed"] for body in upstream.requests) == [7, 8, 9]
    assert all("n" not in body for body in upstream.requests)


def test_fields_beyond_the_text_are_served_and_stored(start_hosted, upstream):
    """Tool calls and log-probabilities come back from the store as they came from upstream."""
    service = start_hosted()
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    step = upstream.chat(None, "tool_calls", message={"tool_calls": [call]})
    upstream.script = [step]
    first, again = service.chat("one"), service.chat("one")
    assert first.json() == again.json()
    [choice] = again.json()["choices"]
    assert choice["message"]["tool_calls"] == [call]
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    streamed = service.chat("one", stream=True).text
    assert '"tool_calls":[{"index":0,' in streamed


def test_a_rate_limit_is_waited_out(start_hosted, upstream):
    """Retry-After is the least to wait."""
    service = start_hosted()
    upstream.script = [upstream.error(429, headers={"Retry-After": "1"})]
    assert service.chat("one").status_code == 200
    assert upstream.moments[1] - upstream.moments[0] >= 1


def test_a_rate_limit_by_date_is_waited_out_as_well(start_hosted, upstream):
    """An HTTP date has whole seconds, so up to one of them is lost."""
    service = start_hosted()
    until = formatdate(time.time() + 2, usegmt=True)
    upstream.script = [upstream.error(429, headers={"Retry-After": until})]
    assert service.chat("one").status_code == 200
    assert upstream.moments[1] - upstream.moments[0] >= 0.9


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504])
def test_passing_faults_are_tried_again(start_hosted, upstream, status):
    """One answer, one call counted."""
    service = start_hosted()
    upstream.script = [upstream.error(status), upstream.error(status)]
    assert service.chat("one").status_code == 200
    assert len(upstream.requests) == 3
    assert service.since_start()["backend_calls"] == 1


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 502, "upstream_error"),
        (403, 502, "upstream_error"),
        (404, 502, "upstream_error"),
        (422, 400, "invalid_request_error"),
    ],
)
def test_final_faults_are_not(start_hosted, upstream, status, told, kind):
    """A wrong key of the service is no fault of its client's."""
    service = start_hosted()
    upstream.script = [upstream.error(status)]
    reply = service.chat("one")
    assert reply.status_code == told
    assert reply.json()["error"]["type"] == kind
    assert reply.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1


def test_an_exhausted_quota_is_not_a_rate_limit(start_hosted, upstream):
    """Waiting does not help, so nobody waits."""
    service = start_hosted()
    upstream.script = [upstream.error(429, "insufficient_quota", {"Retry-After": "1"})]
    reply = service.chat("one")
    assert reply.status_code == 429
    assert reply.json()["error"]["type"] == "insufficient_quota"
    assert reply.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1


def test_a_prompt_that_is_too_long_says_so_and_is_not_stored(start_hosted, upstream):
    """It depends on the server's limit, not on the request alone."""
    service = start_hosted()
    upstream.script = [upstream.error(400, "context_length_exceeded")]
    [item] = service.batch([{"text": "a"}]).json()["data"]
    assert item["outcome"] == "failed"
    assert item["error"]["type"] == "context_length_exceeded"
    assert service.batch([{"text": "a"}]).json()["data"][0]["outcome"] == "completed"


def test_retries_end_with_the_total_time(start_hosted, upstream):
    """A wait beyond it is not begun; the client learns how long the upstream wanted."""
    service = start_hosted(total_timeout_s=2)
    upstream.script = [upstream.error(429, headers={"Retry-After": "60"})]
    reply = service.chat("one")
    assert reply.status_code == 429
    assert reply.headers["Retry-After"] == "60"
    assert reply.elapsed.total_seconds() < 2


def test_a_hanging_attempt_is_given_up_and_made_again(start_hosted, upstream):
    """The time limit is on the attempt as a whole."""
    service = start_hosted(attempt_timeout_s=0.3)

    def hang():
        time.sleep(1)
        return upstream.chat("too late")

    upstream.script = [hang]
    assert service.chat("one").json()["choices"][0]["message"]["content"] == "Anna."


def test_a_reply_that_is_cut_short_is_asked_for_again(start_hosted, upstream):
    """Half a JSON text, a JSON text of another kind, none at all."""
    service = start_hosted()
    status, headers, text = upstream.chat()
    upstream.script = [
        (status, headers, text[: len(text) // 2]),
        (status, headers, '{"choices": []}'),
        (status, headers, "[]"),
        (status, headers, ""),
    ]
    assert service.chat("one").status_code == 200
    assert len(upstream.requests) == 5


def test_an_upstream_that_is_gone_is_an_upstream_error(start_hosted):
    """After the total time."""
    service = start_hosted(base_url="http://127.0.0.1:9/v1", total_timeout_s=0.2)
    reply = service.chat("one")
    assert reply.status_code == 502
    assert "cannot be reached" in reply.json()["error"]["message"]


def test_an_answer_of_another_model_is_never_filed(start_hosted, upstream):
    """It would be served for ever under the wrong teacher's key."""
    service = start_hosted()
    upstream.script = [upstream.chat(model="another-2025")]
    reply = service.chat("one")
    assert reply.status_code == 502
    assert "another-2025" in reply.json()["error"]["message"]
    assert service.completions_stored() == 0
    assert len(upstream.requests) == 1


def test_another_name_of_the_same_model_can_be_accepted(start_hosted, upstream):
    """By config, and not otherwise."""
    service = start_hosted(accepted_models=["/models/the-same"])
    upstream.script = [upstream.chat(model="/models/the-same")]
    assert service.chat("one").status_code == 200


def test_declared_refusals_are_outcomes(start_hosted, upstream):
    """A content filter before or after the fact, and the model's own refusal; all stored."""
    service = start_hosted()
    upstream.script = [
        upstream.error(400, "content_filter"),
        upstream.chat(None, "content_filter"),
        upstream.chat(None, message={"refusal": "I cannot help."}),
    ]
    asked = [{"text": text} for text in "abc"]
    items = [service.batch([one]).json()["data"][0] for one in asked]
    assert [item["outcome"] for item in items] == ["refused"] * 3
    assert [item["reason"] for item in items] == ["content_filter", "content_filter", "refusal"]
    assert items[2]["message"] == "I cannot help."
    again = service.batch(asked).json()["data"]
    assert [item["cache"] for item in again] == ["hit"] * 3
    assert [item["content_digest"] for item in again] == [one["content_digest"] for one in items]
    assert service.since_start()["refused"] == 6


def test_text_about_content_is_no_refusal(start_hosted, upstream):
    """Refusals are what the API declares, never what a text looks like."""
    service = start_hosted()
    upstream.script = [
        upstream.chat("I cannot answer: content policy."),
        upstream.error(400, message="messages[0].content violates our content_filter policy"),
    ]
    first, second = (service.batch([{"text": text}]).json()["data"][0] for text in "ab")
    assert first["outcome"] == "completed"
    assert second["outcome"] == "failed"


def test_a_refused_chat_is_told_in_openai_s_own_shape(start_hosted, upstream):
    """A choice that ends with `content_filter`."""
    service = start_hosted()
    upstream.script = [upstream.error(400, "content_filter")]
    [choice] = service.chat("one").json()["choices"]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["content"] is None
    assert choice["message"]["refusal"]


def test_one_failure_does_not_cost_the_batch(start_hosted, upstream):
    """Each item has an outcome of its own."""
    service = start_hosted(max_concurrency=1)
    upstream.script = [upstream.chat("a"), upstream.error(422), upstream.chat("c")]
    items = service.batch([{"text": text} for text in "abc"]).json()["data"]
    assert sorted(item["outcome"] for item in items) == ["completed", "completed", "failed"]
    assert service.completions_stored() == 2


def test_concurrency_is_bounded_by_the_settings(start_hosted, upstream):
    """Over all clients, not for each."""
    service = start_hosted(max_concurrency=3)

    def slow():
        time.sleep(0.05)
        return upstream.chat()

    upstream.script = [slow] * 20
    with ThreadPoolExecutor(2) as pool:
        for half in ("a", "b"):
            pool.submit(service.batch, [{"text": f"{half}{index}"} for index in range(10)])
    assert len(upstream.requests) == 20
    assert upstream.most_at_once == 3


def test_plain_completions_go_to_their_own_endpoint(start_hosted, upstream):
    """With the prompt, not messages."""
    service = start_hosted()
    upstream.script = [upstream.chat(choices=[{"index": 0, "text": "b", "finish_reason": "stop"}])]
    reply = service.http.post("/v1/completions", json={"model": "builtin", "prompt": "a"})
    assert reply.json()["choices"][0]["text"] == "b"
    assert upstream.requests == [{"model": upstream.MODEL, "prompt": "a"}]


def test_a_missing_key_is_a_start_error(store_path, monkeypatch):
    """It names the variable; null wants none."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    settings = {"backend": "openai", "store": store_path}
    with pytest.raises(StartError, match="OPENAI_API_KEY"):
        create_app(load_settings(None, settings))


def test_organisation_and_project_are_headers(start_hosted, upstream):
    """Who pays has no part in the answer."""
    reply = start_hosted(organization="org-1", project="proj-1").chat("one")
    assert reply.status_code == 200
    assert upstream.headers[0]["openai-organization"] == "org-1"
    assert upstream.headers[0]["openai-project"] == "proj-1"


@pytest.mark.parametrize("said", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("wanted", ["max_tokens", "max_completion_tokens"])
def test_the_limit_goes_by_the_models_own_name(start_hosted, upstream, said, wanted):
    """Whatever the client calls it; plain completions know only the old name."""
    service = start_hosted(limit_field=wanted)
    service.chat("one", **{said: 7})
    [sent] = upstream.requests
    assert {name: sent[name] for name in sent if name.startswith("max_")} == {wanted: 7}
    upstream.script = [upstream.chat(choices=[{"index": 0, "text": "b", "finish_reason": "stop"}])]
    service.http.post("/v1/completions", json={"model": "builtin", "prompt": "a", "max_tokens": 7})
    assert upstream.requests[1]["max_tokens"] == 7
