"""The signal in successive gradients, where it is known."""

import pytest
import torch

from trainer.learning.gradient_noise import signal_to_noise

SIZE = 4000


@pytest.mark.parametrize("truth", [0.0, 0.1, 1.0, 5.0])
def test_a_known_ratio_is_found(truth):
    """From AdamW's state alone, over two tensors, early and late."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.zeros(SIZE)) for _ in range(2)]
    optimizer = torch.optim.AdamW(weights, lr=0.0)
    for step in range(1, 201):
        for weight in weights:
            weight.grad = torch.randn(SIZE, generator=generator) + truth**0.5
        optimizer.step()
        if step in (10, 200):
            assert signal_to_noise(optimizer) == pytest.approx(truth, rel=0.2, abs=0.03)


def test_one_gradient_tells_nothing():
    """Nor does none."""
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([weight])
    assert signal_to_noise(optimizer) == 0.0
    weight.grad = torch.ones(2)
    optimizer.step()
    assert signal_to_noise(optimizer) == 0.0
