"""Training processes that are killed at random moments, as by `kill -9` or a lost machine.

TACO_SOAK_KILLS says how often; `make soak` sets it to 50.
"""

import multiprocessing
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.tiny_runs import go_on_training
from trainer.learning.lockfile import Lock
from trainer.learning.run_folder import saved_weights_digest

KILLS = int(os.environ.get("TACO_SOAK_KILLS", "5"))
PATIENCE_S = 600


@pytest.fixture(scope="module")
def start():
    """Start a training process; what it imports is imported once, by the process that forks it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.learning.launch"])

    def start(*arguments):
        process = context.Process(target=go_on_training, args=arguments, daemon=True)
        process.start()
        return process

    return start


def _ended_well(process):
    process.join(PATIENCE_S)
    return process.exitcode == 0


@pytest.mark.timeout(60 + 60 * KILLS)
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(
    config, teacher_url, finished, start, tmp_path
):
    """Whatever the moment: loading, a step, a checkpoint half written; to the last bit."""
    begin = time.monotonic()
    assert _ended_well(start(config, teacher_url, tmp_path / "timed"))
    whole_run_s = time.monotonic() - begin
    moments = random.Random(0)
    killed, completed, runs = 0, 0, tmp_path / "runs"
    while killed < KILLS:
        process = start(config, teacher_url, runs)
        process.join(moments.uniform(0.0, 0.8 * whole_run_s))
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += 1
            continue
        assert process.exitcode == 0
        _assert_same(runs / "trial", finished)
        shutil.rmtree(runs)
        completed += 1
    assert _ended_well(start(config, teacher_url, runs))
    _assert_same(runs / "trial", finished)
    assert not list((runs / "trial/checkpoints").glob("*.unfinished"))


def _assert_same(folder, finished):
    model = Path(finished.model_path).relative_to(finished.folder)
    assert saved_weights_digest(folder / model) == finished.weights_digest
    assert Lock(folder / "run.lock").root == finished.lock_root
