"""Two services, each a process of its own, over one PostgreSQL database."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psycopg
import pytest
import yaml

from cache import Completion, CompletionStore, NewEntry
from teacher_service.backends.builtin import BuiltinBackend
from teacher_service.keys import add_key, revoke_key
from teacher_service.service import Teacher


@dataclass
class Replica:
    """One of the services."""

    process: subprocess.Popen[str]
    http: httpx2.Client

    def chat(self, content: str) -> httpx2.Response:
        body = {"model": "builtin", "messages": [{"role": "user", "content": content}]}
        return self.http.post("/v1/chat/completions", json=body)

    def since_start(self) -> dict[str, int]:
        return self.http.get("/v1/cache/stats").json()["since_start"]


@pytest.fixture
def start_replica(tmp_path: Path, postgres_url: str) -> Iterator[Callable[..., Replica]]:
    """Start `python -m teacher_service` over the test's database; killed when the test ends."""
    replicas: list[Replica] = []

    def start(**settings) -> Replica:
        config = tmp_path / f"{len(replicas)}.yaml"
        config.write_text(
            yaml.safe_dump({"store": postgres_url, "port": 0, "canary": "off", **settings})
        )
        announcement = config.with_suffix(".json")
        command = [sys.executable, "-P", "-m", "teacher_service", "--config", str(config)]
        command += ["--announce-file", str(announcement)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        replicas.append(Replica(process, httpx2.Client(timeout=30)))
        give_up = time.monotonic() + 20
        while not announcement.exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < give_up
            time.sleep(0.02)
        limits = httpx2.Limits(max_connections=None)
        url = json.loads(announcement.read_text())["url"]
        replicas[-1].http = httpx2.Client(base_url=url, timeout=30, limits=limits)
        return replicas[-1]

    yield start
    for replica in replicas:
        replica.http.close()
        replica.process.kill()
        replica.process.communicate()


def _wait_for_lease(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM leases").fetchone() == (0,):
            time.sleep(0.01)


def _theirs(store: CompletionStore) -> NewEntry:
    """What another service might store for the question "one"."""
    identity = BuiltinBackend(0).identity
    asked = Teacher(identity, store, None, 1).ask(
        "chat/completions", {"messages": [{"role": "user", "content": "one"}]}
    )
    return NewEntry(asked.fingerprint, identity.digest, None, Completion("Theirs.", "stop"))


def test_a_thousand_identical_requests_at_two_services_are_one_call(
    start_replica, upstream, ask_a_thousand_times, postgres_url, monkeypatch
):
    """The upstream answers when all have come; all get its answer, and no lease is left behind."""
    monkeypatch.setenv("TEST_UPSTREAM_KEY", "sk-secret")
    hosted = {"base_url": upstream.url, "model": upstream.MODEL, "api_key_env": "TEST_UPSTREAM_KEY"}
    replicas = [
        start_replica(
            backend="openai", served_models=["builtin"], openai={"provider": "test", **hosted}
        )
        for _ in range(2)
    ]
    replies = ask_a_thousand_times(*(str(replica.http.base_url) for replica in replicas))
    assert {reply.status_code for reply in replies} == {200}
    assert {reply.json()["choices"][0]["message"]["content"] for reply in replies} == {"Anna."}
    assert len(upstream.requests) == 1
    counts = [replica.since_start() for replica in replicas]
    assert sum(count["backend_calls"] for count in counts) == 1
    assert sum(count["hits"] + count["collapsed"] for count in counts) == 999
    assert sum(count["misses"] for count in counts) == 1
    time.sleep(0.1)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM leases").fetchone() == (0,)


def test_a_killed_service_is_replaced(start_replica, postgres_url):
    """Its lease runs out; the other makes the answer, once, for all who wait there."""
    leader = start_replica(lease_s=2, builtin={"latency_ms": 60_000})
    survivor = start_replica(lease_s=2, builtin={"latency_ms": 100})
    with ThreadPoolExecutor(60) as pool:
        lost = pool.submit(leader.chat, "one")
        _wait_for_lease(postgres_url)
        replies = [pool.submit(survivor.chat, "one") for _ in range(50)]
        time.sleep(1)
        assert not any(reply.done() for reply in replies)
        leader.process.send_signal(signal.SIGKILL)
        assert isinstance(lost.exception(timeout=20), httpx2.TransportError)
        answers = [reply.result(timeout=20) for reply in replies]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert survivor.since_start()["backend_calls"] == 1


def test_a_long_call_keeps_its_lease(start_replica, postgres_url):
    """It is renewed while the call lasts, so that nobody else asks."""
    first = start_replica(lease_s=0.6, builtin={"latency_ms": 2500})
    second = start_replica(lease_s=0.6, builtin={"latency_ms": 0})
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(first.chat, "one")
        _wait_for_lease(postgres_url)
        assert second.chat("one").status_code == leader.result().status_code == 200
    assert first.since_start()["backend_calls"] == 1
    assert second.since_start()["backend_calls"] == 0


def test_a_service_that_was_asleep_past_its_lease_cannot_overwrite(start_replica, postgres_url):
    """Awake again, it is told, and serves the answer that was stored meanwhile."""
    sleeper = start_replica(lease_s=1, builtin={"latency_ms": 1500})
    with ThreadPoolExecutor(1) as pool, CompletionStore.open(postgres_url) as store:
        late = pool.submit(sleeper.chat, "one")
        _wait_for_lease(postgres_url)
        time.sleep(0.5)  # By now it has looked once more, and its call is under way.
        sleeper.process.send_signal(signal.SIGSTOP)
        theirs, leases = _theirs(store), store.leases(60)
        while not leases.take([theirs.fingerprint.key]):
            time.sleep(0.05)
        store.commit([theirs]).result()
        sleeper.process.send_signal(signal.SIGCONT)
        assert late.result().json()["choices"][0]["message"]["content"] == "Theirs."
        assert sleeper.chat("one").headers["Cache-Status"].startswith("taco; hit")
        assert (store.stats().completions, store.stats().alternates) == (1, 1)
    sleeper.process.terminate()
    assert "leases ran out while their answers were being made" in sleeper.process.stderr.read()


def test_a_log_in_holds_at_both_and_ends_with_its_key(start_replica, tmp_path):
    """Behind one address a visitor may reach either; no session is kept where only one sees it."""
    path = tmp_path / "keys.json"
    key = add_key(path, "reader", ["read"])
    settings = {"keys_file": str(path), "allowed_hosts": ["taco.example"]}
    replicas = [start_replica(**settings) for _ in range(2)]
    person = {"Host": "taco.example", "Accept": "text/html"}
    form = {"key": key, "next": "/page/runs"}
    logged_in = replicas[0].http.post("/page/login", data=form, headers=person)
    assert logged_in.headers["Location"] == "/page/runs"
    [(name, value)] = logged_in.cookies.items()
    person["Cookie"] = f"{name}={value}"
    pages = [replica.http.get("/page/runs", headers=person) for replica in replicas]
    assert [page.status_code for page in pages] == [200, 200]
    revoke_key(path, "reader")
    time.sleep(1.1)  # Services look for a change once a second.
    sent = [replica.http.get("/page/runs", headers=person) for replica in replicas]
    assert [page.headers["Location"] for page in sent] == ["/page/login?next=%2Fpage%2Fruns"] * 2


def test_who_waited_finds_the_answer_when_its_turn_comes(start, postgres_url):
    """The other service stored it and gave its lease back between two looks: no call is made."""
    service = start(store=postgres_url)
    with ThreadPoolExecutor(1) as pool, CompletionStore.open(postgres_url) as store:
        theirs, leases = _theirs(store), store.leases(60)
        taken = leases.take([theirs.fingerprint.key])
        reply = pool.submit(service.chat, "one")
        time.sleep(1)
        assert not reply.done()
        store.commit([theirs]).result()
        leases.give_back(taken.values())
        assert reply.result().json()["choices"][0]["message"]["content"] == "Theirs."
    assert service.since_start()["backend_calls"] == 0


def test_after_a_failure_it_is_the_turn_of_who_waits(start, upstream, postgres_url, monkeypatch):
    """A failed call is not shared between services: the next one asks anew."""
    monkeypatch.setenv("TEST_UPSTREAM_KEY", "sk-secret")
    hosted = {"base_url": upstream.url, "model": upstream.MODEL, "api_key_env": "TEST_UPSTREAM_KEY"}
    first, second = (
        start(backend="openai", store=postgres_url, openai={"provider": "test", **hosted})
        for _ in range(2)
    )

    def slow_refusal():
        time.sleep(0.5)
        return upstream.error(422)

    upstream.script = [slow_refusal]
    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(first.chat, "one")
        _wait_for_lease(postgres_url)
        assert second.chat("one").status_code == 200
        assert failed.result().status_code == 400
    assert len(upstream.requests) == 2


def test_a_database_that_went_away_is_503_until_it_is_back(start, postgres_server, postgres_url):
    """Hits and misses alike, at once and with a word on when to ask again."""
    service = start(store=postgres_url)
    assert service.chat("one").status_code == 200
    with postgres_server.away(postgres_url):
        for content in ("one", "two"):
            away = service.chat(content)
            assert away.status_code == 503
            assert away.headers["Retry-After"] == "1"
            assert "next use connects again" in away.json()["error"]["message"]
        assert service.http.get("/livez").status_code == 200
        assert service.http.get("/readyz").status_code == 503
    time.sleep(1.1)
    assert "hit" in service.chat("one").headers["Cache-Status"]
    assert service.chat("two").status_code == 200
