"""REINFORCE, as equations: rewards to advantages, advantages to the loss.

Pure functions of tensors. B examples, S rollouts per example.
"""

import torch
from torch import Tensor


def leave_one_out(reward_BS: Tensor, valid_BS: Tensor) -> tuple[Tensor, Tensor]:
    """Each rollout against the mean of its group's other valid ones (Kool et al., 2019).

    Returns:
        advantage_BS, zero where a rollout does not count, and counts_BS: the valid rollouts of
        groups with at least two of them. A group with fewer has nothing to compare with: it gets
        no update and leaves the denominator.
    """
    others_BS = valid_BS.sum(-1, keepdim=True) - 1
    counts_BS = valid_BS & (others_BS > 0)
    # By differences, because equal rewards must come to exactly 0: where nothing else is learnt,
    # AdamW would make full steps of their rounding errors.
    difference_BSS = reward_BS[:, :, None] - reward_BS[:, None, :]
    both_BSS = counts_BS[:, :, None] & counts_BS[:, None, :]
    total_BS = torch.where(both_BSS, difference_BSS, 0.0).sum(-1)
    return total_BS / others_BS.clamp_min(1), counts_BS


def no_baseline(reward_BS: Tensor, valid_BS: Tensor) -> tuple[Tensor, Tensor]:
    """The reward itself, as in the reference's loss; same results as `leave_one_out`."""
    return torch.where(valid_BS, reward_BS, 0.0), valid_BS


def policy_loss(
    log_prob_BS: Tensor,
    entropy_B: Tensor,
    words_B: Tensor,
    advantage_BS: Tensor,
    counts_BS: Tensor,
    *,
    entropy_coeff: float,
    entropy_per_word: float,
    mean_over_words: bool,
) -> Tensor:
    """The loss summed over the rollouts that count; the caller divides once by their global number.

    For each rollout

        -advantage * log_prob - entropy_per_word * H - entropy_coeff * H / words

    Log-probs are summed over a rollout's words (all its chunks), so that a word of a long text is
    worth as much as one of a short text; `mean_over_words` averages them, as the reference does.

    Args:
        log_prob_BS: log-probability of each rollout's mask, summed over its words.
        entropy_B: entropy of each example's policy in nats, summed over its words.
        words_B: number of words that are actions, at least 1 where anything counts.
        advantage_BS: from `leave_one_out` or `no_baseline`.
        counts_BS: likewise.
        entropy_coeff: weight of the mean entropy per word.
        entropy_per_word: weight of the summed entropy.
        mean_over_words: whether log-probs are averaged.
    """
    words_B = words_B.clamp_min(1)
    if mean_over_words:
        log_prob_BS = log_prob_BS / words_B[:, None]
    bonus_B = (entropy_per_word + entropy_coeff / words_B) * entropy_B
    return -((advantage_BS * log_prob_BS + bonus_B[:, None]) * counts_BS).sum()
