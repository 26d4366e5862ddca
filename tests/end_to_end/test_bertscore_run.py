"""A run whose reward is measured by a model of its own."""

import shutil
from pathlib import Path

import pytest

from taco.bundling import bundle_run
from taco.own_service import own_service
from taco.unbundling import unbundle
from tests.tiny_models import make_encoder
from trainer.config import Config
from trainer.config_file import load_config
from trainer.errors import ReplayError
from trainer.learning.launch import train_new
from trainer.learning.lockfile import Lock
from trainer.learning.run_folder import read_description

TRAIN = {"hyperparams": {"epochs": 1}, "reward": {"metric": "0.5*f1 + 0.5*bertscore"}}


@pytest.fixture(scope="module")
def measured(document, tmp_path_factory):
    """A run of four steps, the folder with its encoder, and its store."""
    folder = tmp_path_factory.mktemp("measured")
    baseline = folder / "table.tsv"
    baseline.write_text("LAYER,P,R,F\n2,0.2,0.2,0.2\n")
    encoder = make_encoder(folder)
    settings = {"model": str(encoder), "layer": 2, "baseline_file_path": str(baseline)}
    config = Config.model_validate(document(**TRAIN, bertscore=settings))
    store = folder / "completions.sqlite"
    with own_service(store=store) as url:
        result = train_new(config, "run", teacher_url=url, runs=folder / "runs", report=_silent)
    return result, encoder, store


def _silent(*_said):
    pass


def _replay(config, result, store, runs):
    with own_service(mode="replay", store=store) as url:
        return train_new(
            config,
            "again",
            teacher_url=url,
            runs=runs,
            replay=Lock(Path(result.lock)),
            report=_silent,
        )


def test_it_is_replayed_bit_for_bit(measured, tmp_path):
    """The reward is worked out again, and comes out the same to the last bit."""
    result, _, store = measured
    description = read_description(Path(result.folder))
    assert "bertscore|model:tiny-encoder|sha256:" in description["metric"]
    config = Config.model_validate(description["config"])
    again = _replay(config, result, store, tmp_path)
    assert again.backend_calls == 0
    assert again.weights_digest == result.weights_digest


def test_another_encoder_is_another_run(measured, tmp_path):
    """Though it is in the same place: its digest was recorded."""
    result, _, store = measured
    config = Config.model_validate(read_description(Path(result.folder))["config"])
    other = make_encoder(tmp_path / "other", seed=2)
    moved = config.bertscore.model_copy(update={"model": str(other)})
    with pytest.raises(ReplayError, match="the reward is measured by another model"):
        _replay(config.model_copy(update={"bertscore": moved}), result, store, tmp_path)


def test_a_bundle_brings_the_encoder_along(measured, tmp_path, monkeypatch):
    """So that the run can be done again where nothing of it lies."""
    result, encoder, store = measured
    bundle_run(Path(result.folder), tmp_path / "run.tar.gz", store, _silent)
    hidden = shutil.move(encoder, encoder.with_name("hidden"))
    try:
        unpacked = unbundle(tmp_path / "run.tar.gz", tmp_path / "elsewhere", _silent)
        monkeypatch.chdir(unpacked.folder)
        config = load_config(Path("config.yaml"))
        assert config.bertscore.model == "metric/model/tiny-encoder"
        assert config.bertscore.baseline_file_path == "metric/baseline/table.tsv"
        again = _replay(config, result, Path("completions.sqlite"), Path("runs"))
    finally:
        shutil.move(hidden, encoder)
    assert again.weights_digest == result.weights_digest
