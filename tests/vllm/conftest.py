"""Real vLLM on the CPU, from an environment of its own: `make test-vllm`."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from teacher_service.backends import vllm_server
from tests.teacher_service.conftest import Service, running
from tests.tiny_causal_lm import make_causal_lm

KEY = "a-key-that-the-tests-know"
START_S = 900


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter that has vLLM."""
    python = os.environ.get("TACO_VLLM_PYTHON")
    if not python:
        pytest.skip("real vLLM is tested by `make test-vllm`, which installs it (3.5 GB)")
    return python


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A tiny random Qwen2."""
    return make_causal_lm(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def vllm_url(vllm_python) -> str:
    """Where vLLM listens, once the service has started it."""
    return f"http://127.0.0.1:{vllm_server._free_port()}/v1"


@pytest.fixture(scope="session")
def settings(vllm_python, model) -> dict:
    """A service that starts vLLM on this model."""
    section = {
        "model": str(model),
        "python": vllm_python,
        "arguments": ["--enforce-eager", "--max-model-len", "512"],
        "environment": {
            "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        },
    }
    return {"backend": "vllm", "vllm": section}


@pytest.fixture(scope="session")
def service(settings, vllm_url, tmp_path_factory) -> Iterator[Service]:
    """A service with a vLLM of its own, ready; port and key are known to the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_server, "_free_port", lambda: int(vllm_url[:-3].rpartition(":")[2]))
        patch.setattr(vllm_server.secrets, "token_hex", lambda _: KEY)
        store = tmp_path_factory.mktemp("store") / "completions.sqlite"
        with running({"store": store, "canary": "auto", **settings}) as service:
            assert service.http.get("/readyz").json() == {
                "status": "unavailable",
                "reason": "vLLM is starting",
            }
            wait_until_ready(service)
            yield service


def wait_until_ready(service: Service) -> None:
    """Wait as long as a slow machine may need."""
    give_up = time.monotonic() + START_S
    while (reply := service.http.get("/readyz")).status_code != 200:
        assert time.monotonic() < give_up, reply.text
        time.sleep(0.5)
