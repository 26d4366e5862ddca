"""From logits to the next token, by torch: pure functions.

Shapes: R rows of a batch, V tokens of the vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from teacher_service.backends.generation import Sampling, uniform


def choose_tokens(logits_RV: Tensor, samplings: Sequence[Sampling], step: int) -> list[int]:
    """The next token of every row: the likeliest at temperature 0, else one that is drawn.

    Args:
        logits_RV: Float.
        samplings: One a row.
        step: How many tokens of the completion there are already.
    """
    chosen: list[int] = logits_RV.argmax(-1).tolist()
    drawing = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    if drawing:
        drawn = draw_tokens(logits_RV[drawing], [samplings[row] for row in drawing], step)
        for row, token in zip(drawing, drawn, strict=True):
            chosen[row] = token
    return chosen


def draw_tokens(logits_RV: Tensor, samplings: Sequence[Sampling], step: int) -> list[int]:
    """Draw from the softmax at each row's temperature, cut to top-k, min-p, then top-p.

    By inversion: a row's number in [0, 1) is its request's own, so that no other row, and no
    generator's state, has a part in it.
    """

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits_RV.device)[:, None]

    scaled_RV = logits_RV.float() / column([sampling.temperature for sampling in samplings])
    # Stable, so that tokens of one logit keep their order.
    sorted_RV, order_RV = scaled_RV.sort(dim=-1, descending=True, stable=True)
    prob_RV = sorted_RV.softmax(-1)
    vocabulary = logits_RV.shape[-1]
    rank_V = torch.arange(vocabulary, device=logits_RV.device)
    kept_RV = rank_V < column([sampling.top_k or vocabulary for sampling in samplings])
    kept_RV &= prob_RV >= column([sampling.min_p for sampling in samplings]) * prob_RV[:, :1]
    prob_RV = prob_RV * kept_RV
    prob_RV = prob_RV / prob_RV.sum(-1, keepdim=True)
    before_RV = prob_RV.cumsum(-1) - prob_RV
    prob_RV = prob_RV * (before_RV < column([sampling.top_p for sampling in samplings]))
    cumulative_RV = prob_RV.cumsum(-1)
    draw_R1 = column([uniform(sampling.seed, step) for sampling in samplings])
    place_R1 = torch.searchsorted(cumulative_RV, draw_R1 * cumulative_RV[:, -1:], right=True)
    # Rounding may let a draw fall behind the last token that was kept.
    last_R1 = (prob_RV > 0).sum(-1, keepdim=True) - 1
    tokens: list[int] = order_RV.gather(-1, place_R1.minimum(last_R1))[:, 0].tolist()
    return tokens
