"""What is said of the gradient's signal, against gradients whose signal is known."""

import pytest
import torch

from trainer.learning.signal import signal_to_noise

WEIGHTS = 20_000


def stepped(signal, noise, steps, betas=(0.9, 0.999)):
    """AdamW after gradients of `signal` with `noise` around it, the same for all weights."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.zeros(WEIGHTS // 2)) for _ in range(2)]
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=betas)
    for _ in range(steps):
        for weight in weights:
            weight.grad = signal + noise * torch.randn(WEIGHTS // 2)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("steps", [2, 5, 30, 300])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 9.0])
def test_it_is_the_squared_mean_over_the_variance(steps, ratio):
    """After few steps as after many, whatever the betas' bias is then."""
    found = signal_to_noise(stepped(signal=ratio**0.5, noise=1.0, steps=steps))
    assert found == pytest.approx(ratio, rel=0.15, abs=0.02)


def test_noise_alone_has_no_signal():
    """Nor has what cannot be told from noise: a single step, or none."""
    assert signal_to_noise(stepped(signal=0.0, noise=1.0, steps=100)) < 0.01
    assert signal_to_noise(stepped(signal=1.0, noise=1.0, steps=1)) == 0.0
    assert signal_to_noise(stepped(signal=1.0, noise=1.0, steps=0)) == 0.0


def test_without_a_gradient_there_is_no_ratio():
    """Weights that are frozen, or all that was earned is 0."""
    assert signal_to_noise(stepped(signal=0.0, noise=0.0, steps=3)) == 0.0
