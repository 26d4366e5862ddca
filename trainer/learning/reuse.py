"""How far recorded rollouts speak for the policy of the moment: pure functions of tensors.

A rollout that an older policy drew is weighted word by word, by `reinforce.weighted_advantage`.
That is sound while the two policies are near: here is how near they are, and what keeps them so.
B examples, S rollouts per example, C chunks, W words.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.policy.sampling import IndependentWords, MaskPolicy

_ROUNDING = 1e-9
"""So that a ninth of nine is one, whatever it rounds to."""


def kl_per_word(behaviour: MaskPolicy, policy: MaskPolicy, example_C: Tensor, B: int) -> Tensor:
    """KL(behaviour || policy) of each example in nats, the mean over its words: (B,).

    In closed form, of the policies that draw (each after its own bias), not of the masks drawn.
    """
    words_B = _per_example(policy.free_CW.sum(-1).float(), example_C, B)
    return _per_example(behaviour.kl(policy), example_C, B) / words_B.clamp_min(1)


def kl_to_recorded(log_odds_CW: Tensor, policy: IndependentWords) -> Tensor:
    """KL(behaviour || policy) in nats, of each chunk's masks, with gradient: (C,).

    What the policy pays for leaving the one that drew ("kickstarting"; Schmitt et al., 2018).
    By the cross entropy, whose gradient is sigmoid(z) - p_behaviour: exactly 0 where both are one,
    so that a run that is trained again on its own rollouts comes to the same weights, bit for bit.

    Args:
        log_odds_CW: of keeping a word, under the policy that drew.
        policy: that learns.
    """
    prob_CW = torch.sigmoid(log_odds_CW)
    crossed_CW, own_CW = (
        F.binary_cross_entropy_with_logits(logits_CW, prob_CW, reduction="none")
        for logits_CW in (policy.logits_CW, log_odds_CW)
    )
    return ((crossed_CW - own_CW) * policy.free_CW).sum(-1)


def geometric_weight(
    log_prob_SCW: Tensor, behaviour_SCW: Tensor, free_CW: Tensor, example_C: Tensor, B: int
) -> Tensor:
    """The geometric mean of a rollout's ratios over its words: (S, B).

        exp(mean over w of [log p(a_w) - log p_behaviour(a_w)])

    Of a text of hundreds of words the product says nothing: nearly all of its weight falls on one
    rollout. The mean is what GSPO weights a sequence by (Zheng et al., 2025).

    Args:
        log_prob_SCW: of each word's action under the policy of the moment, 0 where there is none.
        behaviour_SCW: the same under the policy that drew the masks.
        free_CW: where there is an action.
        example_C: which example a chunk belongs to.
        B: number of examples.
    """
    words_B = _per_example(free_CW.sum(-1).float(), example_C, B)
    total_SB = _per_example((log_prob_SCW - behaviour_SCW).sum(-1), example_C, B)
    return torch.exp(total_SB / words_B.clamp_min(1))


def effective_share(weight_SB: Tensor) -> Tensor:
    """Kong's effective sample size as a share of the rollouts, 1/S to 1: (B,).

    (sum w)^2 / (S sum w^2)
    """
    return weight_SB.sum(0).square() / (len(weight_SB) * weight_SB.square().sum(0))


def covers(
    kl_B: Tensor, effective_share_B: Tensor, *, max_kl: float, min_effective_share: float
) -> Tensor:
    """Whether recorded rollouts are near enough to learn from, example by example: bool (B,)."""
    return (kl_B <= max_kl) & (effective_share_B >= min_effective_share)


def quota(share: float, before: int, count: int) -> int:
    """How many of the next `count` examples fall to a share, of all from the first one on.

    A function of the place in the run alone, so that a resume has nothing to remember. What one
    batch does not use is not left to the next.
    """
    until, so_far = (int(share * number + _ROUNDING) for number in (before + count, before))
    return until - so_far


def _per_example(value_XC: Tensor, example_C: Tensor, B: int) -> Tensor:
    return value_XC.new_zeros((*value_XC.shape[:-1], B)).index_add(-1, example_C, value_XC)
