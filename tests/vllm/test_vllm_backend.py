"""The vllm backend with real vLLM on the CPU."""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from teacher_service.backend_settings import TransformersSettings
from teacher_service.backends.model_files import find_model
from tests.teacher_service.conftest import running
from tests.tiny_causal_lm import make_causal_lm
from tests.vllm.conftest import KEY, START_S, wait_until_ready

pytestmark = pytest.mark.timeout(2 * START_S)

TEXTS = ["Hi.", "The council met on Tuesday.", "Who leads it? " * 8, "Die Straße ist zu."]


def test_the_service_answers_with_its_own_server(service, model):
    """Chat, plain completion, batch; each answer says that its origin is verified."""
    first = service.chat("one", temperature=0, max_tokens=6)
    assert first.status_code == 200, first.text
    assert first.json()["usage"]["completion_tokens"] == 6
    assert (
        service.chat("one", temperature=0, max_tokens=6)
        .headers["Cache-Status"]
        .startswith("taco; hit")
    )
    body = {"model": "builtin", "prompt": "The council", "max_tokens": 4}
    assert service.http.post("/v1/completions", json=body).status_code == 200
    items = service.batch([{"text": text} for text in TEXTS], max_tokens=6).json()["data"]
    assert [item["outcome"] for item in items] == ["completed"] * len(TEXTS)
    entry = service.http.get(f"/v1/cache/entries/{items[0]['key']}").text
    assert '"engine":"vllm"' in entry
    assert '"verified":true' in entry
    assert '"batch_invariant":false' in entry
    assert '"engine_version":"0.' in entry
    assert str(model) not in entry


def test_its_canary_is_recorded_and_agrees_with_itself(service):
    """Asked of the engine itself, once it is up; it has not changed since."""
    checked = service.http.post("/v1/teachers/canary").json()
    assert checked["counting"] == checked["prompts"] > 0
    assert checked["changed"] == []


def test_it_is_the_teacher_that_transformers_runs(service, start_transformers):
    """The same files in the same dtype: one digest, so one key, and here also the same texts."""
    asked = [{"text": text} for text in TEXTS]
    fields = {"temperature": 0, "max_tokens": 16}
    ours, other = (one.batch(asked, **fields).json() for one in (service, start_transformers))
    assert ours["teacher"] == other["teacher"]
    assert [item["key"] for item in ours["data"]] == [item["key"] for item in other["data"]]
    # A random model may end within a character, whose bytes vLLM then leaves out.
    texts, others = (
        [item["text"].rstrip("\ufffd") for item in one["data"]] for one in (ours, other)
    )
    assert texts == others
    assert all(texts)


def test_a_drawn_answer_is_the_requests_own(service):
    """Asked anew among others, it is the same one; choices differ."""
    fields = {"temperature": 1.0, "max_tokens": 12}
    first = service.chat("drawn", **fields).json()
    anew = {"Cache-Control": "no-cache"}
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(service.chat, f"other {index}", **fields) for index in range(8)]
        again = service.chat("drawn", headers=anew, **fields).json()
        assert all(other.result().status_code == 200 for other in others)
    assert again["choices"] == first["choices"]
    several = service.chat("several", n=3, **fields).json()["choices"]
    assert len({choice["message"]["content"] for choice in several}) == 3


def test_a_prompt_that_is_too_long_fails_alone(service):
    """The client is told; nothing is stored for it."""
    items = service.batch([{"text": "x" * 2000}, {"text": "y"}], max_tokens=4).json()["data"]
    assert [item["outcome"] for item in items] == ["failed", "completed"]
    assert items[0]["error"]["type"] == "context_length_exceeded"


def test_a_running_server_is_verified_by_its_stamp(service, model, vllm_url, tmp_path, monkeypatch):
    """Ours is taken; the same server as another teacher's is refused, and nothing is kept."""
    monkeypatch.setenv("TEST_VLLM_KEY", KEY)
    url = {"base_url": vllm_url, "api_key_env": "TEST_VLLM_KEY", "served_name": model.name}
    section = {**url, "model": str(model), "verify": True}
    with running({"backend": "vllm", "vllm": section, "store": tmp_path / "a.sqlite"}) as running_:
        assert running_.chat("by URL", max_tokens=4).status_code == 200
    other = make_causal_lm(tmp_path / "other", seed=2)
    section = {**url, "model": str(other)}
    with running({"backend": "vllm", "vllm": section, "store": tmp_path / "b.sqlite"}) as wrong:
        reply = wrong.chat("by URL", max_tokens=4)
        assert reply.status_code == 502
        assert "--fingerprint-value" in reply.json()["error"]["message"]
        assert wrong.completions_stored() == 0


def test_nobody_else_can_use_our_server(service, vllm_url):
    """It wants a key that only the service has."""
    reply = httpx2.get(f"{vllm_url}/models")
    assert reply.status_code == 401


def test_a_server_that_dies_is_started_again(service, vllm_url):
    """What was asked meanwhile waits for it and is answered."""
    port = vllm_url[:-3].rpartition(":")[2]
    for process in _servers(f"--port {port}"):
        os.kill(process, signal.SIGKILL)
    give_up = time.monotonic() + 60
    while service.http.get("/readyz").status_code != 503:
        assert time.monotonic() < give_up
    reply = service.http.post(
        "/v1/chat/completions",
        json={
            "model": "builtin",
            "messages": [{"role": "user", "content": "after the crash"}],
            "max_tokens": 4,
        },
        timeout=START_S,
    )
    assert reply.status_code == 200, reply.text
    wait_until_ready(service)


@pytest.fixture(scope="module")
def start_transformers(model, tmp_path_factory):
    """The same model by transformers."""
    store = tmp_path_factory.mktemp("store") / "completions.sqlite"
    section = {"model": str(model), "device": "cpu"}
    with running({"store": store, "backend": "transformers", "transformers": section}) as service:
        expected = find_model(TransformersSettings(model=str(model)), "transformers")
        assert expected.dtype == "float32"
        yield service


def _servers(argument: str) -> list[int]:
    """The server renames its processes; what it is tied to keeps the command's arguments."""
    listing = ["ps", "-eww", "-o", "pid,ppid,args"]
    lines = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    [tie] = [one.split()[0] for one in lines if "tied_process" in one and argument in one]
    children = [int(one.split()[0]) for one in lines if one.split()[1] == tie]
    assert children
    return children
