"""The installed command works wherever one is, whatever lies there."""

import json
import os
from pathlib import Path

import pytest

from taco.own_service import own_service

DECOYS = ("cache", "trainer", "taco", "teacher_service", "tests")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's project, with packages of the same names as ours, in a path that needs care."""
    folder = tmp_path_factory.mktemp("foreign") / "my project #1"
    for name in DECOYS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('imported decoy {name}')")
    return folder


def test_a_run_and_its_replay_beside_packages_of_our_names(installed_taco, config_file, folder):
    """Both start a service of their own; the replay asks no model and gives the same weights.

    It only reads, so that it may run beside the service that records.
    """
    home = {"TACO_HOME": str(folder / "home")}
    first = installed_taco("train", config_file, cwd=folder, **home)
    assert first.code == 0, first.err
    assert "starting a teacher service: the built-in teacher" in first.out
    assert (folder / "home/completions.sqlite").is_file()

    lock = Path("runs/config/run.lock")
    with own_service(store=folder / "home/completions.sqlite"):
        replayed = installed_taco("train", "--replay", lock, cwd=folder, **home)
    assert replayed.code == 0, replayed.err
    results = [
        json.loads((folder / "runs" / name / "result.json").read_text())
        for name in ("config", "config-replay")
    ]
    assert results[0]["backend_calls"] > 0
    assert results[1]["backend_calls"] == 0
    assert results[0]["weights_digest"] == results[1]["weights_digest"]
    assert results[0]["lock_root"] == results[1]["lock_root"]


def test_every_command_finds_our_packages(installed_taco, folder, tmp_path):
    """Statistics and help import them too."""
    store = os.fspath(tmp_path / "none.sqlite")
    for arguments in (["--help"], ["cache", "stats", "--store", store], ["train", "none.yaml"]):
        said = installed_taco(*arguments, cwd=folder)
        assert "decoy" not in said.out + said.err
