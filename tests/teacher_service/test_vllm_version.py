"""What a running server says of its version is kept beside its answers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.teacher_service.conftest import Upstream


@pytest.fixture
def server():
    """A server that speaks vLLM's API; `version` is what it says (None: it knows no such route)."""

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = self.path == "/version" and server.version
            self._reply(200 if known else 404, json.dumps({"version": server.version}))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._reply(200, Upstream.chat()[2])

        def _reply(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.version = "0.32.0"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("version", ["0.32.0", None])
def test_the_engines_version_is_provenance(start, server, version):
    """A server that does not tell is used all the same."""
    server.version = version
    section = {
        "base_url": f"http://127.0.0.1:{server.server_port}/v1",
        "model": "mine",
        "revision": "1",
        "served_name": Upstream.MODEL,
    }
    service = start(backend="vllm", vllm=section)
    item = service.batch([{"text": "a"}]).json()["data"][0]
    entry = service.http.get(f"/v1/cache/entries/{item['key']}").json()
    provenance = entry["completion"]["provenance"]
    assert (provenance["engine"], provenance["engine_version"]) == ("vllm", version)
