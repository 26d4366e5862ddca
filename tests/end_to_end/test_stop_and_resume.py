"""Runs that are stopped at any moment, and go on as if they never had been."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

from cache import CompletionStore
from cache.errors import StoreLocked
from taco.own_service import own_service
from tests.tiny_runs import phases, rows_of, write_meetings
from trainer.config import Config
from trainer.errors import (
    CheckpointError,
    ModelError,
    ReplayError,
    TeacherUnreachable,
    TooManyFailures,
    WriteError,
)
from trainer.learning.checkpoint import load_latest
from trainer.learning.launch import Result, resume, train_new
from trainer.learning.lockfile import Lock
from trainer.learning.run_folder import saved_weights_digest

SLOW_TEACHER = "builtin: {latency_ms: 250}\n"


class Announced:
    """Remembers what a run reports, and acts when a line contains a text."""

    def __init__(self, text="", action=lambda: None):
        self.lines: list[str] = []
        self._text = text
        self._action = action

    def __call__(self, line):
        self.lines.append(line)
        if self._text and self._text in line:
            self._action()


def _send(number=signal.SIGINT):
    return lambda: os.kill(os.getpid(), number)


def _logs(folder):
    """What was logged, but for how long it took and how the answers were served."""
    logs = Path(folder) / "logs"
    texts = [(logs / f"{name}_logs_updated.csv").read_text() for name in ("reinforce", "rewards")]
    rollouts = [json.loads(line) for line in (logs / "rollouts.jsonl").read_text().splitlines()]
    return texts, [{**rollout, "served": None} for rollout in rollouts]


def _assert_same(result: Result, finished: Result):
    assert result.weights_digest == finished.weights_digest
    assert result.lock_root == finished.lock_root == Lock(Path(result.lock)).root
    assert result.teacher_calls == finished.teacher_calls
    assert _logs(result.folder) == _logs(finished.folder)


def _checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.fixture
def runs(tmp_path):
    """Where the test's runs are."""
    return tmp_path / "runs"


@pytest.fixture
def stop_at(config, teacher_url, runs):
    """Start a run and do something when it reports a text; (its folder, what it reported)."""

    def stop_at(text, action, error=KeyboardInterrupt):
        report = Announced(text, action)
        with pytest.raises(error):
            train_new(config, "trial", teacher_url=teacher_url, runs=runs, report=report)
        return runs / "trial", report.lines

    return stop_at


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_finish_and_saves(stop_at, number, finished, teacher_url):
    """The run ends with how to go on; resumed, it is bit for bit the one never stopped."""
    folder, reported = stop_at("step 4/8", _send(number))
    assert reported[-1] == f"saved; go on with: taco train --resume {folder}"
    assert _checkpoints(folder) == ["step-00000003.pt", "step-00000004.pt"]
    assert not (folder / "result.json").exists()
    _assert_same(resume(folder, teacher_url=teacher_url, report=Announced()), finished)


def test_a_run_may_be_stopped_again_and_again(stop_at, finished, teacher_url):
    """At steps 2, 4 and 6."""
    folder, _ = stop_at("step 2/8", _send())
    for step in (4, 6):
        with pytest.raises(KeyboardInterrupt):
            resume(folder, teacher_url=teacher_url, report=Announced(f"step {step}/8", _send()))
    _assert_same(resume(folder, teacher_url=teacher_url, report=Announced()), finished)


def test_what_came_after_the_checkpoint_is_cut_off(stop_at, finished, teacher_url):
    """As for a run that was killed: files longer than their checkpoint remembers."""
    folder, _ = stop_at("step 4/8", _send())
    for name in ("run.lock", "logs/reinforce_logs_updated.csv", "logs/rollouts.jsonl"):
        with (folder / name).open("a") as file:
            file.write("half a li")
    _assert_same(resume(folder, teacher_url=teacher_url, report=Announced()), finished)


