"""The GPU benchmark, where there is none: what it says, and that it would run."""

import pytest
import torch

from benchmarks import gpu


def test_without_a_gpu_it_says_so(monkeypatch):
    """In one line, with what can be done, before anything is made."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU here"):
        gpu.main([])


def test_a_trial_on_the_cpu_measures_everything(monkeypatch):
    """At a tiny size; its results file is none of a GPU's."""
    published = {}
    monkeypatch.setattr(gpu, "publish", published.__setitem__)
    gpu.main(["--cpu", "--tiny", "--batch", "2", "--steps", "1"])
    [(name, found)] = published.items()
    assert name == "gpu-trial"
    assert set(found["forward_backward"]) == set(gpu.WAYS)
    for step in found["forward_backward"].values():
        assert step["seconds"] > 0
        assert 0 < step["flops"] / (found["bf16_peak_tflops"] * 1e12 + 1e9) < 10
    assert 0 < found["training_step"]["overhead_share"] < 1
    assert set(found["compress"]) == {"50"}


def test_operations_are_counted_by_hand():
    """6 for each weight outside of the embeddings, and 12 for each of layer, width and position."""
    compressor = torch.nn.Module()
    compressor.base_model = torch.nn.Module()
    compressor.base_model.embeddings = torch.nn.Embedding(10, 4)
    compressor.head = torch.nn.Linear(4, 2)
    compressor.config = type("Config", (), {"num_hidden_layers": 3, "hidden_size": 4})
    assert gpu._operations_a_piece(compressor, 5) == 6 * (4 * 2 + 2) + 12 * 3 * 4 * 5
