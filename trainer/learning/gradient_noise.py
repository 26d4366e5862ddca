"""How far successive gradients agree: the signal in them, against the noise of sampling."""

import torch
from torch.optim import Optimizer


def signal_to_noise(optimizer: Optimizer) -> float:
    r"""Power of the mean gradient over the power of its fluctuation, from AdamW's own moments.

    Both moments are averages over past gradients g = mu + noise, so that, once corrected for their
    start at 0 (Kingma and Ba, 2015),

        E |m|^2 = |mu|^2 + k |sigma|^2,   E sum(v) = |mu|^2 + |sigma|^2
        k = (1 - b) / (1 + b) * (1 + b^t) / (1 - b^t)

    (b: the decay of the first moment, t: the steps so far), which gives |mu|^2 / |sigma|^2. A batch
    this many times smaller than now would be half noise (the gradient noise scale of McCandlish et
    al., 2018). It is a rough figure: the gradient is clipped, and changes as the policy does.

    Returns:
        At least 0; 0 also before the second step, when nothing can be told.
    """
    moments = [state for state in optimizer.state.values() if "exp_avg" in state]
    steps = int(moments[0]["step"].item()) if moments else 0
    if steps < 2:
        return 0.0
    first_decay, second_decay = optimizer.param_groups[0]["betas"]
    norms = torch._foreach_norm([state["exp_avg"] for state in moments])
    mean_power = torch.stack(norms).square().sum().item() / (1 - first_decay**steps) ** 2
    sums = torch.stack([state["exp_avg_sq"].sum() for state in moments])
    power = sums.sum().item() / (1 - second_decay**steps)
    left = first_decay**steps
    share = (1 - first_decay) / (1 + first_decay) * (1 + left) / (1 - left)
    signal = max(mean_power - share * power, 0.0) / (1 - share)
    noise = power - signal
    return signal / noise if noise > 0 else 0.0
