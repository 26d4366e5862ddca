"""A run against any other OpenAI-compatible server."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from teacher_service import create_app, load_settings
from trainer.errors import CheckpointError, TeacherRejected
from trainer.learning.launch import resume, train_new
from trainer.learning.lockfile import Lock


@pytest.fixture(scope="module")
def other_server(tmp_path_factory):
    """Our chat route under a server that does not say that it is ours."""
    store = tmp_path_factory.mktemp("other") / "completions.sqlite"
    app = create_app(load_settings(overrides={"store": str(store)}))

    async def without_livez(scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/livez":
            scope = {**scope, "path": "/nothing-here"}
        await app(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(without_livez, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


def test_it_trains_to_the_same_weights_without_a_lock(config, finished, other_server, tmp_path):
    """The answers are the same; nobody can say which fingerprints they had."""
    result = train_new(
        config, "trial", teacher_url=other_server, runs=tmp_path, report=lambda _: None
    )
    assert result.weights_digest == finished.weights_digest
    assert result.teacher_calls == finished.teacher_calls
    assert (result.lock, result.lock_root, result.backend_calls) == (None, None, None)
    assert not (Path(result.folder) / "run.lock").exists()


@pytest.fixture
def stopped(config, other_server, tmp_path):
    """The folder of a run that was stopped after its fourth step."""

    def report(line):
        if "step 4/8" in line:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_new(config, "trial", teacher_url=other_server, runs=tmp_path, report=report)
    return tmp_path / "trial"


def test_it_is_resumed_like_any_other(stopped, finished, other_server):
    """Checkpoints do without a lock."""
    result = resume(stopped, teacher_url=other_server, report=lambda _: None)
    assert result.weights_digest == finished.weights_digest


def test_resumed_at_our_service_it_still_has_no_lock(stopped, finished, teacher_url):
    """One that began in the middle would claim to be the whole run."""
    result = resume(stopped, teacher_url=teacher_url, report=lambda _: None)
    assert result.weights_digest == finished.weights_digest
    assert result.lock is None
    assert not (stopped / "run.lock").exists()


def test_it_cannot_serve_a_replay(config, finished, other_server, tmp_path):
    """Only our service keeps what to replay."""
    with pytest.raises(TeacherRejected, match="expected our teacher service"):
        train_new(
            config,
            "replay",
            teacher_url=other_server,
            runs=tmp_path / "runs",
            replay=Lock(Path(finished.lock)),
        )


def test_a_run_with_a_lock_does_not_go_on_elsewhere(
    config, finished, teacher_url, other_server, tmp_path
):
    """What was asked there would be missing in it; at our service it goes on to the same end."""

    def report(line):
        if "step 4/8" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train_new(config, "trial", teacher_url=teacher_url, runs=tmp_path, report=report)
    with pytest.raises(CheckpointError, match=r"run\.lock: expected our teacher service"):
        resume(tmp_path / "trial", teacher_url=other_server)
    result = resume(tmp_path / "trial", teacher_url=teacher_url, report=lambda _: None)
    assert result.lock_root == finished.lock_root
