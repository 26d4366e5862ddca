"""Bodies that nobody sends by mistake: each is refused, and none makes the service grow."""

import sys
from collections.abc import Iterator

import httpx2
import pytest

from tests.service_process import ServiceProcess, service_process

LIMIT = 2**20
ROUTES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/teacher/completions",
    "/v1/cache/lookup",
    "/v1/cache/import",
)


def _wrapped(value: bytes) -> bytes:
    """Where a client's own fields are: in a body that is sound but for this value."""
    return b'{"model": "builtin", "messages": [{"role": "user", "content": "a"}], "x": %s}' % value


BODIES = {
    "nothing": b"",
    "half an object": b'{"model": "builtin", "messages": [',
    "no JSON": b"\x00\x01\x02 nothing of it",
    "not UTF-8": _wrapped(b'"\xff\xfe\xc3\x28"'),
    "UTF-16": '{"model": "builtin"}'.encode("utf-16")[2:] + b"\xd8",
    "a lone surrogate": _wrapped(rb'"\ud800"'),
    "lists in lists": b"[" * (LIMIT - 1),
    "objects in objects": b'{"a":' * (LIMIT // 5 - 1),
    "a field in depth": _wrapped(b"[" * 300_000 + b"]" * 300_000),
    "a number of many digits": _wrapped(b"9" * 900_000),
    "a number beyond doubles": _wrapped(b"1e999"),
    "NaN": _wrapped(b"NaN"),
    "a key twice": b'{"model": "builtin", "model": "builtin"}',
    "another type": b'"builtin"',
    "many keys": b"{" + b",".join(b'"%d":0' % number for number in range(80_000)) + b"}",
}


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Iterator[ServiceProcess]:
    """A service that takes bodies of a megabyte."""
    with service_process(tmp_path_factory.mktemp("hostile"), max_body_bytes=LIMIT) as started:
        yield started


@pytest.fixture(scope="module")
def http(process) -> Iterator[httpx2.Client]:
    """A client for it."""
    with httpx2.Client(base_url=process.url, timeout=60) as client:
        yield client


def _refused(reply: httpx2.Response) -> None:
    assert 400 <= reply.status_code < 500, reply.text
    assert set(reply.json()["error"]) >= {"message", "type", "param", "code"}
    assert len(reply.content) < 10_000


@pytest.mark.parametrize("name", BODIES)
def test_each_route_refuses_it(http, name):
    """With a short message of OpenAI's form, below 500; the next request is served."""
    for route in ROUTES:
        _refused(http.post(route, content=BODIES[name]))
    assert http.get("/readyz").status_code == 200


def _chunks() -> Iterator[bytes]:
    """Four times the limit, and nobody told how much will come."""
    for _ in range(64):
        yield b" " * (LIMIT // 16)


@pytest.mark.parametrize("told", [True, False], ids=["told", "chunked"])
def test_a_body_over_the_limit_is_refused(http, told):
    """By its Content-Length at once, else as soon as too much of it has come."""
    refused = 0
    for route in ROUTES:
        try:
            reply = http.post(route, content=b" " * (4 * LIMIT) if told else _chunks())
        except httpx2.TransportError:
            continue  # Hung up on while it was still sending.
        assert reply.status_code == 413
        assert "max_body_bytes" in reply.json()["error"]["message"]
        refused += 1
    assert refused


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_stays_flat(http, process):
    """Once they have all been met, a hundred more of the largest take next to nothing."""
    large = [body for body in BODIES.values() if len(body) > LIMIT // 4]
    assert len(large) >= 5

    def send(rounds: int) -> None:
        for _ in range(rounds):
            for body in large:
                http.post("/v1/chat/completions", content=body)

    send(5)
    before = process.memory_kib()
    send(20)
    assert process.memory_kib() < before + 20 * 1024
