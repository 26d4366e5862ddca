"""`taco doctor`, whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taco.doctor.plan import subject_of
from taco.errors import UserError

HIDE_TORCH = """
import importlib.abc, importlib.metadata, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Hidden())
found = importlib.metadata.version
def version(name):
    if name == "torch":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
"""


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch, teacher_url):
    """A folder, a home and a teacher of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)


def contents(folder: Path) -> dict[Path, bytes]:
    """Everything in a folder."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_run_that_can_start(taco, config_file, tmp_path):
    """Nothing is wrong, status 0; a file is neither made nor changed."""
    before = contents(tmp_path)
    said = taco("doctor", config_file, "--json")
    found = json.loads(said.out)
    states = {each["what"]: each["state"] for each in found["findings"]}
    assert (said.code, found["ok"]) == (0, True), found
    assert set(states.values()) == {"ok"}
    assert {"python", "packages", "torch", "memory", "disk", "teacher", "store"} <= states.keys()
    assert {"config", "tokenizer", "metric", "data", "model"} <= states.keys()
    assert contents(tmp_path) == before


def test_everything_that_is_wrong_is_said_at_once(taco, config_file, tmp_path, monkeypatch):
    """Each with what to do, status 1."""
    monkeypatch.setenv("TACO_TEACHER_URL", "http://127.0.0.1:9")
    (tmp_path / "notes.txt").write_text("my notes")
    overrides = (
        "data.train_file_path=/nowhere/data.json",
        "data.val_file_path=/nowhere/validation.json",
        "model.model_load_path=/nowhere/base",
        "reward.metric=bleurt",
        "policy.length_tokenizer=/nowhere/tokenizer.json",
    )
    said = taco("doctor", config_file, *overrides, "--store", tmp_path / "notes.txt")
    assert said.code == 1
    wrong = {line.split()[1]: line for line in said.out.splitlines() if line.startswith("wrong")}
    assert set(wrong) == {
        "data",
        "validation",
        "model",
        "metric",
        "tokenizer",
        "teacher",
        "store",
    }
    assert "taco serve" in wrong["teacher"]
    assert "Traceback" not in said.out + said.err


def test_a_bad_config_is_one_finding_and_the_machine_is_still_looked_at(taco, tmp_path):
    """Every problem of the file, one a line."""
    config = tmp_path / "bad.yaml"
    config.write_text("hyperparams: {epoch: 3}")
    said = taco("doctor", config, "--json")
    findings = {each["what"]: each for each in json.loads(said.out)["findings"]}
    assert said.code == 1
    assert "did you mean hyperparams.epochs?" in findings["config"]["said"]
    assert findings["python"]["state"] == "ok"
    assert "data" not in findings


def test_a_finished_run_is_checked_by_its_own_model(taco, config_file, tmp_path):
    """The one that it made, here with damaged weights; stock `llmlingua` says what is wrong."""
    assert taco("train", config_file, "hyperparams.epochs=1").code == 0
    weights = tmp_path / "runs/config/model/bert-base-multilingual-cased/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    said = taco("doctor", "runs/config")
    [line] = [line for line in said.out.splitlines() if line.split()[1] == "model"]
    assert (said.code, line.split()[0]) == (1, "wrong")
    assert "stock llmlingua cannot load runs/config/model/bert-base-multilingual-cased" in line


def test_a_folder_that_is_no_run(tmp_path):
    """What was expected is said."""
    with pytest.raises(UserError, match="expected a config, or a run's folder with"):
        subject_of(tmp_path, ())


def test_without_torch_the_rest_is_still_checked(config_file, tmp_path):
    """As far as its absence can be imitated: no module and no package of that name."""
    (tmp_path / "sitecustomize.py").write_text(HIDE_TORCH)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("taco")), "doctor", str(config_file), "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    findings = {each["what"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1, done.stderr
    assert "torch is not installed" in findings["packages"]["said"]
    assert "No module named 'torch'" in findings["torch"]["said"]
    assert findings["data"]["state"] == "ok"
