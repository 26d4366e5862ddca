"""A real service on loopback, and a scripted upstream for it."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from teacher_service import create_app, load_settings
from teacher_service.server import bind, url_of


@dataclass
class Service:
    """A service in a thread of this process, and a client for it."""

    url: str
    http: httpx2.Client

    def since_start(self) -> dict[str, int]:
        return self.http.get("/v1/cache/stats").json()["since_start"]

    def completions_stored(self) -> int:
        return self.http.get("/v1/cache/stats").json()["store"]["completions"]

    def chat(self, content: str, headers: dict[str, str] | None = None, **fields: Any):
        """One chat completion for one user message."""
        messages = [{"role": "user", "content": content}]
        body = {"model": "builtin", "messages": messages, **fields}
        return self.http.post("/v1/chat/completions", json=body, headers=headers)

    def batch(self, items: list[dict], headers: dict[str, str] | None = None, **fields: Any):
        """One batch over a template that asks for text and question."""
        template = "{transcript}\n\nQuestion: {question}"
        body = {"model": "builtin", "prompt_template": template, "items": items, **fields}
        return self.http.post("/v1/teacher/completions", json=body, headers=headers)


@contextmanager
def running(overrides: dict[str, Any]) -> Iterator[Service]:
    """A service with these settings, on a free port, until the block ends."""
    settings = load_settings(None, {"stop_grace_s": 5, "canary": "off", **overrides})
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        create_app(settings), log_level="warning", access_log=False, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = url_of(listener)
    try:
        with httpx2.Client(base_url=url, timeout=30) as http:
            yield Service(url, http)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where the test's store lies, or will."""
    return tmp_path / "completions.sqlite"


@pytest.fixture
def run_service(store_path: Path):
    """Context manager: a service with these settings over the test's own store."""
    return lambda **overrides: running({"store": store_path, **overrides})


@pytest.fixture
def start(run_service) -> Iterator[Callable[..., Service]]:
    """Start a service that lives as long as the test."""
    with ExitStack() as stack:
        yield lambda **overrides: stack.enter_context(run_service(**overrides))


@pytest.fixture
def service(start) -> Service:
    """A recording service with the built-in teacher."""
    return start()


async def ask_all_at_once(
    urls: Sequence[str], clients: int, release: Callable[[], None]
) -> list[httpx2.Response]:
    """Ask the same of these services in turn, and `release` the backend once all have arrived."""
    body = {"model": "builtin", "messages": [{"role": "user", "content": "one"}]}
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as http:
        asking = [
            asyncio.create_task(
                http.post(f"{urls[number % len(urls)]}/v1/chat/completions", json=body)
            )
            for number in range(clients)
        ]
        arrived = 0
        while arrived < clients:
            await asyncio.sleep(0.1)
            replies = [await http.get(f"{url}/v1/cache/stats") for url in urls]
            arrived = sum(reply.json()["since_start"]["requests"] for reply in replies)
        assert not any(ask.done() for ask in asking)
        release()
        return await asyncio.gather(*asking)


class Upstream:
    """An OpenAI-like server that does what its script says, then answers plainly.

    A step is `(status, headers, body)`, or a function that returns one and may take its time.
    """

    MODEL = "pinned-2024-07-18"

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.moments: list[float] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    @classmethod
    def chat(cls, text: str | None = "Anna.", finish_reason: str = "stop", **changes: Any):
        """A step: one chat completion."""
        message = {"role": "assistant", "content": text, "refusal": None}
        message |= changes.pop("message", {})
        body = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": cls.MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        return 200, {}, json.dumps(body | changes)

    @staticmethod
    def error(
        status: int,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        message: str | None = None,
    ):
        """A step: OpenAI's error body."""
        error = {"message": message or f"said {status}", "type": "t", "param": None, "code": code}
        return status, headers or {}, json.dumps({"error": error})

    def hold(self) -> Callable[[], None]:
        """Let the next request wait until the function that is returned is called."""
        released = threading.Event()

        def step():
            assert released.wait(120)
            return self.chat()

        self.script = [step]
        return released.set

    def next_step(self, body: dict[str, Any], authorization: str | None):
        with self._lock:
            self.requests.append(body)
            self.authorizations.append(authorization)
            self.moments.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            step = self.script.pop(0) if self.script else self.chat()
        answer = step() if callable(step) else step
        with self._lock:
            self._at_once -= 1
        return answer


@contextmanager
def serving(scripted: Upstream) -> Iterator[Upstream]:
    """A scripted upstream in threads of this process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            scripted.paths.append(self.path)
            scripted.headers.append({name.lower(): one for name, one in self.headers.items()})
            status, headers, text = scripted.next_step(body, self.headers["Authorization"])
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A scripted upstream."""
    with serving(Upstream()) as scripted:
        yield scripted


@pytest.fixture
def start_hosted(start, upstream, monkeypatch):
    """Start a service whose teacher is the scripted upstream."""
    monkeypatch.setenv("TEST_UPSTREAM_KEY", "sk-secret")

    def start_it(mode: str = "record", **openai: Any) -> Service:
        section = {
            "base_url": upstream.url,
            "provider": "test",
            "model": upstream.MODEL,
            "api_key_env": "TEST_UPSTREAM_KEY",
            **openai,
        }
        return start(backend="openai", mode=mode, served_models=["builtin"], openai=section)

    return start_it


@pytest.fixture
def ask_a_thousand_times(upstream):
    """One request, asked by 1,000 clients of these services while the upstream is held."""

    def ask(*urls: str) -> list[httpx2.Response]:
        return asyncio.run(ask_all_at_once(urls, 1000, upstream.hold()))

    return ask
