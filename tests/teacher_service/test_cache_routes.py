import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from cache import CompletionStore
from cache.exporting import export_store

PRICES = {"input_per_million": 2.0, "output_per_million": 10.0}
RUN = {"X-Taco-Run": "demo-1a2b", "X-Taco-Step": "3"}


def _chat(content, **fields):
    return {"model": "builtin", "messages": [{"role": "user", "content": content}], **fields}


def _key(service, content, **headers):
    """The key of a new answer, from the header that every completion carries."""
    status = service.chat(content, headers=headers).headers["Cache-Status"]
    return status.split('key="')[1].rstrip('"')


@pytest.fixture
def get(service):
    """A route's answer, which is to be a good one."""

    def get_it(path, **parameters):
        reply = service.http.get(path, params=parameters)
        assert reply.status_code == 200, reply.text
        return reply.json()

    return get_it


def test_a_look_up_says_what_is_stored_and_why_the_rest_is_not(service):
    """By key, or by the request itself; nothing is asked, and nothing counted."""
    key = _key(service, "one")
    before = service.since_start()
    requests = [_chat("one"), _chat("one", temperature=1)]
    reply = service.http.post(
        "/v1/cache/lookup", json={"keys": [key, "0" * 64], "requests": requests}
    )
    by_key, unknown, stored, missing = reply.json()["data"]
    assert by_key["stored"]
    assert by_key["content_digest"] == stored["content_digest"]
    assert unknown == {"index": 1, "key": "0" * 64, "stored": False, "explanation": None}
    assert (stored["index"], stored["key"], stored["stored"]) == (2, key, True)
    assert not missing["stored"]
    assert missing["explanation"] == {
        "nearest": key,
        "differences": [{"field": "request.temperature", "stored": None, "asked": "1"}],
    }
    assert service.since_start() == before


def test_a_look_up_takes_what_the_completion_routes_take(service):
    """Plain prompts and several choices too."""
    body = {"model": "builtin", "prompt": ["a", "b"], "n": 2}
    service.http.post("/v1/completions", json=body)
    reply = service.http.post("/v1/cache/lookup", json={"requests": [body]})
    assert [item["stored"] for item in reply.json()["data"]] == [True] * 4


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"keys": ["abc"]}, 400, "keys.0"),
        ({"key": []}, 400, "key"),
        ({"requests": [{"model": "gpt-9", "messages": [{}]}]}, 404, "gpt-9"),
        ({"requests": [{"messages": []}]}, 400, "requests.0"),
    ],
)
def test_a_malformed_look_up_is_refused(service, body, status, said):
    """In OpenAI's error shape, with the place of the fault."""
    reply = service.http.post("/v1/cache/lookup", json=body)
    assert reply.status_code == status
    assert said in reply.json()["error"]["message"]


def test_an_entry_shows_everything_about_a_key(service, get):
    """Request, answers, provenance, and the runs that used it; its first digits will do."""
    key = _key(service, "one two", **RUN)
    service.chat("one two", headers={**RUN, "X-Taco-Step": "4"})
    entry = get(f"/v1/cache/entries/{key[:8]}")
    assert entry["key"] == key
    assert entry["document"]["request"]["messages"][0]["content"] == "one two"
    assert entry["completion"]["provenance"]["engine"] == "taco-builtin"
    assert entry["served"] == entry["completion"]["content_digest"]
    assert (entry["alternates"], entry["refusals"]) == ([], [])
    assert entry["uses"] == [
        {"run": "demo-1a2b", "step": 3, "served": "miss", "uses": 1},
        {"run": "demo-1a2b", "step": 4, "served": "hit", "uses": 1},
    ]


def test_alternates_are_shown_beside_the_answer(start_hosted, upstream):
    """The first one is served, the fresh one is kept."""
    service = start_hosted()
    upstream.script = [upstream.chat("first"), upstream.chat("second")]
    key = _key(service, "one")
    service.chat("one", headers={"Cache-Control": "no-cache"})
    entry = service.http.get(f"/v1/cache/entries/{key}").json()
    assert entry["completion"]["text"] == "first"
    assert [other["text"] for other in entry["alternates"]] == ["second"]


@pytest.mark.parametrize(
    "path",
    ["/v1/cache/entries/00", "/v1/cache/entries/xyz", "/v1/runs/none", "/v1/ledger?run=none"],
)
def test_what_is_not_there_is_404(service, path):
    """With a message, and no retry."""
    reply = service.http.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert reply.headers["x-should-retry"] == "false"


def test_an_export_is_streamed_as_the_command_writes_it(run_service, store_path, tmp_path):
    """Byte for byte, over more than one chunk."""
    with run_service() as service:
        items = [{"text": f"{number} " + "x" * 2000} for number in range(300)]
        service.batch(items)
        streamed = service.http.get("/v1/cache/export")
    assert streamed.headers["content-type"] == "application/x-ndjson"
    export_store(store_path, tmp_path / "written")
    assert streamed.content == (tmp_path / "written").read_bytes()
    assert len(streamed.content) > 2 * 2**18


