"""A server of our own, kept running: real processes, a small HTTP server for the real one."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from teacher_service import StartError
from teacher_service.backends import supervisor
from teacher_service.backends.supervisor import Supervisor, Watch
from teacher_service.errors import UpstreamError

# Writes its process id, starts a worker as vLLM does, and serves; silent once `hang` exists.
SERVER = """
import http.server, os, pathlib, subprocess, sys, time
folder, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with (folder / "pids").open("a") as file:
    file.write(f"{os.getpid()} {worker.pid}\\n")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while (folder / "hang").exists():
            time.sleep(0.02)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    """A free one."""
    from teacher_service.backends.vllm_server import _free_port

    return _free_port()


@pytest.fixture
def keep(tmp_path, port):
    """Start a supervisor over a command; stopped when the test ends."""
    kept: list[Supervisor] = []

    def probe(timeout_s: float) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}", timeout=timeout_s).is_success
        except httpx2.HTTPError:
            return False

    def keep_it(command: list[str] | None = None, hang_timeout_s: float = 60) -> Supervisor:
        command = command or [sys.executable, "-c", SERVER, str(tmp_path), str(port)]
        watch = Watch(probe, start_timeout_s=20, hang_timeout_s=hang_timeout_s)
        kept.append(Supervisor("the server", command, dict(os.environ), watch))
        kept[-1].start()
        return kept[-1]

    yield keep_it
    for one in kept:
        one.stop()


def test_it_is_started_and_stopped_with_its_workers(keep, tmp_path):
    """Until it does real work it is `starting`; stopped, nothing of it is left."""
    server = keep()
    assert server.trouble == "the server is starting"
    asyncio.run(server.until_ready())
    assert server.trouble is None
    server.stop()
    _wait_until(lambda: not any(map(_lives, _processes(tmp_path))))


def test_one_that_dies_is_started_again(keep, tmp_path):
    """With its workers gone too; who waits for it gets the new one."""
    server = keep()
    asyncio.run(server.until_ready())
    first = _processes(tmp_path)
    os.kill(first[0], signal.SIGKILL)
    _wait_until(lambda: server.trouble is not None)
    asyncio.run(server.until_ready())
    assert server.starts == 2
    assert not any(map(_lives, first))


def test_one_that_hangs_is_started_again(keep, tmp_path):
    """Silence alone is no reason: it is probed first, and a probe that is answered is enough."""
    server = keep(hang_timeout_s=0.5)
    asyncio.run(server.until_ready())
    time.sleep(1.5)
    assert server.starts == 1
    (tmp_path / "hang").touch()
    _wait_until(lambda: server.starts == 2)
    (tmp_path / "hang").unlink()
    asyncio.run(server.until_ready())


def test_a_command_that_never_works_is_given_up(keep, monkeypatch, caplog):
    """After a few starts; the log has its last words, and who waits is told."""
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_S", 0.05)
    server = keep([sys.executable, "-c", "import sys; sys.exit('no such flag')"])
    with pytest.raises(UpstreamError, match="does not start"):
        asyncio.run(server.until_ready())
    assert server.starts == supervisor.MOST_STARTS
    assert "no such flag" in caplog.text


def test_a_program_that_is_missing_is_a_start_error(keep):
    """Before anything is started."""
    with pytest.raises(StartError, match="/nowhere/python"):
        keep(["/nowhere/python"])


def test_it_does_not_outlive_a_service_that_is_killed(tmp_path, port):
    """Its workers would hold the GPU."""
    code = (
        "import os, sys, time\n"
        "from teacher_service.backends.supervisor import Supervisor, Watch\n"
        "watch = Watch(lambda _: True, 20, 60)\n"
        f"command = [sys.executable, '-c', {SERVER!r}, {str(tmp_path)!r}, '{port}']\n"
        "Supervisor('x', command, dict(os.environ), watch).start()\n"
        "time.sleep(600)\n"
    )
    service = subprocess.Popen([sys.executable, "-c", code])
    try:
        _wait_until(lambda: len(_processes(tmp_path)) == 2)
    finally:
        service.kill()
        service.wait()
    _wait_until(lambda: not any(map(_lives, _processes(tmp_path))))


def _processes(folder: Path) -> list[int]:
    """The newest server's process id, and its worker's."""
    file = folder / "pids"
    lines = file.read_text().splitlines() if file.exists() else []
    return [int(word) for word in lines[-1].split()] if lines else []


def _lives(process: int) -> bool:
    """A zombie that nobody has collected yet is dead."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_until(happened) -> None:
    give_up = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.05)
