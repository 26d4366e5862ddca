"""The service as a process of its own.

It is killed ten times here; `make soak` does the same two hundred times (TACO_SOAK_KILLS).
"""

import itertools
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
import yaml

from cache import CompletionStore
from cache.verifying import verify_store

KILLS = int(os.environ.get("TACO_SOAK_KILLS", "10"))


@pytest.fixture
def spawn(tmp_path: Path, store_path: Path):
    """Start `python -m teacher_service` over the test's store; killed when the test ends."""
    spawned: list[subprocess.Popen] = []

    def spawn_it(**settings) -> subprocess.Popen:
        config = tmp_path / f"{len(spawned)}.yaml"
        config.write_text(yaml.safe_dump({"store": str(store_path), "port": 0, **settings}))
        command = [sys.executable, "-P", "-m", "teacher_service", "--config", str(config)]
        command += ["--announce-file", str(config.with_suffix(".json"))]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        process.announce_file = config.with_suffix(".json")
        spawned.append(process)
        return process

    yield spawn_it
    for process in spawned:
        process.kill()
        process.communicate()


def test_it_announces_where_it_serves_and_stops_in_order(spawn, store_path):
    """The announcement is there once it answers; SIGTERM ends it with 0 and a closed store."""
    process = spawn()
    url = _url(process)
    assert json.loads(process.announce_file.read_text())["pid"] == process.pid
    livez = httpx2.get(f"{url}/livez").json()
    assert (livez["status"], livez["service"]) == ("ok", "taco-teacher")
    assert httpx2.get(f"{url}/readyz").json() == {"status": "ready"}
    assert stat.S_IMODE(store_path.stat().st_mode) == 0o600
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not store_path.with_name(f"{store_path.name}-wal").exists()


def test_ctrl_c_lets_what_is_under_way_arrive(spawn, store_path):
    """The client gets its answer, the store keeps it, no traceback is shown."""
    process = spawn(builtin={"latency_ms": 3000})
    url = _url(process)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(_chat, url, "one")
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert reply.result().status_code == 200
    assert process.wait(20) == 0
    assert "Traceback" not in process.stderr.read()
    assert _stored(store_path) == 1


@pytest.fixture(scope="module")
def killed_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stores lie that one service after another is killed over."""
    return tmp_path_factory.mktemp("killed")


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_kill_loses_no_answer_that_a_client_received(spawn, killed_stores, seed):
    """Whatever the moment: answers leave after their commit, and nothing is half written.

    Ten kills in a row hit the same store, so that the next service starts on what the last left.
    """
    path = killed_stores / f"{seed // 10}.sqlite"
    process = spawn(store=str(path))
    url = _url(process)
    received: dict[str, str] = {}
    with ThreadPoolExecutor(4) as pool:
        clients = [
            pool.submit(_ask_until_it_dies, url, f"{seed} {client}", received)
            for client in range(4)
        ]
        while not received:
            time.sleep(0.002)
        time.sleep(random.Random(seed).uniform(0, 0.5))
        process.kill()
        for client in clients:
            client.result()
    process.wait(20)
    with CompletionStore.open(path) as store:
        stored = store.lookup([bytes.fromhex(key) for key in received])
    assert {key.hex(): entry.answer.text for key, entry in stored.items()} == received
    assert verify_store(path).named == ()


def test_a_taken_port_is_one_clear_sentence(spawn):
    """It names the port and what to do; nothing else is touched."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = spawn(port=port)
        assert process.wait(20) == 2
    message = process.stderr.read()
    assert f"port {port}" in message
    assert "another port" in message
    assert "Traceback" not in message


def test_a_second_service_on_the_same_store_is_refused(spawn):
    """One process writes a store; the message says which one does."""
    first = spawn()
    _url(first)
    second = spawn()
    assert second.wait(20) == 2
    message = second.stderr.read()
    assert str(first.pid) in message
    assert "Traceback" not in message


def test_a_replay_service_may_stand_beside_the_recorder(spawn):
    """It only reads."""
    recorder = _url(spawn())
    recorded = _chat(recorder, "one")
    replay = _url(spawn(mode="replay"))
    assert _chat(replay, "one").json() == recorded.json()


def test_wrong_settings_end_with_the_list_of_problems(spawn):
    """Exit code 2, no traceback."""
    process = spawn(prot=1, mode="rekord")
    assert process.wait(20) == 2
    message = process.stderr.read()
    assert "2 problems" in message
    assert "Traceback" not in message


def test_importing_the_service_builds_nothing():
    """Neither a store nor a client, nor torch."""
    code = "import sys, teacher_service; print('torch' in sys.modules, 'openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def _url(process: subprocess.Popen) -> str:
    give_up = time.monotonic() + 120
    while not process.announce_file.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return json.loads(process.announce_file.read_text())["url"]


def _chat(url: str, content: str, http=httpx2) -> httpx2.Response:
    body = {"model": "builtin", "messages": [{"role": "user", "content": content}]}
    return http.post(f"{url}/v1/chat/completions", json=body, timeout=20)


def _ask_until_it_dies(url: str, name: str, received: dict[str, str]) -> None:
    """Ask for ever new answers, and note those that came whole."""
    with httpx2.Client(timeout=60) as http, suppress(httpx2.TransportError):
        for number in itertools.count():
            items = [{"text": f"Answer: {name} {number} {place}."} for place in range(4)]
            body = {"model": "builtin", "prompt_template": "{transcript}", "items": items}
            reply = http.post(f"{url}/v1/teacher/completions", json=body)
            assert reply.status_code == 200
            received |= {item["key"]: item["text"] for item in reply.json()["data"]}


def _stored(store_path: Path) -> int:
    with CompletionStore.open(store_path, read_only=True) as store:
        return store.stats().completions