def test_a_stop_during_the_wait_for_the_teacher_is_at_once(config, finished, runs, tmp_path):
    """The step in hand is dropped: it has changed nothing yet."""
    settings = tmp_path / "slow.yaml"
    settings.write_text("builtin: {latency_ms: 60000}\nstop_grace_s: 0\n")
    with own_service(settings, store=tmp_path / "slow.sqlite") as slow:
        threading.Timer(1.5, _send()).start()
        with pytest.raises(KeyboardInterrupt):
            train_new(config, "trial", teacher_url=slow, runs=runs, report=Announced())
    assert _checkpoints(runs / "trial") == ["step-00000000.pt"]


def test_a_stop_before_validation_leaves_it_to_the_resume(config, teacher_url, finished, runs):
    """It is owed, not forgotten: rows and lock have it in its place."""
    report = Announced("step 6/8", _send())
    with pytest.raises(KeyboardInterrupt):
        train_new(config, "trial", teacher_url=teacher_url, runs=runs, report=report)
    rows = phases(rows_of(runs / "trial/logs/rewards_logs_updated.csv"))
    assert rows[-1] == ("TrainR", 6)
    result = resume(runs / "trial", teacher_url=teacher_url, report=Announced())
    assert phases(rows_of(runs / "trial/logs/rewards_logs_updated.csv"))[len(rows)] == ("ValR", 6)
    _assert_same(result, finished)


def test_a_full_disk_stops_the_run(config, teacher_url, finished, runs):
    """At the checkpoint that has no room; with some, the run goes on from the one before."""
    unfinished = runs / "trial/checkpoints/step-00000006.unfinished"
    report = Announced("step 4/8", lambda: unfinished.symlink_to("/dev/full"))
    with pytest.raises(WriteError, match="No space left on device"):
        train_new(config, "trial", teacher_url=teacher_url, runs=runs, report=report)
    assert _checkpoints(runs / "trial") == ["step-00000003.pt"]
    _assert_same(resume(runs / "trial", teacher_url=teacher_url, report=Announced()), finished)


def test_a_compressor_that_cannot_be_saved_is_not_lost(config, teacher_url, finished, runs):
    """Its last steps are in a checkpoint; the resume has nothing to do but to save it."""
    in_the_way = runs / "trial/model"
    report = Announced("step 8/8", lambda: in_the_way.write_text("a file"))
    with pytest.raises(ModelError, match="Could not save the compressor"):
        train_new(config, "trial", teacher_url=teacher_url, runs=runs, report=report)
    assert _checkpoints(runs / "trial")[-1] == "step-00000008.pt"
    assert report.lines[-1].startswith("saved; go on with")
    in_the_way.unlink()
    resumed = Announced()
    _assert_same(resume(runs / "trial", teacher_url=teacher_url, report=resumed), finished)
    assert not any("step" in line for line in resumed.lines)


def test_a_finished_run_resumes_to_itself(teacher_url, finished):
    """Nothing is done again, and it needs no checkpoint."""
    report = Announced()
    assert resume(Path(finished.folder), teacher_url=teacher_url, report=report) == finished
    assert report.lines == [
        f"{finished.folder} is finished; trained compressor: {finished.model_path}"
    ]


def test_a_run_that_was_killed_as_it_finished(teacher_url, finished, runs):
    """What came after its last checkpoint is done again, to the same end."""
    shutil.copytree(finished.folder, runs / "trial")
    (runs / "trial/result.json").unlink()
    _assert_same(resume(runs / "trial", teacher_url=teacher_url, report=Announced()), finished)


