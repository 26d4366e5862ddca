"""From numpy rows on the CPU to tensors where the model is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def padded(rows: Sequence[Any], fill: Any, width: int = 0) -> Tensor:
    """Rows of different lengths as one tensor (R, N) on the CPU.

    Args:
        rows: Arrays of one dtype, (N,) and shorter.
        fill: What stands behind the shorter ones.
        width: N, where no row is as long.
    """
    table = np.full((len(rows), max(width, *map(len, rows))), fill, dtype=rows[0].dtype)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(table)


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU, on the device.

    A GPU copies it from pinned memory, in its turn and without being waited for: a copy of ordinary
    memory would hold this thread up until the GPU has done all that it was given before.
    """
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
