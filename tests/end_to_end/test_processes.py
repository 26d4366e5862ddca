"""Two processes on one machine do what one does."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from taco.own_service import own_service
from tests.tiny_runs import phases, rows_of
from trainer.config import Config
from trainer.learning.checkpoint import load_latest
from trainer.learning.launch import resume, train_new

# Eleven examples, then one: in the second step a process is left without any.
UNEVEN = {"train_batch_size": 11, "epochs": 1}
# Processes decide together whether there is another pass.
TWICE = {"passes": 2, "kl_coeff": 0.01}


@pytest.fixture(scope="module")
def one(document, teacher_url, tmp_path_factory):
    """The run of one process."""
    runs = tmp_path_factory.mktemp("one") / "runs"
    config = Config.model_validate(document(hyperparams=UNEVEN, policy=TWICE))
    return train_new(config, "config", teacher_url=teacher_url, runs=runs, report=lambda _: None)


def _start(folder, document, teacher_url, *arguments, **sections):
    """Start two processes as a user would, in a terminal's process group of their own."""
    (folder / "config.yaml").write_text(yaml.safe_dump(document(**sections)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What `accelerate launch --multi_gpu` runs; with `--cpu` it starts one process, or needs MPI.
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(port), "-m", "trainer", "config.yaml"]
    return subprocess.Popen(
        [*command, "logging.log_interval=1", *arguments],
        cwd=folder,
        env={**os.environ, "TACO_TEACHER_URL": teacher_url, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def two(document, teacher_url, tmp_path_factory):
    """The folder of the run of two processes, and what they said."""
    folder = tmp_path_factory.mktemp("two")
    started = _start(folder, document, teacher_url, hyperparams=UNEVEN, policy=TWICE)
    said, _ = started.communicate(timeout=120)
    assert started.returncode == 0, said
    return folder / "runs/config", said


def _process(launcher, rank):
    """The process id of a rank that `torch.distributed.run` started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    wanted = f"RANK={rank}".encode()
    (found,) = (
        int(pid)
        for pid in children
        if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    )
    return found


def _step(folder, step):
    rollouts = map(json.loads, (Path(folder) / "logs/rollouts.jsonl").read_text().splitlines())
    return [
        {**rollout, "served": None}
        for rollout in rollouts
        if (rollout["phase"], rollout["step"]) == ("train", step)
    ]


def _leaves(folder, step):
    leaves = map(json.loads, (Path(folder) / "run.lock").read_text().splitlines()[1:-1])
    return [leaf for leaf in leaves if (leaf["phase"], leaf["step"]) == ("train", step)]


def _metrics(folder):
    return [
        json.loads(line) for line in (Path(folder) / "logs/metrics.jsonl").read_text().splitlines()
    ]


def test_masks_and_rewards_of_the_first_step_are_the_same(one, two):
    """Every rollout, in the same order, from both processes."""
    folder, _ = two
    assert _step(folder, 1) == _step(one.folder, 1)
    assert _leaves(folder, 1) == _leaves(one.folder, 1)
    assert len(_leaves(folder, 1)) == 33


def test_the_gradient_is_the_same(one, two):
    """The sum over both, divided once by the number of all valid rollouts."""
    ours, theirs = _metrics(two[0])[0], _metrics(one.folder)[0]
    for key in ("loss/policy", "loss/grad_norm"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-6)
    assert ours["loss/lr"] == theirs["loss/lr"]


def test_no_example_is_repeated_or_lost(one, two):
    """Also in the step in which one process has none; the schedule takes one step an update."""
    folder, _ = two
    trained = [rollout["example"] for step in (1, 2) for rollout in _step(folder, step)]
    assert sorted(trained) == sorted([str(number) for number in range(12)] * 3)
    rates = [row[4] for row in rows_of(folder / "logs/reinforce_logs_updated.csv")]
    assert rates == [row[4] for row in rows_of(Path(one.folder, "logs/reinforce_logs_updated.csv"))]


def test_one_process_writes_for_all(one, two):
    """Each row, line and word once, validation included."""
    folder, said = two
    assert phases(rows_of(folder / "logs/reinforce_logs_updated.csv")) == [
        ("Train", 1),
        ("Train", 2),
    ]
    rewards = phases(rows_of(folder / "logs/rewards_logs_updated.csv"))
    assert rewards == [("TrainR", 1), ("TrainR", 2), ("ValR", 2)]
    assert said.count("run folder:") == said.count("step 1/2") == said.count("lock: ") == 1
    result = json.loads((folder / "result.json").read_text())
    assert result["teacher_calls"] == one.teacher_calls
    assert [path.name for path in folder.parent.iterdir()] == ["config"]


def test_the_weights_are_the_same_but_for_rounding(one, two):
    """Two steps at a rate of 1e-3 lie a thousandth of that apart."""
    result = json.loads((two[0] / "result.json").read_text())
    ours, theirs = (
        load_file(Path(path, "model.safetensors"))
        for path in (two[0].parent.parent / result["model_path"], one.model_path)
    )
    assert ours.keys() == theirs.keys()
    distance = sum(((ours[name] - theirs[name]) ** 2).sum() for name in ours) ** 0.5
    assert distance / sum((tensor**2).sum() for tensor in theirs.values()) ** 0.5 < 1e-4


def test_ctrl_c_in_both_processes_saves_the_run(document, finished, teacher_url, tmp_path):
    """Each gets it twice, from the terminal and from its launcher; both go on where they were."""
    settings = tmp_path / "slow.yaml"
    settings.write_text("builtin: {latency_ms: 250}\n")
    with (
        own_service(settings, store=tmp_path / "own.sqlite") as slow,
        _start(tmp_path, document, slow) as started,
    ):
        said = []
        for line in started.stdout:
            said.append(line)
            if "step 4/8" in line:
                os.killpg(started.pid, signal.SIGINT)
    assert "saved; go on with: taco train --resume runs/config\n" in said
    checkpoints = sorted(path.name for path in (tmp_path / "runs/config/checkpoints").iterdir())
    assert checkpoints[-1] in ("step-00000004.pt", "step-00000005.pt")
    with _start(tmp_path, document, teacher_url, "--resume", "auto") as again:
        said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert "step 4/8" not in said
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["config"]
    assert len(_step(tmp_path / "runs/config", 8)) == len(_step(finished.folder, 8))


def test_a_process_that_is_killed_ends_the_run_and_its_state_is_saved(
    document, teacher_url, tmp_path
):
    """The other one does not wait for it: what was learnt is in a checkpoint to resume from."""
    settings = tmp_path / "slow.yaml"
    settings.write_text("builtin: {latency_ms: 250}\n")
    with (
        own_service(settings, store=tmp_path / "own.sqlite") as slow,
        _start(tmp_path, document, slow, logging={"save_interval": 100}) as started,
    ):
        for line in started.stdout:
            if "step 4/8" in line:
                os.kill(_process(started, 1), signal.SIGKILL)
                break
        said, _ = started.communicate(timeout=90)
    assert started.returncode != 0
    assert "saved; go on with: taco train --resume runs/config\n" in said
    (checkpoint,) = (tmp_path / "runs/config/checkpoints").iterdir()
    progress, _ = load_latest(checkpoint.parent, torch.device("cpu"))
    assert progress.step >= 4
    result = resume(tmp_path / "runs/config", teacher_url=teacher_url, report=lambda _: None)
    assert Path(result.model_path).is_dir()


def test_a_gradient_that_is_not_finite_stops_all_processes_alike(document, teacher_url, tmp_path):
    """Each says which step it was; nothing is waited for."""
    policy = {"entropy_per_word": 1e38}
    with _start(tmp_path, document, teacher_url, policy=policy) as started:
        said, _ = started.communicate(timeout=90)
    assert started.returncode != 0
    assert said.count("step 1 was not taken: expected a finite loss and gradient") == 2
    assert "another process" not in said
    checkpoints = [path.name for path in (tmp_path / "runs/config/checkpoints").iterdir()]
    assert checkpoints == ["step-00000000.pt"]
