"""REINFORCE, as equations: rewards to advantages, advantages to the loss.

Pure functions of tensors. B examples, S rollouts per example, Q questions per example, C chunks,
W words; X stands for any axes in front.
"""

import torch
from torch import Tensor

RELEVANCE_FLOOR = 0.1
"""Of a word's relevance. At 0 a word that one success lacked by luck would never be learnt."""
AVERAGE_DECAY = 0.9
"""Of the moving average, by step."""
MAX_WEIGHT = 2.0
"""Of one word of a recorded rollout: a ratio of rare actions would drown all others."""
_SPREAD_FLOOR = 1e-4
"""Added to a group's standard deviation, as in GRPO's published code."""


def leave_one_out(reward_XS: Tensor, valid_XS: Tensor) -> tuple[Tensor, Tensor]:
    """Each rollout against the mean of its group's other valid ones (Kool et al., 2019).

    Args:
        reward_XS: rewards, (B, S) or with more axes in front; anything where not valid.
        valid_XS: which of them are.

    Returns:
        advantage_XS, zero where a rollout does not count, and counts_XS: the valid rollouts of
        groups with at least two of them. A group with fewer has nothing to compare with: it gets
        no update and leaves the denominator.
    """
    others_XS = valid_XS.sum(-1, keepdim=True) - 1
    counts_XS = valid_XS & (others_XS > 0)
    # By differences, because equal rewards must come to exactly 0: where nothing else is learnt,
    # AdamW would make full steps of their rounding errors.
    difference_XSS = reward_XS[..., :, None] - reward_XS[..., None, :]
    both_XSS = counts_XS[..., :, None] & counts_XS[..., None, :]
    total_XS = torch.where(both_XSS, difference_XSS, 0.0).sum(-1)
    return total_XS / others_XS.clamp_min(1), counts_XS


def group_normalized(reward_XS: Tensor, valid_XS: Tensor) -> tuple[Tensor, Tensor]:
    """(reward - mean) / standard deviation of the group (GRPO; Shao et al., 2024).

    Same arguments and results as `leave_one_out`.
    """
    advantage_XS, counts_XS = leave_one_out(reward_XS, valid_XS)
    count_X1 = counts_XS.sum(-1, keepdim=True).clamp_min(1)
    # reward - mean is (n - 1) / n of what the rollout is above the others.
    centred_XS = advantage_XS * (count_X1 - 1) / count_X1
    spread_X1 = (centred_XS.square().sum(-1, keepdim=True) / count_X1).sqrt()
    return centred_XS / (spread_X1 + _SPREAD_FLOOR), counts_XS


def no_baseline(reward_XS: Tensor, valid_XS: Tensor) -> tuple[Tensor, Tensor]:
    """The reward itself, as in the reference's loss; same results as `leave_one_out`."""
    return torch.where(valid_XS, reward_XS, 0.0), valid_XS


def greedy(reward_XS: Tensor, valid_XS: Tensor) -> tuple[Tensor, Tensor]:
    """Each rollout against the text as deployed, the group's last (self-critical; Rennie et al.).

    Same arguments and results as `leave_one_out`. The last one itself was not drawn and does not
    count; a group whose last is not valid gets no update.
    """
    counts_XS = valid_XS & valid_XS[..., -1:]
    counts_XS = torch.cat([counts_XS[..., :-1], torch.zeros_like(counts_XS[..., -1:])], dim=-1)
    return torch.where(counts_XS, reward_XS - reward_XS[..., -1:], 0.0), counts_XS


def moving_average(reward_XS: Tensor, valid_XS: Tensor, *, average: float) -> tuple[Tensor, Tensor]:
    """Each rollout against the mean reward of the steps before; results as of `leave_one_out`."""
    return torch.where(valid_XS, reward_XS - average, 0.0), valid_XS


def averaged(average: float, reward: float, step: int) -> float:
    """The moving average once step number `step`, counted from 1, has had its mean reward.

    Recent steps count more, by 0.9 a step; weights add up to 1 from the first step on.
    """
    weight = (1 - AVERAGE_DECAY) / (1 - AVERAGE_DECAY**step)
    return average + weight * (reward - average)


def relevance(reward_CQS: Tensor, valid_CS: Tensor, keep_mask_CSW: Tensor) -> Tensor:
    """How far a word matters for a question, as the rest of the group shows: (C, Q, S, W).

        1 - max{r_t : t != s, w not in t} / max{r_t : t != s},   at least `RELEVANCE_FLOOR`

    A rollout that did as well without a word shows that the question does not hang on it. For
    rollout s only the others are asked, so the factor is independent of its actions: it scales each
    word's expected gradient, and adds nothing to it. (With s itself among them the estimate is
    biased, and learning collapses: F1 0.13 where this gives 0.81.) Where no other rollout scored,
    every word is as relevant as any.

    Args:
        reward_CQS: rewards by question, those of a chunk's example.
        valid_CS: which rollouts count.
        keep_mask_CSW: their actions.
    """
    zero = reward_CQS.new_zeros(())
    reward_CQS = torch.where(valid_CS[:, None, :], reward_CQS, zero).clamp_min(0.0)
    without_CQSW = torch.where(keep_mask_CSW[:, None], zero, reward_CQS[..., None])
    shares = []
    for sample in range(reward_CQS.shape[-1]):
        others = [other for other in range(reward_CQS.shape[-1]) if other != sample]
        best_CQ1 = reward_CQS[:, :, others].amax(-1, keepdim=True)
        best_without_CQW = without_CQSW[:, :, others].amax(-2)
        shares.append(torch.where(best_CQ1 > 0, best_without_CQW / best_CQ1, zero))
    return 1 - (1 - RELEVANCE_FLOOR) * torch.stack(shares, dim=2)


