"""`python -m trainer`, up to where the training begins."""

import subprocess
import sys

import pytest
import yaml

from trainer.__main__ import USAGE, main

CONFIG = {
    "data": {"train_file_path": "data.json"},
    "model": {"model_load_path": "base"},
    "task": {"prompt": "{transcript}"},
}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run it with arguments: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
        return main(), *capsys.readouterr()

    return run


def test_usage(run):
    """Asked for, it is no error."""
    assert run("--help") == (0, f"{USAGE}\n", "")
    assert run() == (2, "", f"{USAGE}\n")
    assert run("config.yaml", "--resume", "runs/config") == (2, "", f"{USAGE}\n")


def test_a_mistake_is_one_message(run, tmp_path):
    """Config, override, and a teacher that does not answer."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    code, _, said = run(path, "hyperparams.epoch=1")
    assert code == 1
    assert said.endswith("did you mean hyperparams.epochs?\n")
    code, _, said = run(path, "teacher.url=http://127.0.0.1:9")
    assert code == 1
    assert said.startswith("expected a teacher at http://127.0.0.1:9")


def test_no_service_is_started(run, tmp_path, monkeypatch):
    """Unlike `taco train`: what to start is said instead."""
    monkeypatch.setattr("trainer.rollouts.connection.DEFAULT_URL", "http://127.0.0.1:9")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    code, _, said = run(path)
    assert code == 1
    assert "`taco serve`" in said


def test_what_is_resumed_must_be_a_run(run, tmp_path):
    """Its own config says where the teacher is."""
    code, _, said = run("--resume", tmp_path)
    assert code == 1
    assert said.startswith(f"{tmp_path}: expected a run's folder with run.json")


def test_a_bad_config_is_answered_without_torch(tmp_path):
    """The config is read first."""
    (tmp_path / "bad.yaml").write_text("hyperparams: {epoch: 1}")
    code = (
        "import sys; sys.argv = ['trainer', 'bad.yaml']\n"
        "from trainer.__main__ import main\n"
        "print(main(), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
