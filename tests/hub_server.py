"""The Hugging Face Hub's endpoints that an upload uses, on loopback: it keeps what it was sent."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What the hub knows, and how it behaves."""

    url: str = ""
    status: int = 200
    """Of every answer, once it is set to an error."""
    repos: dict[str, dict[str, Any]] = field(default_factory=dict)
    branches: set[tuple[str, str]] = field(default_factory=set)
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    """By (repository, branch); what a commit brought."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files, by their SHA-256."""
    tokens: set[str | None] = field(default_factory=set)
    """Who asked."""
    seen: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"] or 0)))

    def do_PUT(self) -> None:
        self.do_POST()

    def _serve(self, body: bytes) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.seen.append(f"{self.command} {path}")
        if self.command != "PUT":  # Which goes to a storage of its own, by a signed address.
            hub.tokens.add((self.headers["Authorization"] or "").removeprefix("Bearer "))
        if hub.status != 200:
            self._answer(hub.status, {"error": "no such luck"})
            return
        parts = path.strip("/").split("/")
        match parts:
            case ["api", "repos", "create"]:
                wanted = json.loads(body)
                name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
                exists = name in hub.repos
                hub.repos.setdefault(name, wanted)
                self._answer(409 if exists else 200, {"url": f"{hub.url}/{name}"})
            case ["api", "validate-yaml"]:
                self._answer(200, {"warnings": [], "errors": []})
            case ["api", "models", owner, name, "branch", branch]:
                exists = (f"{owner}/{name}", branch) in hub.branches
                hub.branches.add((f"{owner}/{name}", branch))
                self._answer(409 if exists else 200, {})
            case ["api", "models", _, _, "preupload", _]:
                self._answer(200, {"files": [_mode(file) for file in json.loads(body)["files"]]})
            case [_, _, "info", "lfs", "objects", "batch"]:
                wanted = json.loads(body)["objects"]
                self._answer(200, {"transfer": "basic", "objects": list(map(self._place, wanted))})
            case ["storage", oid]:
                hub.objects[oid] = body
                self._answer(200, {})
            case ["api", "models", owner, name, "commit", branch]:
                repo = f"{owner}/{name}"
                kept = hub.files.setdefault((repo, branch), {})
                kept.update(self._committed(map(json.loads, body.splitlines())))
                url = f"{hub.url}/{repo}/commit/c0ffee"
                self._answer(200, {"commitUrl": url, "commitOid": "c0ffee", "success": True})
            case _:
                self._answer(404, {"error": f"no {path} here"})

    def _place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        upload = {"href": f"{self.hub.url}/storage/{wanted['oid']}"}
        return {"oid": wanted["oid"], "size": wanted["size"], "actions": {"upload": upload}}

    def _committed(self, lines: Iterator[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                yield value["path"], base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                yield value["path"], self.hub.objects[value["oid"]]

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    large = file["path"].endswith(".safetensors")
    mode = "lfs" if large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub of its own, empty."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
