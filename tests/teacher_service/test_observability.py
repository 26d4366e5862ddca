"""What can be seen of a running service: counts for Prometheus, and a log that names requests."""

import json
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from teacher_service import request_log
from teacher_service.backends import retries
from tests.faulty_upstream import faulty_upstream


def samples(service):
    """Every sample of /metrics: its name and labels -> its value."""
    text = service.http.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_hits_misses_and_failures_are_counted(service):
    """As /v1/cache/stats counts them."""
    service.chat("one")
    service.chat("one")
    service.http.post(
        "/v1/chat/completions", json={"model": "builtin", "messages": [{"role": "user"}]}
    )
    seen = samples(service)
    assert seen["taco_completions_total", "hits"] == 1
    assert seen["taco_completions_total", "misses"] == 2
    assert seen["taco_failed_total",] == 1
    assert seen["taco_backend_calls_total",] == 1
    assert seen["taco_upstream_seconds_count", "builtin"] == 1
    assert not any(name.startswith("taco_upstream_breaker") for name, *_ in seen)


def test_what_goes_on_upstream_is_counted(start, monkeypatch):
    """Latency, tokens, retries by error, the breaker's state, what was spent."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.02)
    with faulty_upstream() as faulty:
        prices = {"input_per_million": 1e6}
        openai = {"total_timeout_s": 0.3}
        service = start(**faulty.settings(prices=prices, openai=openai))
        assert service.chat("one").status_code == 200
        faulty.share, faulty.faults = 1.0, ["500"]
        assert service.chat("two").status_code == 502
        faulty.faults = ["refused key"]
        assert service.chat("three").status_code == 502
    seen = samples(service)
    assert seen["taco_upstream_seconds_count", "openai"] == 1
    assert seen["taco_upstream_tokens_total", "openai", "prompt"] == 30
    assert seen["taco_upstream_tokens_total", "openai", "completion"] == 2
    assert seen["taco_upstream_retries_total", "UpstreamError"] >= 1
    assert seen["taco_upstream_breaker", "open"] == 1
    assert seen["taco_upstream_breaker", "closed"] == 0
    assert seen["taco_upstream_queue",] == seen["taco_upstream_active",] == 0
    assert seen["taco_budget_calls_total",] == sum(faulty.calls.values())
    assert seen["taco_budget_usd_total",] == 30


def test_every_answer_has_a_name(service):
    """The client's own where it fits a log; else a new one, also for what the gate refuses."""
    own = service.http.get("/v1/models", headers={"X-Request-Id": "mine-1"})
    assert own.headers["x-request-id"] == "mine-1"
    names = {service.http.get("/v1/models").headers["x-request-id"] for _ in range(3)}
    assert len(names) == 3
    for wrong in ("", "two words", "x" * 101):
        reply = service.http.get("/v1/models", headers={"X-Request-Id": wrong, "Host": "evil"})
        assert reply.status_code == 403
        assert len(reply.headers["x-request-id"]) == 16


@pytest.mark.parametrize("as_json", [True, False])
def test_failures_are_logged_under_their_name(service, as_json, capsys):
    """One line, for people or for a machine; no query, which may hold anything."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        request_log.set_up_logs(as_json=as_json)
        service.http.get("/v1/nothing?secret=1", headers={"X-Request-Id": "mine-1"})
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "/v1/nothing" in line]
    assert "secret" not in line
    if as_json:
        told = json.loads(line)
        assert (told["path"], told["status"], told["request_id"]) == ("/v1/nothing", 404, "mine-1")
    else:
        assert line.startswith("INFO teacher_service.request_log: GET /v1/nothing: 404 after ")
        assert line.endswith(" [mine-1]")
