"""A real HTTP server on loopback that follows a script: it answers, resets or hangs."""

import json
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

LIVEZ = {"status": "ok", "service": "taco-teacher", "version": "0.1.0"}


@dataclass
class Seen:
    """One request as the server saw it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ScriptedServer:
    """Takes the next step of its script for each POST; answers well when there is none left."""

    ours: bool = True
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    script: deque[Callable[["Handler", Seen], None]] = field(default_factory=deque)
    stopping: threading.Event = field(default_factory=threading.Event)

    def then_answer(self, status: int, body: Any, **headers: str) -> None:
        """Next: this status and body (JSON, or bytes as they are); `_` in header names is `-`."""
        self.script.append(lambda handler, _: handler.answer(status, body, headers))

    def then_reset(self, times: int = 1) -> None:
        """Next: cut the connection."""
        self.script.extend([lambda handler, _: handler.reset()] * times)

    def then_hang(self) -> None:
        """Next: never answer."""
        self.script.append(lambda *_: self.stopping.wait(30) and None)

    @staticmethod
    def completed(index: int, text: str) -> dict[str, Any]:
        """An item of the batch route's answer."""
        return {
            "index": index,
            "outcome": "completed",
            "text": text.upper(),
            "finish_reason": "stop",
            "usage": None,
            "key": f"{index:064x}",
            "content_digest": f"{index + 100:064x}",
            "cache": "miss",
        }

    @staticmethod
    def failed(index: int, kind: str, **more: Any) -> dict[str, Any]:
        """An item that failed."""
        error = {"message": "no luck", "type": kind, "param": None, "code": None, **more}
        return {"index": index, "outcome": "failed", "error": error, "key": f"{index:064x}"}


class Handler(BaseHTTPRequestHandler):
    """Speaks for one `ScriptedServer`."""

    protocol_version = "HTTP/1.1"

    def __init__(self, server: ScriptedServer, *args: Any) -> None:
        self.scripted = server
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""

    def do_GET(self) -> None:
        if self.path == "/livez" and self.scripted.ours:
            self.answer(200, LIVEZ, {})
        elif self.path == "/v1/cache/stats":
            self.answer(200, {"mode": "record"}, {})
        else:
            self.answer(404, {"detail": "Not Found"}, {})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        seen = Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(raw))
        self.scripted.seen.append(seen)
        step = self.scripted.script.popleft() if self.scripted.script else Handler.serve
        step(self, seen)

    def serve(self, seen: Seen) -> None:
        """The good answer: every text in capitals."""
        if seen.path.endswith("/chat/completions"):
            self.answer(200, chat(seen.body["messages"][-1]["content"].upper()), {})
        else:
            items = [
                ScriptedServer.completed(i, item["text"])
                for i, item in enumerate(seen.body["items"])
            ]
            self.answer(200, {"object": "teacher.completions", "data": items}, {})

    def answer(self, status: int, body: Any, headers: dict[str, str]) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def reset(self) -> None:
        """RST instead of an orderly end."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True


def chat(content: str | None, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": content, **message}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has heard enough may leave; anything else is a fault of the test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _run(scripted: ScriptedServer) -> Iterator[ScriptedServer]:
    with _Server(("127.0.0.1", 0), partial(Handler, scripted)) as server:
        scripted.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield scripted
        scripted.stopping.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def ours() -> Iterator[ScriptedServer]:
    """A server that says at /livez that it is our service."""
    yield from _run(ScriptedServer(ours=True))


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    """Any other OpenAI-compatible server."""
    yield from _run(ScriptedServer(ours=False))
