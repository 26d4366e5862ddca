"""How much of the gradient is signal, from what AdamW keeps of it anyway."""

import math
from collections.abc import Iterable

import torch
from torch.optim import Optimizer


def signal_to_noise(optimizer: Optimizer) -> float:
    """Signal to noise of one step's gradient: |E g|^2 / E |g - E g|^2, over all weights.

    m, the mean of the last steps' gradients, has the signal, and of the noise the share c; v, the
    mean of their squares, has all of both (weights of the means: those of AdamW, up to step t):

        s = (sum(m^2) / sum(v) - c) / (1 - c),   c = (1 - b1) (1 + b1^t) / ((1 + b1) (1 - b1^t))
        signal / noise = s / (1 - s)

    An estimate, 0 where the means show nothing but noise (as after a single step), and the better
    the less the gradient changes over some ten steps.

    Args:
        optimizer: AdamW, or one that keeps the same of each weight; with others it is 0.
    """
    states = [
        (group, optimizer.state[weight])
        for group in optimizer.param_groups
        for weight in group["params"]
        if "exp_avg_sq" in optimizer.state.get(weight, {})
    ]
    if not states:
        return 0.0
    b1, b2 = map(float, states[0][0]["betas"])
    step = int(states[0][1]["step"])
    noise_left = (1 - b1) * (1 + b1**step) / ((1 + b1) * (1 - b1**step))
    means = _total(state["exp_avg"].square().sum() for _, state in states) / (1 - b1**step) ** 2
    squares = _total(state["exp_avg_sq"].sum() for _, state in states) / (1 - b2**step)
    if step <= 1 or not squares > 0 or not math.isfinite(squares):
        return 0.0
    signal = (means / squares - noise_left) / (1 - noise_left)
    return max(signal, 0.0) / max(1 - signal, 1e-9)


def _total(values: Iterable[torch.Tensor]) -> float:
    return float(torch.stack(list(values)).sum())
