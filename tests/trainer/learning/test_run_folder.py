"""A run's folder and what it says of the run."""

import json

import pytest
import torch
from safetensors.torch import save_file

from trainer.errors import CheckpointError, ModelError
from trainer.learning.run_folder import (
    environment,
    new_run_folder,
    read_description,
    saved_weights_digest,
    tensors_digest,
    write_description,
)


def test_an_earlier_run_is_never_written_over(tmp_path):
    """NAME, NAME-2, NAME-3."""
    made = [new_run_folder("trial", tmp_path / "runs") for _ in range(3)]
    assert [folder.name for folder in made] == ["trial", "trial-2", "trial-3"]
    assert all(folder.is_dir() for folder in made)


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path):
    """Here because a file is in its place."""
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(CheckpointError, match="expected a folder that can be made"):
        new_run_folder("trial", tmp_path / "runs")


def test_a_description_comes_back(tmp_path):
    """As it was written, for people too."""
    write_description(tmp_path, {"config": {"a": "é"}})
    assert read_description(tmp_path) == {"config": {"a": "é"}}
    assert "é" in (tmp_path / "run.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_what_is_no_run_is_refused(tmp_path, content):
    """With the folder and what was expected in it."""
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"expected a run's folder with run\.json"):
        read_description(tmp_path)


def test_a_digest_is_of_the_tensors():
    """Names, values, types and shapes count; their order does not."""
    tensors = {"a": torch.tensor([1.0, 2.0]), "b": torch.zeros(2, 3)}
    digest = tensors_digest(tensors.items())
    assert tensors_digest(reversed(tensors.items())) == digest
    others = [
        {**tensors, "a": torch.tensor([1.0, 2.0000002])},
        {**tensors, "a": torch.tensor([1.0, 2.0]).to(torch.float64)},
        {**tensors, "b": torch.zeros(3, 2)},
        {"a": tensors["a"], "c": tensors["b"]},
        {"a": tensors["a"]},
    ]
    assert len({digest, *(tensors_digest(other.items()) for other in others)}) == 6


def test_a_known_digest():
    """By hand: the line `a torch.float32 (1,)`, then four bytes of 1.0, little-endian."""
    digest = tensors_digest([("a", torch.tensor([1.0]))])
    assert digest == "b0ca24d23414826f66be4d9df9b2e857657996516cee0d67b23ef831eef6d69e"


def test_saved_weights_have_the_digest_of_the_tensors(tmp_path):
    """A file's metadata says nothing about the model."""
    tensors = {"a": torch.tensor([1.0, 2.0]), "b": torch.zeros(2, 3)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert saved_weights_digest(tmp_path) == tensors_digest(tensors.items())
    with pytest.raises(ModelError, match="found none"):
        saved_weights_digest(tmp_path / "empty")


def test_the_environment_says_what_decides_the_bits():
    """And it is plain JSON."""
    found = json.loads(json.dumps(environment(torch.device("cpu"), processes=2)))
    assert found["threads"] == torch.get_num_threads()
    assert found["packages"]["torch"] == torch.__version__
    assert found["packages"]["taco-rewards"]
    assert (found["device"], found["processes"]) == ("cpu", 2)
    assert {"python", "code", "cpu_capability", "platform"} < found.keys()
