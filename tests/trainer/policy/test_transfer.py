"""Tensors on their way to the model."""

import numpy as np
import pytest
import torch

from trainer.policy.transfer import padded, sent


def test_rows_are_padded_to_the_longest_or_to_a_width():
    """The fill stands behind the shorter rows, in the rows' own type."""
    rows = [np.array([1, 2, 3]), np.array([4])]
    assert padded(rows, -1).tolist() == [[1, 2, 3], [4, -1, -1]]
    assert padded(rows, -1, width=4).tolist() == [[1, 2, 3, -1], [4, -1, -1, -1]]
    assert padded([np.array([True])], False, width=2).dtype == torch.bool


def test_a_tensor_for_the_cpu_is_not_copied():
    """It is where it should be."""
    tensor = torch.arange(3)
    assert sent(tensor, "cpu") is tensor
    assert sent(tensor, torch.device("cpu")) is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_same_values_though_nothing_waits():
    """Even where the GPU is busy, and the pinned memory is free for the next tensor at once."""
    busy = torch.randn(4096, 4096, device="cuda")
    for _ in range(8):
        busy = busy @ busy
    tensors = [torch.full((1000,), at) for at in range(100)]
    copies = [sent(tensor, "cuda") for tensor in tensors]
    assert all(torch.equal(a, b.cpu()) for a, b in zip(tensors, copies, strict=True))
