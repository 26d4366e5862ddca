"""Traces, as a collector gets them over the wire."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


@pytest.fixture
def collected(monkeypatch) -> Iterator[list[bytes]]:
    """What a collector on loopback was sent."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    yield bodies
    server.shutdown()
    server.server_close()
    thread.join()


def _spans(bodies):
    """All spans, and the attributes of who sent them."""
    spans, origin = [], {}
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            origin |= _attributes(resource.resource)
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    return spans, origin


def _attributes(of) -> dict:
    return {each.key: each.value.string_value or each.value.int_value for each in of.attributes}


def test_a_request_and_what_was_made_for_it_are_spans_of_the_callers_trace(run_service, collected):
    """A hit makes nothing; no prompt, answer or key travels along."""
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "Authorization": "Bearer taco-secret"}
    question = {"text": "Anna leads Tau.", "question": "Who leads Tau?"}
    with run_service(traces=True) as service:
        for _ in range(2):
            assert service.batch([question], headers=headers).status_code == 200
        assert service.http.get("/nothing-here").status_code == 404
    spans, origin = _spans(collected)
    assert origin["service.name"] == "taco-teacher"
    assert origin["deployment.environment.name"] == "test"
    traced = [span for span in spans if span.trace_id.hex() == TRACE]
    miss, hit = (span for span in traced if span.parent_span_id.hex() == CALLER)
    [made] = (span for span in traced if span.name == "make")
    assert made.parent_span_id in (miss.span_id, hit.span_id)
    assert _attributes(made) == {"taco.backend": "builtin", "taco.asked": 1, "taco.completed": 1}
    assert "/v1/teacher/completions" in str(_attributes(miss))
    assert any("nothing-here" in str(_attributes(span)) for span in spans)
    for secret in (b"Anna", b"Who leads", b"taco-secret"):
        assert all(secret not in body for body in collected)


def test_without_opentelemetry_the_extra_is_named(tmp_path):
    """One sentence instead of a traceback."""
    code = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None\n"
        "from teacher_service import create_app, load_settings\n"
        f"create_app(load_settings(None, {{'store': {str(tmp_path / 's')!r}, 'traces': True}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'taco-rewards[otel]'" in done.stderr
