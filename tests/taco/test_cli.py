"""What the command line says: help, mistakes, and what to do about them."""

import json
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NO_TORCH = """
import sys
from taco.cli import main
for arguments in {lines!r}:
    sys.argv = ["taco", *arguments]
    try:
        main()
    except SystemExit as ended:
        print("ended with", ended.code)
print("imported", sorted({{"torch", "transformers", "llmlingua"}} & set(sys.modules)))
"""


def test_help_and_a_bad_config_are_answered_without_torch(tmp_path):
    """Half a second, not five; every command's help, and each way to get a config wrong."""
    (tmp_path / "bad.yaml").write_text("hyperparams: {epoch: 3}")
    lines = [
        ["--help"],
        *([command, "--help"] for command in ("demo", "train", "prepare", "serve", "cache")),
        ["train"],
        ["train", "bad.yaml"],
        ["train", "none.yaml"],
        ["prepare", "data.json", "--config", "bad.yaml"],
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-c", NO_TORCH.format(lines=lines)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "imported []"
    codes = [line for line in done.stdout.splitlines() if line.startswith("ended with")]
    assert codes == ["ended with 0"] * 6 + ["ended with 1"] * 4
    assert "Traceback" not in done.stderr


def test_a_bad_config_lists_every_problem(taco, tmp_path):
    """With the nearest right key; one sentence a line."""
    path = tmp_path / "bad.yaml"
    path.write_text("hyperparams: {epoch: 3, policy_lr: fast}\ntask: {prompt: x}")
    said = taco("train", path, "logging.log_interval=0")
    assert said.code == 1
    assert said.err.splitlines() == [
        f"{path}: 6 problems",
        "data: missing",
        "model: missing",
        "task.prompt: expected a template with {transcript}, where the text goes; it has none",
        "hyperparams.policy_lr: input should be a valid number, got 'fast'",
        "hyperparams.epoch: no such key; did you mean hyperparams.epochs?",
        "logging.log_interval: input should be greater than or equal to 1, got 0",
    ]


def test_a_config_that_is_not_there_is_named(taco):
    """As the user wrote it."""
    said = taco("train", "none.yaml")
    assert (said.code, said.err.splitlines()[0]) == (1, "none.yaml: 1 problem")


@pytest.mark.parametrize(
    "arguments",
    [[], ["a.yaml", "--resume", "runs/a"], ["--resume", "runs/a", "--replay", "b"]],
)
def test_train_takes_one_of_config_resume_and_replay(taco, arguments):
    """Neither and both are the same mistake."""
    said = taco("train", *arguments)
    assert (said.code, said.err) == (1, "expected one of: a config, --resume RUN, --replay LOCK\n")


def test_an_unknown_option_is_a_usage_error(taco):
    """Exit code 2, as everywhere."""
    assert taco("train", "--replya", "x").code == 2
    assert taco("trian").code == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.train_file_path=/nowhere/data.json", "/nowhere/data.json: 1 problem"),
        ("model.model_load_path=/nowhere/base", "there is no such folder"),
    ],
)
def test_what_a_config_names_and_is_not_there(
    taco, config_file, teacher_url, monkeypatch, tmp_path, override, said
):
    """One message, no traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)
    ended = taco("train", config_file, override)
    assert ended.code == 1
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_nobody_answers_at_the_given_url(taco, config_file, monkeypatch, tmp_path):
    """From the environment or the config: no service is started instead."""
    monkeypatch.chdir(tmp_path)
    nobody = "http://127.0.0.1:9"
    by_config = taco("train", config_file, f"teacher.url={nobody}")
    monkeypatch.setenv("TACO_TEACHER_URL", nobody)
    for said in (by_config, taco("train", config_file)):
        assert said.code == 1
        assert said.err.startswith(f"expected a teacher at {nobody}")
        assert "taco serve" in said.err
        assert "starting a teacher service" not in said.out


def test_a_url_that_is_none_is_said(taco, config_file, monkeypatch):
    """What came, and what one looks like."""
    monkeypatch.setenv("TACO_TEACHER_URL", "localhost8080")
    said = taco("train", config_file)
    assert said.code == 1
    assert "localhost8080" in said.err


def test_resume_and_replay_of_nothing(taco, tmp_path):
    """Each names what it expected."""
    resume = taco("train", "--resume", tmp_path)
    assert (resume.code, "expected a run's folder with run.json" in resume.err) == (1, True)
    replay = taco("train", "--replay", tmp_path / "run.lock")
    assert (replay.code, "run.lock: expected a lock file" in replay.err) == (1, True)


def test_a_config_of_another_version_in_a_run_or_a_lock(taco, tmp_path):
    """What it has that this version does not know is named."""
    config = {"hyperparams": {"epoch": 3}}
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    resume = taco("train", "--resume", tmp_path)
    assert resume.code == 1
    assert "did you mean hyperparams.epochs?" in resume.err
    lock = tmp_path / "run.lock"
    trailer = {
        "leaves": 0,
        "root": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    lock.write_text(f"{json.dumps({'lock': 1, 'config': config})}\n{json.dumps(trailer)}\n")
    replay = taco("train", "--replay", lock)
    assert replay.code == 1
    assert "did you mean hyperparams.epochs?" in replay.err


def test_a_taken_port_is_said(installed_taco):
    """With its number and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = installed_taco("serve", "--port", port, "--store", "own.sqlite")
    assert said.code == 1
    assert f"port {port}" in said.err
    assert "take another port" in said.err
    assert "Traceback" not in said.err


