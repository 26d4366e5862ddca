import json

import pytest

ITEMS = [
    {"text": f"The lead of project {name} is Anna{name}.", "question": f"Who leads project {name}?"}
    for name in ("Zeta", "Omega", "Kappa")
]


def test_items_are_answered_in_order(service):
    """Each with its key, the digest of its content, and where it came from."""
    reply = service.batch(ITEMS, max_tokens=10)
    body = reply.json()
    assert reply.status_code == 200
    assert body["object"] == "teacher.completions"
    assert body["model"] == "builtin"
    assert body["teacher"] == service.http.get("/v1/cache/stats").json()["teacher"]["digest"]
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    assert {item["outcome"] for item in body["data"]} == {"completed"}
    assert {item["cache"] for item in body["data"]} == {"miss"}
    assert len({item["key"] for item in body["data"]}) == 3
    assert all(len(item["content_digest"]) == 64 for item in body["data"])
    assert all(item["finish_reason"] == "stop" and item["usage"] for item in body["data"])


def test_a_batch_item_is_the_chat_request_that_it_renders(service):
    """Same messages, same sampling fields, same key: the chat is a hit."""
    sampling = {"temperature": 0, "top_p": 1, "seed": 42, "max_tokens": 10}
    items = service.batch(ITEMS[:1], system_message="Be brief.", **sampling).json()["data"]
    text = f"{ITEMS[0]['text']}\n\nQuestion: {ITEMS[0]['question']}"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    body = {"model": "gpt-35-turbo", "messages": messages, **sampling}
    chat = service.http.post("/v1/chat/completions", json=body)
    assert chat.headers["Cache-Status"] == f'taco; hit; key="{items[0]["key"]}"'
    assert chat.json()["choices"][0]["message"]["content"] == items[0]["text"]


def test_a_sampling_field_is_part_of_the_key_and_a_null_is_none(service):
    """Null is OpenAI's way of not setting a field."""
    plain, null, warm = (
        service.batch(ITEMS[:1], **fields).json()["data"][0]["key"]
        for fields in ({}, {"temperature": None}, {"temperature": 0.5})
    )
    assert plain == null != warm


def test_duplicates_of_a_batch_are_asked_once(service):
    """The first is a miss, the others wait for it."""
    data = service.batch([ITEMS[0], ITEMS[1], ITEMS[0], ITEMS[0]]).json()["data"]
    assert [item["cache"] for item in data] == ["miss", "miss", "collapsed", "collapsed"]
    assert data[0]["key"] == data[2]["key"]
    assert data[0]["text"] == data[2]["text"]
    counts = service.since_start()
    assert counts == {
        "requests": 4,
        "hits": 0,
        "misses": 2,
        "collapsed": 2,
        "refused": 0,
        "failed": 0,
        "backend_calls": 2,
    }


def test_lines_come_in_order_and_end_with_the_count(service):
    """The same items as in the JSON answer, one a line."""
    service.batch(ITEMS[1:])
    reply = service.batch(ITEMS, headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert [line["index"] for line in lines[:-1]] == [0, 1, 2]
    assert [line["cache"] for line in lines[:-1]] == ["miss", "hit", "hit"]
    assert lines[-1] == {"object": "teacher.completions.end", "count": 3}
    whole = service.batch(ITEMS).json()["data"]
    assert [line["text"] for line in lines[:-1]] == [item["text"] for item in whole]


def test_lines_are_sent_as_soon_as_those_before_them_are_there(start):
    """A hit at the front does not wait for a slow miss behind it."""
    service = start(builtin={"latency_ms": 1500})
    service.batch(ITEMS[:1])
    headers = {"Accept": "application/x-ndjson"}
    body = {"model": "builtin", "prompt_template": "{transcript}\n\nQuestion: {question}"}
    with service.http.stream(
        "POST", "/v1/teacher/completions", json={**body, "items": ITEMS}, headers=headers
    ) as reply:
        lines = reply.iter_lines()
        assert json.loads(next(lines))["cache"] == "hit"
        assert service.since_start()["backend_calls"] == 1
        assert [json.loads(line).get("cache") for line in lines] == ["miss", "miss", None]


def test_past_the_deadline_items_fail_one_by_one(start):
    """What is stored is answered; what is late is finished and stored for the next request."""
    service = start(builtin={"latency_ms": 700})
    service.batch(ITEMS[:1])
    data = service.batch(ITEMS, headers={"X-Deadline-Ms": "100"}).json()["data"]
    assert [item["outcome"] for item in data] == ["completed", "failed", "failed"]
    assert data[1]["error"]["type"] == "deadline_exceeded"
    assert len(data[1]["key"]) == 64
    again = service.batch(ITEMS).json()["data"]
    assert [item["outcome"] for item in again] == ["completed"] * 3
    assert service.since_start()["backend_calls"] == 3


def test_a_batch_waits_for_its_slow_teacher_once(start):
    """All requests of a batch take their time side by side."""
    service = start(builtin={"latency_ms": 300})
    items = [{"text": f"text {index}", "question": "?"} for index in range(100)]
    reply = service.batch(items)
    assert reply.elapsed.total_seconds() < 3


def test_an_empty_batch_is_answered_emptily(service):
    """Nothing asked, nothing wrong."""
    assert service.batch([]).json()["data"] == []


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt_template": "no place for the text"}, "prompt_template"),
        ({"prompt_template": 3}, "prompt_template"),
        ({"items": "text"}, "items"),
        ({"items": [{"question": "?"}]}, "items.0.text"),
        ({"items": [{"text": "a", "txt": "b"}]}, "items.0.txt"),
        ({"items": [{"text": None}]}, "items.0.text"),
        ({"items": [{"text": "a", "content_digest": "0a"}]}, "items.0.content_digest"),
        ({"n": 2}, "n"),
        ({"stream": True}, "stream"),
        ({"model": None}, "model"),
    ],
)
def test_a_malformed_batch_names_the_field(service, changes, param):
    """Nothing is asked of the teacher."""
    body = {"model": "builtin", "prompt_template": "{transcript}", "items": []}
    reply = service.http.post("/v1/teacher/completions", json=body | changes)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert service.since_start()["requests"] == 0


def test_prompt_text_with_a_lone_surrogate_is_refused(service):
    """It has no UTF-8, so it could have no key."""
    body = '{"model":"builtin","prompt_template":"{transcript}","items":[{"text":"\\ud800"}]}'
    reply = service.http.post("/v1/teacher/completions", content=body)
    assert reply.status_code == 400
