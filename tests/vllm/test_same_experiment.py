"""The same experiment with three teachers: only the line that names the backend is changed."""

import json
import time
from pathlib import Path

import httpx2
import pytest
import yaml

from taco.own_service import own_service
from tests.tiny_runs import tiny_document
from tests.vllm.conftest import START_S
from trainer.config import Config
from trainer.learning.launch import Result, train_new
from trainer.learning.lockfile import Lock

pytestmark = pytest.mark.timeout(2 * START_S)

BACKENDS = ("builtin", "transformers", "vllm")


@pytest.fixture(scope="module")
def results(settings, model, meetings, base, tmp_path_factory) -> dict[str, Result]:
    """A run of two steps with each teacher, each with a store of its own."""
    folder = tmp_path_factory.mktemp("experiment")
    sections = yaml.safe_dump(
        {"transformers": {"model": str(model), "device": "cpu"}, "vllm": settings["vllm"]}
    )
    document = tiny_document(meetings, base, task={"max_tokens": 8}, hyperparams={"epochs": 1})
    results = {}
    for backend in BACKENDS:
        teacher = folder / f"{backend}.yaml"
        teacher.write_text(f"backend: {backend}\n{sections}")
        with own_service(teacher, store=folder / f"{backend}.sqlite") as url:
            _wait_until_ready(url)
            results[backend] = train_new(
                Config.model_validate(document),
                backend,
                teacher_url=url,
                runs=folder,
                report=lambda _: None,
            )
    return results


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_teacher_ends_with_a_compressor_and_a_lock(results, backend):
    """All of its answers were made by it, and scored."""
    result = results[backend]
    assert Path(result.model_path, "model.safetensors").is_file()
    assert result.backend_calls > 0
    assert {one["outcome"] for one in _rollouts(result)} <= {"scored", "out_of_range"}
    assert "scored" in {one["outcome"] for one in _rollouts(result)}


def test_it_is_the_same_experiment(results):
    """Before the first update all three meet the same examples with the same masks."""
    first = [
        [
            (one["example"], one["compressed_text"])
            for one in _rollouts(results[backend])
            if one["step"] == 1
        ]
        for backend in BACKENDS
    ]
    assert first[0]
    assert first[0] == first[1] == first[2]


def test_the_model_is_one_teacher_whichever_engine_runs_it(results):
    """The locks name it by the same digest, and the built-in teacher by another."""
    digests = {
        backend: Lock(Path(result.lock)).header["teacher"] for backend, result in results.items()
    }
    assert digests["transformers"] == digests["vllm"] != digests["builtin"]


def _rollouts(result: Result) -> list[dict]:
    text = Path(result.folder, "logs/rollouts.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def _wait_until_ready(url: str) -> None:
    give_up = time.monotonic() + START_S
    while (reply := httpx2.get(f"{url}/readyz")).status_code != 200:
        assert time.monotonic() < give_up, reply.text
        time.sleep(0.5)
