"""`taco card RUN --push-to-hub`, against a hub on loopback."""

import json
import shutil

import pytest

from tests.hub_server import serve_hub
from tests.tiny_models import make_bert
from tests.tiny_runs import tiny_config
from trainer.config import resolved

# The hub's other way of storing large files has a protocol of its own, which no test speaks.
PLAIN_LFS = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


@pytest.fixture(scope="module")
def hub():
    """A hub that all tests share; they push to repositories of their own."""
    with serve_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a compressor."""
    folder = tmp_path_factory.mktemp("runs") / "trial"
    model = make_bert(folder / "model")
    config = resolved(tiny_config(folder / "data.json", folder / "base"))
    digests = {"base_digest": "b" * 64, "data_digests": {"train": "d" * 64}}
    description = {"config": config, "teacher": None, "length_tokenizer": "policy", **digests}
    (folder / "run.json").write_text(json.dumps(description))
    result = {"folder": str(folder), "model_path": str(model), "lock_root": None}
    result |= {"weights_digest": "w" * 64, "teacher_calls": 12}
    (folder / "result.json").write_text(json.dumps(result))
    (model / ".draft").write_text("not for others")
    return folder, model


def _content(model):
    return {
        path.name: path.read_bytes() for path in model.iterdir() if not path.name.startswith(".")
    }


def test_nothing_is_pushed_that_was_not_asked_for(run, hub, installed_taco):
    """A card is a file; a token in the environment changes nothing."""
    before = len(hub.seen)
    said = installed_taco("card", run[0], HF_TOKEN="hf_x", HF_ENDPOINT=hub.url)
    assert said.code == 0, said.err
    assert "model card: " in said.out
    assert len(hub.seen) == before


def test_model_and_card_are_one_commit(run, hub, installed_taco):
    """To the main branch, or to one that is made; large files beside it; by the given token."""
    folder, model = run
    environment = {"HF_TOKEN": "hf_mine", "HF_ENDPOINT": hub.url, **PLAIN_LFS}
    for repo, more, branch in (
        ("me/it", ("--private", "--licence", "mit"), "main"),
        ("me/open", ("--revision", "second"), "second"),
    ):
        said = installed_taco("card", folder, "--push-to-hub", repo, *more, **environment)
        assert said.code == 0, said.err
        assert f"pushed to {hub.url}/{repo}/commit/" in said.out
        assert hub.files[repo, branch] == _content(model)
    assert b"license: mit" in hub.files["me/it", "main"]["README.md"]
    assert "model.safetensors" in hub.files["me/it", "main"]
    assert hub.repos["me/it"]["visibility"] == "private"
    assert hub.repos["me/open"].get("visibility") != "private"
    assert sum("/commit/" in line for line in hub.seen) == 2
    assert hub.tokens <= {"hf_mine", ""}


def test_without_a_token_nothing_is_tried(run, hub, taco, monkeypatch, tmp_path):
    """One that `hf auth login` kept is not taken either."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "token").write_text("hf_kept")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    before = len(hub.seen)
    said = taco("card", run[0], "--push-to-hub", "me/it")
    assert said.code == 1
    assert "expected a token that may write to me/it in HF_TOKEN, found none" in said.err
    assert len(hub.seen) == before


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "it does not take the token in HF_TOKEN"),
        (403, "the token in HF_TOKEN may not write there"),
        (500, "no such luck"),
    ],
)
def test_what_the_hub_refuses_is_said(run, taco, monkeypatch, status, reason):
    """In one message, with the place where everything still is; the folder is as it was."""
    folder, model = run
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert taco("card", folder).code == 0
    before = _content(model)
    with serve_hub() as hub:
        hub.status = status
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        said = taco("card", folder, "--push-to-hub", "me/it")
    assert said.code == 1
    assert (
        f"the hub refused me/it (HTTP {status}): {reason}. The model and its card are" in said.err
    )
    assert "Traceback" not in said.err
    assert "hf_secret" not in said.out + said.err
    assert _content(model) == before


def test_no_network_and_no_name(run, taco, monkeypatch):
    """Nobody listens; then a name that is none."""
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said = taco("card", run[0], "--push-to-hub", "me/it")
    assert said.code == 1
    assert "me/it could not be uploaded: " in said.err
    assert "untouched: run the same command again" in said.err
    said = taco("card", run[0], "--push-to-hub", "me/it/too/long")
    assert "expected a name such as you/model" in said.err


def test_options_of_a_push_need_one(run, taco):
    """Rather than being ignored."""
    for option in (["--private"], ["--revision", "v1"]):
        said = taco("card", run[0], *option)
        assert said.code == 1
        assert "expected --push-to-hub REPO with them" in said.err


def test_an_unfinished_run_is_not_pushed(run, taco, tmp_path, monkeypatch):
    """There is no compressor yet."""
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    copy = shutil.copytree(run[0], tmp_path / "unfinished")
    (copy / "result.json").unlink()
    said = taco("card", copy, "--push-to-hub", "me/it")
    assert said.code == 1
    assert "expected a finished run" in said.err