def word_advantage(advantage_CQS: Tensor, asked_CQ: Tensor, relevance_CQSW: Tensor) -> Tensor:
    """What each word of each rollout earned, (C, S, W): the mean over an example's questions.

    Args:
        advantage_CQS: from an estimator, question by question.
        asked_CQ: false where the example has fewer than Q questions.
        relevance_CQSW: from `relevance`.
    """
    weight_CQ = asked_CQ / asked_CQ.sum(-1, keepdim=True).clamp_min(1)
    return torch.einsum("cq,cqs,cqsw->csw", weight_CQ, advantage_CQS, relevance_CQSW)


def score_function(log_prob_SCW: Tensor, advantage_SCW: Tensor) -> Tensor:
    """REINFORCE's objective (Williams, 1992): advantage * log pi(action), word by word."""
    return advantage_SCW * log_prob_SCW


def weighted_advantage(
    advantage_SCW: Tensor, log_prob_SCW: Tensor, behaviour_SCW: Tensor
) -> Tensor:
    """What the words of masks that another policy drew are worth to the one that learns.

        min(p(action) / p_behaviour(action), `MAX_WEIGHT`) * A

    Weighted before the step, not clipped against the behaviour in it ("decoupled"; Hilton et al.,
    2022): a bound on that ratio would leave those words without a gradient in which the two
    policies differ. The weight is V-trace's (Espeholt et al., 2018), word by word, because the
    product over a text is useless: at a drift of 0.1 in the logits its effective sample size is
    0.6 at 400 words and 0.03 at 3,000. It neglects that the other words were drawn by that policy,
    too.

    Args:
        advantage_SCW: (S, C, W) or what broadcasts to it.
        log_prob_SCW: of each word's action under the policy that learns.
        behaviour_SCW: the same under the one that drew the masks.
    """
    return torch.exp(log_prob_SCW - behaviour_SCW).clamp(max=MAX_WEIGHT) * advantage_SCW


def clipped_ratio(
    log_prob_SCW: Tensor, before_SCW: Tensor, advantage_SCW: Tensor, clip: float
) -> Tensor:
    """PPO's objective (Schulman et al., 2017) on each word, for a policy that has moved in a step.

        min(r * A, clip(r, 1 - clip, 1 + clip) * A),  r = p(action) / p_before(action)

    Where both policies are one, its gradient is `score_function`'s.

    Args:
        log_prob_SCW: of each word's action under the policy that learns.
        before_SCW: the same at the step's start.
        advantage_SCW: (S, C, W) or what broadcasts to it.
        clip: how far a ratio may carry a word in one batch.
    """
    ratio_SCW = torch.exp(log_prob_SCW - before_SCW.detach())
    within_SCW = ratio_SCW.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio_SCW * advantage_SCW, within_SCW * advantage_SCW)


def policy_loss(
    objective_BS: Tensor,
    entropy_B: Tensor,
    kl_B: Tensor,
    imitated_B: Tensor,
    words_B: Tensor,
    counts_BS: Tensor,
    *,
    entropy_coeff: float,
    entropy_per_word: float,
    kl_coeff: float,
    imitation: float,
) -> Tensor:
    """The loss summed over the rollouts that count; the caller divides once by their global number.

    For each rollout

        -objective - entropy_per_word * H - entropy_coeff * H / words + kl_coeff * KL
                   + imitation * KL from what drew a recorded rollout

    Args:
        objective_BS: `score_function` or `clipped_ratio`, summed over a rollout's words (all its
            chunks), so that a word of a long text is worth as much as one of a short text.
        entropy_B: entropy of each example's policy in nats, summed over its words.
        kl_B: KL of the policy to the starting compressor's, summed likewise.
        imitated_B: KL from the policy that drew a recorded rollout, summed likewise.
        words_B: number of words that are actions, at least 1 where anything counts.
        counts_BS: the rollouts that count, from `leave_one_out` or `no_baseline`.
        entropy_coeff: weight of the mean entropy per word.
        entropy_per_word: weight of the summed entropy.
        kl_coeff: weight of the KL.
        imitation: weight of that from what drew.
    """
    bonus_B = (entropy_per_word + entropy_coeff / words_B.clamp_min(1)) * entropy_B
    charge_B = kl_coeff * kl_B + imitation * imitated_B
    return -((objective_BS + (bonus_B - charge_B)[:, None]) * counts_BS).sum()