def test_an_export_of_one_teacher(run_service, upstream, monkeypatch):
    """By name, or by the start of its digest: header, its records, trailer."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    hosted = {"base_url": upstream.url, "provider": "test", "model": upstream.MODEL}
    with run_service(backend="openai", served_models=["builtin"], openai=hosted) as service:
        service.batch([{"text": "a"}, {"text": "b"}])
    with run_service() as service:
        service.chat("one")
        for teacher, lines in (("builtin", 3), (upstream.MODEL, 4)):
            exported = service.http.get("/v1/cache/export", params={"teacher": teacher})
            assert len(exported.text.splitlines()) == lines


def test_an_import_is_served_at_once(service, start, tmp_path):
    """What another service exported is a hit here, and its differing answers are kept."""
    other = start(store=tmp_path / "other.sqlite")
    answer = other.chat("one").json()
    exported = other.http.get("/v1/cache/export").content
    report = service.http.post("/v1/cache/import", content=exported).json()
    assert (report["added"], report["same"], report["conflicts"]) == (1, 0, 0)
    assert service.chat("one").json() == answer
    assert service.since_start()["backend_calls"] == 0
    again = service.http.post("/v1/cache/import", content=exported).json()
    assert (again["added"], again["same"]) == (0, 1)


def test_a_spoilt_import_is_refused(service, start, tmp_path):
    """400, and nothing was imported; the message does not say where the service keeps things."""
    other = start(store=tmp_path / "other.sqlite")
    other.batch([{"text": text} for text in "abc"])
    exported = other.http.get("/v1/cache/export").content
    for content in (exported[:-30], exported.replace(b"unknown", b"unknowm"), b"", b"{}\n"):
        reply = service.http.post("/v1/cache/import", content=content)
        assert reply.status_code == 400
        assert "the body" in reply.json()["error"]["message"]
        assert "nothing was imported" in reply.json()["error"]["message"]
        assert "/tmp" not in reply.json()["error"]["message"]
    assert service.completions_stored() == 0


def test_an_import_over_the_limit_is_413(start):
    """As any other body."""
    service = start(max_body_bytes=1000)
    assert service.http.post("/v1/cache/import", content=bytes(1001)).status_code == 413


def test_a_replay_server_takes_nothing_in(run_service, tmp_path):
    """Its store is open for reading."""
    with run_service() as recorder:
        recorder.chat("one")
        exported = recorder.http.get("/v1/cache/export").content
    with CompletionStore.open(tmp_path / "x.sqlite"), run_service(mode="replay") as replay:
        again = replay.http.post("/v1/cache/import", content=exported)
        assert again.status_code == 507
        assert replay.http.get("/v1/ledger").status_code == 200
        assert replay.http.post("/v1/cache/verify").json()["bad"] == 0


def test_a_verification_reads_all_of_it(service):
    """One teacher, and a request and an answer each."""
    service.batch([{"text": text} for text in "abc"])
    report = service.http.post("/v1/cache/verify").json()
    assert report == {"object": "cache.verification", "rows": 7, "bad": 0, "named": []}


def test_teachers_are_listed(service, get):
    """With what defines them, and which one is served."""
    [teacher] = get("/v1/teachers")["data"]
    assert teacher["served"]
    assert teacher["digest"] == get("/v1/cache/stats")["teacher"]["digest"]
    assert teacher["definition"]["backend"] == "builtin"


def test_runs_are_listed_with_what_they_cost(start):
    """At once: what is not yet written is written first."""
    service = start(prices=PRICES)
    service.chat("one two three", headers=RUN)
    service.chat("one two three", headers={**RUN, "X-Taco-Step": "9"})
    [listed] = service.http.get("/v1/runs").json()["data"]
    assert listed["id"] == "demo-1a2b"
    assert listed["answers"] == {"hit": 1, "miss": 1, "collapsed": 0}
    details = service.http.get("/v1/runs/demo-1a2b").json()
    assert (details["keys"], details["first_step"], details["last_step"]) == (1, 3, 9)
    [line] = details["ledger"]
    assert line["currency"] == "USD"
    assert line["spent"] == {
        "answers": 1,
        "unmetered": 0,
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "money": pytest.approx(16e-6),
    }
    assert line["saved_by_hits"]["money"] == pytest.approx(16e-6)
    assert service.http.get("/v1/ledger?run=demo-1a2b").json()["data"] == [line]


def test_without_prices_money_is_null(service, get):
    """Nought would be a claim."""
    service.chat("one")
    [line] = get("/v1/ledger")["data"]
    assert (line["currency"], line["spent"]["money"], line["spent"]["answers"]) == (None, None, 1)


def test_scans_do_not_hold_up_completions(service):
    """While everything is verified and exported, again and again, hits are served."""
    service.batch([{"text": f"{number} " + "x" * 500} for number in range(3000)])
    service.chat("hit")

    def scan(route):
        return service.http.request(*route).status_code

    with ThreadPoolExecutor(4) as pool:
        routes = [("POST", "/v1/cache/verify"), ("GET", "/v1/cache/export")] * 2
        scans = [pool.submit(scan, route) for route in routes]
        served = 0
        while not all(each.done() for each in scans):
            assert service.chat("hit").status_code == 200
            served += 1
    assert [each.result() for each in scans] == [200] * 4
    assert served >= 5


def test_ndjson_is_one_document_a_line(service):
    """Any program can read it."""
    service.batch([{"text": text} for text in "abc"])
    lines = [json.loads(line) for line in service.http.get("/v1/cache/export").iter_lines()]
    assert lines[0]["export"] == "taco-completions"
    assert lines[-1]["entries"] == 3