class Service:
    """A service whose process the test can kill."""

    def __init__(self, folder: Path, store: Path, *settings: str):
        announcement = folder / f"announcement-{len(list(folder.iterdir()))}.json"
        config = announcement.with_suffix(".yaml")
        config.write_text("\n".join([f"store: {store}", "port: 0", *settings]))
        command = [sys.executable, "-P", "-m", "teacher_service", "--config", str(config)]
        self.process = subprocess.Popen(
            [*command, "--announce-file", str(announcement)], stderr=subprocess.PIPE
        )
        while not announcement.exists():
            assert self.process.poll() is None
        self.url = json.loads(announcement.read_text())["url"]

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("line", ["step 4/8", "step 6/8"])
def test_a_teacher_that_dies_in_mid_run(
    document, config, teacher_url, finished, runs, tmp_path, line
):
    """The run ends with its URL and is saved, whether it was training or validating."""
    service = Service(tmp_path, tmp_path / "own.sqlite")
    config = Config.model_validate(document(teacher={"timeout_s": 1.0}))
    report = Announced(line, service.kill)
    with pytest.raises(TeacherUnreachable, match=re.escape(service.url)):
        train_new(config, "trial", teacher_url=service.url, runs=runs, report=report)
    assert report.lines[-1].startswith("saved; go on with")
    folder = runs / "trial"
    result = resume(folder, teacher_url=teacher_url, report=Announced())
    assert result.weights_digest == finished.weights_digest
    assert result.lock_root == finished.lock_root


@pytest.fixture
def empty_replay(tmp_path):
    """A service that answers nothing: in replay mode, over the store of one other question."""
    store = tmp_path / "empty.sqlite"
    with own_service(store=store) as _:
        pass
    with own_service(mode="replay", store=store) as url:
        yield url


def test_too_many_failures_stop_the_run(config, teacher_url, finished, runs, empty_replay):
    """Nothing is learnt from such a step; with a teacher that answers, the run goes on."""
    report = Announced()
    with pytest.raises(TooManyFailures, match=r"9 of 9 .*max_failed_share \(0\.2\).*cache_miss"):
        train_new(config, "trial", teacher_url=empty_replay, runs=runs, report=report)
    assert _checkpoints(runs / "trial") == ["step-00000000.pt"]
    _assert_same(resume(runs / "trial", teacher_url=teacher_url, report=Announced()), finished)


def test_a_run_of_failures_moves_nothing_and_replays_as_such(
    document, base, teacher_url, runs, empty_replay
):
    """Where it is allowed; a replay keeps the failures, though the store has answers by then."""
    config = Config.model_validate(
        document(teacher={"max_failed_share": 1.0}, hyperparams={"epochs": 1})
    )
    failed = train_new(config, "trial", teacher_url=empty_replay, runs=runs, report=Announced())
    assert failed.weights_digest == saved_weights_digest(base)
    again = train_new(
        config,
        "again",
        teacher_url=teacher_url,
        runs=runs,
        replay=Lock(Path(failed.lock)),
        report=Announced(),
    )
    assert again.lock_root == failed.lock_root
    answered = train_new(config, "fine", teacher_url=teacher_url, runs=runs, report=Announced())
    assert answered.lock_root != failed.lock_root


def test_failed_steps_have_no_momentum(document, runs, tmp_path):
    """Two good steps, then a teacher that answers nothing: the weights stay where they were."""
    config = Config.model_validate(
        document(teacher={"max_failed_share": 1.0}, reward={"compression_tolerance": 1.0})
    )
    store, checkpoints = tmp_path / "own.sqlite", runs / "trial/checkpoints"
    with own_service(store=store) as url, pytest.raises(KeyboardInterrupt):
        train_new(
            config, "trial", teacher_url=url, runs=runs, report=Announced("step 2/8", _send())
        )
    _, before = load_latest(checkpoints, torch.device("cpu"))
    with own_service(mode="replay", store=store) as url:
        resume(runs / "trial", teacher_url=url, report=Announced())
    progress, after = load_latest(checkpoints, torch.device("cpu"))
    assert progress.step == 6
    torch.testing.assert_close(after["model"], before["model"], rtol=0, atol=0)


def test_there_is_nothing_to_resume(tmp_path, teacher_url, stop_at):
    """No run, and a run that was killed before its first checkpoint."""
    with pytest.raises(CheckpointError, match="expected a run's folder"):
        resume(tmp_path, teacher_url=teacher_url)
    folder, _ = stop_at("step 2/8", _send())
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(CheckpointError, match="expected a checkpoint to resume from"):
        resume(folder, teacher_url=teacher_url, report=Announced())


