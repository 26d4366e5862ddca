"""A run in the service's notes: under the id in its folder, with every key of its lock."""

import json
from pathlib import Path

import httpx2
import pytest

from taco.own_service import own_service
from trainer.config import Config
from trainer.learning.launch import resume, train_new
from trainer.learning.run_folder import new_run_id


@pytest.fixture
def url(tmp_path):
    """A service with a store of its own."""
    with own_service(store=tmp_path / "completions.sqlite") as own:
        yield own


@pytest.fixture
def result(document, tmp_path, url):
    """A run of four steps."""
    config = Config.model_validate(document(hyperparams={"epochs": 1}))
    runs = tmp_path / "runs"
    return train_new(config, "trial", teacher_url=url, runs=runs, report=lambda _: None)


def _run_id(result):
    return json.loads((Path(result.folder) / "run.json").read_text())["run_id"]


def _fingerprints(lock):
    lines = [json.loads(line) for line in Path(lock).read_text().splitlines()[1:-1]]
    return [key for line in lines for _, key, _ in line["replies"]]


def test_the_service_knows_every_key_that_a_run_used(result, url):
    """The lock and the store's notes are two views of the same."""
    run_id = _run_id(result)
    assert run_id.startswith("trial-")
    [listed] = httpx2.get(f"{url}/v1/runs").json()["data"]
    assert listed["id"] == run_id
    run = httpx2.get(f"{url}/v1/runs/{run_id}").json()
    used = _fingerprints(result.lock)
    assert run["keys"] == run["answers"]["miss"] == result.backend_calls == len(set(used))
    assert sum(run["answers"].values()) == len(used)
    assert (run["first_step"], run["last_step"]) == (1, 4)
    entry = httpx2.get(f"{url}/v1/cache/entries/{used[0]}").json()
    assert entry["uses"][0] == {"run": run_id, "step": 1, "served": "miss", "uses": 1}


def test_a_resumed_run_keeps_its_id(result, url):
    """What it cost is one sum, however often it was stopped."""
    before = _run_id(result)
    (Path(result.folder) / "result.json").unlink()  # As if it had been killed before its end.
    resume(Path(result.folder), teacher_url=url, report=lambda _: None)
    assert _run_id(result) == before
    assert len(httpx2.get(f"{url}/v1/runs").json()["data"]) == 1


def test_a_run_s_id_travels_in_a_header(tmp_path):
    """Whatever its folder is called; and no two runs have the same."""
    first, second = (new_run_id(tmp_path / "Überprüfung 7/2".replace("/", "-")) for _ in range(2))
    assert first.startswith("_berpr_fung_7-2-")
    assert first != second
    assert len(new_run_id(tmp_path / ("x" * 250))) <= 200