def test_wrong_service_settings_are_listed(taco, tmp_path):
    """File and options alike."""
    settings = tmp_path / "teacher.yaml"
    settings.write_text("prot: 1")
    said = taco("serve", "--config", settings, "--mode", "rekord")
    assert said.code == 1
    assert "did you mean 'port'?" in said.err
    assert "rekord" in said.err


@pytest.mark.parametrize("command", ["stats", "train", "serve"])
def test_a_store_that_is_no_database_is_left_alone(
    taco, config_file, tmp_path, monkeypatch, command
):
    """Whoever opens it names it; not a byte is changed."""
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "notes.txt"
    store.write_text("these are my notes\n" * 100)
    arguments = {
        "stats": ["cache", "stats"],
        "train": ["train", config_file],
        "serve": ["serve", "--port", "0"],
    }
    said = taco(*arguments[command], "--store", store)
    assert said.code == 1
    assert "notes.txt" in said.err
    assert "Traceback" not in said.err
    assert store.read_text() == "these are my notes\n" * 100


def test_a_store_that_is_not_there_has_no_statistics(taco, tmp_path):
    """And none is made by asking."""
    said = taco("cache", "stats", "--store", tmp_path / "none.sqlite")
    assert said.code == 1
    assert "none.sqlite" in said.err
    assert not list(tmp_path.iterdir())


def test_stats_say_what_a_store_holds(taco, teacher_store, finished_run):
    """Also while a service writes it."""
    said = taco("cache", "stats", "--store", teacher_store)
    assert said.code == 0
    rows = dict(line.strip("│ ").split("│") for line in said.out.splitlines() if "│" in line)
    figures = {name.strip(): value.strip() for name, value in rows.items()}
    assert int(figures["completions"].replace(",", "")) > 0
    assert figures["refusals"] == "0"


def test_a_folder_where_nothing_can_be_written(
    taco, config_file, teacher_url, read_only_folder, monkeypatch
):
    """Training, the demo and a store say so at once."""
    monkeypatch.chdir(read_only_folder)
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)
    for arguments in (["train", config_file], ["demo"], ["serve", "--store", "own.sqlite"]):
        said = taco(*arguments)
        assert said.code == 1, arguments
        assert "Traceback" not in said.err
        assert said.err.strip()


def test_a_run_stops_with_130_and_says_how_to_go_on(
    taco, config_file, teacher_url, monkeypatch, tmp_path
):
    """Ctrl-C, here in the first moment of the training."""
    import os
    import signal

    from trainer.learning import launch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)
    train = launch.train

    def interrupted(run, report):
        ctrl_c = partial(os.kill, os.getpid(), signal.SIGINT)
        monkeypatch.setattr(run.teacher, "complete", lambda _items, step: ctrl_c())
        train(run, report)

    monkeypatch.setattr(launch, "train", interrupted)
    said = taco("train", config_file)
    assert said.code == 130
    assert "saved; go on with: taco train --resume runs/config" in said.out
    assert said.err == ""


@pytest.fixture
def finished_run(taco, config_file, teacher_url, monkeypatch, tmp_path):
    """A whole run of four steps by the command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)
    said = taco("train", config_file)
    assert said.code == 0, said.err
    return tmp_path / "runs/config"


def test_the_run_is_named_after_its_config_or_as_it_says(taco, config_file, finished_run, tmp_path):
    """`runs/NAME`, relative to where one is."""
    assert json.loads((finished_run / "result.json").read_text())["folder"] == "runs/config"
    assert taco("train", config_file, "run.name=trial", "hyperparams.epochs=1").code == 0
    assert (tmp_path / "runs/trial/result.json").is_file()