@pytest.mark.parametrize("changed", ["train", "validation", "base"])
def test_a_resume_with_other_inputs_is_refused(
    document, meetings, base, teacher_url, runs, tmp_path, changed
):
    """The run would be neither the one that began nor another."""
    paths = {name: tmp_path / f"{name}.json" for name in ("train", "validation")}
    shutil.copy(meetings, paths["train"])
    write_meetings(paths["validation"], 2)
    shutil.copytree(base, tmp_path / "base" / base.name)
    config = Config.model_validate(
        document(
            data={
                "train_file_path": str(paths["train"]),
                "val_file_path": str(paths["validation"]),
            },
            model={"model_load_path": str(tmp_path / "base" / base.name)},
        )
    )
    with pytest.raises(KeyboardInterrupt):
        train_new(
            config,
            "trial",
            teacher_url=teacher_url,
            runs=runs,
            report=Announced("step 2/8", _send()),
        )
    if changed == "base":
        from tests.tiny_runs import make_tiny_compressor

        make_tiny_compressor(tmp_path / "base", meetings, seed=1)
    else:
        write_meetings(paths[changed], 12, seed=5)
    before = (runs / "trial/run.lock").read_bytes()
    with pytest.raises(CheckpointError, match=r"trial: the (data|model to start from) is not"):
        resume(runs / "trial", teacher_url=teacher_url, report=Announced())
    assert (runs / "trial/run.lock").read_bytes() == before


@pytest.fixture
def start_taco(tmp_path, document):
    """Start `taco train` on a slow teacher of its own, as a process that is killed in the end."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document()))
    (tmp_path / "slow.yaml").write_text(SLOW_TEACHER)
    taco = Path(sys.executable).with_name("taco")
    command = [str(taco), "train", "config.yaml", "--teacher", "slow.yaml", "--store", "own.sqlite"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_the_command_is_stopped_in_mid_run(
    start_taco, tmp_path, teacher_url, finished, number, code
):
    """Also by `kill -9`; its own service stops too, and what was bought is not bought again."""
    said = []
    for line in start_taco.stdout:
        said.append(line)
        if "step 4/8" in line:
            start_taco.send_signal(number)
    assert start_taco.wait(30) == code
    folder = tmp_path / "runs/config"
    saved = f"saved; go on with: taco train --resume {folder.relative_to(tmp_path)}\n"
    assert (saved in said) == (number != signal.SIGKILL)
    assert "Traceback" not in "".join(said)
    bought = _completions(tmp_path / "own.sqlite")
    with own_service(store=tmp_path / "own.sqlite") as url:
        result = resume(folder, teacher_url=url, report=Announced())
    _assert_same(result, finished)
    leaves = map(json.loads, Path(result.lock).read_text().splitlines()[1:-1])
    assert bought > 0
    assert bought + result.backend_calls == len({r[1] for leaf in leaves for r in leaf["replies"]})


def _completions(store):
    """What a store holds, once nobody writes it any more."""
    give_up = time.monotonic() + 10
    while True:
        try:
            with CompletionStore.open(store) as opened:
                return opened.stats().completions
        except StoreLocked:
            assert time.monotonic() < give_up
            time.sleep(0.1)


def test_a_replay_that_departs_from_its_lock_is_not_saved(document, finished, teacher_url, runs):
    """There is nothing to go on with; the first difference is named by its place."""
    config = Config.model_validate(document(hyperparams={"policy_lr": 2e-3}))
    report = Announced()
    with pytest.raises(ReplayError, match=r"first divergence at train step [2-8], example '\d+'"):
        train_new(
            config,
            "trial",
            teacher_url=teacher_url,
            runs=runs,
            replay=Lock(Path(finished.lock)),
            report=report,
        )
    assert not any("saved" in line for line in report.lines)
