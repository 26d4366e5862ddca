"""An OpenAI-like server on loopback whose answers are the built-in teacher's, and which goes wrong.

What a call meets depends on its body and on how often that body was sent before, never on the order
in which calls arrive: two runs that ask the same meet the same faults.
"""

import gzip
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from teacher_service.backends.builtin_rules import answer

MODEL = "pinned-2024-07-18"
HANG_S = 4.0
"""Longer than any attempt of these tests may take."""


class Call(BaseHTTPRequestHandler):
    """One connection's calls; the faults below take one of them."""

    protocol_version = "HTTP/1.1"

    def __init__(self, upstream: "FaultyUpstream", *args: Any) -> None:
        self.upstream = upstream
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.body = json.loads(raw)
        fault = self.upstream.fault_for(raw)
        if fault is None:
            self.answer(200, self.completion())
        else:
            FAULTS[fault](self)

    def completion(self, **changes: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer(self.body["messages"])}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32},
        } | changes

    def error(self, status: int, code: str | None = None, **headers: str) -> None:
        error = {"message": f"said {status}", "type": "t", "param": None, "code": code}
        self.answer(status, {"error": error}, headers)

    def answer(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(status, len(content), headers or {})
        self.wfile.write(content)

    def head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def reset(self) -> None:
        """RST instead of an orderly end."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def hang(self) -> None:
        self.upstream.stopping.wait(HANG_S)
        self.close_connection = True

    def dribble(self) -> None:
        """A byte now and then: each read succeeds, the whole never comes in time."""
        content = json.dumps(self.completion()).encode()
        self.head(200, len(content), {})
        for place in range(int(HANG_S / 0.05)):
            self.wfile.write(content[place : place + 1])
            self.wfile.flush()
            if self.upstream.stopping.wait(0.05):
                break
        self.close_connection = True

    def cut_short(self) -> None:
        content = json.dumps(self.completion()).encode()
        self.answer(200, content[: len(content) // 2])

    def endless(self) -> None:
        """A reply without a length, until the client hangs up."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        with suppress(ConnectionError):
            while not self.upstream.stopping.is_set():
                self.wfile.write(b" " * 65_536)

    def packed(self) -> None:
        """Ten megabytes of nothing in ten kilobytes, which nobody asked for."""
        content = gzip.compress(b" " * 10_000_000)
        self.head(200, len(content), {"Content-Encoding": "gzip"})
        self.wfile.write(content)

    def filtered_answer(self) -> None:
        choice = {"index": 0, "message": {"content": None}, "finish_reason": "content_filter"}
        self.answer(200, self.completion(choices=[choice]))


TRANSIENT: Mapping[str, Callable[[Call], None]] = MappingProxyType(
    {
        "reset": Call.reset,
        "hang": Call.hang,
        "slow bytes": Call.dribble,
        "429": lambda call: call.error(429, "rate_limit_exceeded"),
        "429 with Retry-After": lambda call: call.error(429, Retry_After="1"),
        "429 with retry-after-ms": lambda call: call.error(429, retry_after_ms="60"),
        "500": lambda call: call.error(500),
        "503": lambda call: call.error(503),
        "truncated JSON": Call.cut_short,
    }
)
"""Faults that pass."""

LASTING: Mapping[str, Callable[[Call], None]] = MappingProxyType(
    {
        "exhausted quota": lambda call: call.error(429, "insufficient_quota"),
        "refused key": lambda call: call.error(401, "invalid_api_key"),
        "filtered prompt": lambda call: call.error(400, "content_filter"),
        "filtered answer": Call.filtered_answer,
        "wrong schema": lambda call: call.answer(200, {"answer": "Anna."}),
        "empty choices": lambda call: call.answer(200, call.completion(choices=[])),
        "endless reply": Call.endless,
        "packed reply": Call.packed,
        "another model": lambda call: call.answer(200, call.completion(model="another")),
    }
)
"""Those that do not, however often one asks."""

FAULTS = {**TRANSIENT, **LASTING}


@dataclass
class FaultyUpstream:
    """What goes wrong, how often, and what has been asked."""

    url: str = ""
    share: float = 0.0
    """Of calls that meet a fault."""
    faults: Sequence[str] = tuple(TRANSIENT)
    """Those that they meet, each as often as the others."""
    calls: Counter[bytes] = field(default_factory=Counter)
    """By body, how often it was sent."""
    met: Counter[str] = field(default_factory=Counter)
    """By fault, how often it was met."""
    stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def settings(self, **changes: Any) -> dict[str, Any]:
        """A service's settings that make this its teacher; sections are changed key by key."""
        settings: dict[str, Any] = {
            "backend": "openai",
            "canary": "off",  # The tests count calls.
            "served_models": ["builtin"],
            "openai": {
                "base_url": self.url,
                "provider": "test",
                "model": MODEL,
                "api_key_env": None,
                "attempt_timeout_s": 1.5,
            },
        }
        for name, value in changes.items():
            old = settings.get(name)
            settings[name] = {**old, **value} if isinstance(old, dict) else value
        return settings

    def fault_for(self, body: bytes) -> str | None:
        """What this call meets."""
        with self._lock:
            number = self.calls[body]
            self.calls[body] += 1
            drawn = sha256(body + bytes([number % 256])).digest()
            if int.from_bytes(drawn[:4], "big") >= self.share * 2**32:
                return None
            fault = self.faults[int.from_bytes(drawn[4:8], "big") % len(self.faults)]
            self.met[fault] += 1
            return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has waited long enough may leave."""


@contextmanager
def faulty_upstream() -> Iterator[FaultyUpstream]:
    """The server in threads of this process, without faults at first."""
    upstream = FaultyUpstream()
    with _Server(("127.0.0.1", 0), partial(Call, upstream)) as server:
        upstream.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield upstream
        upstream.stopping.set()
        server.shutdown()
        thread.join()
