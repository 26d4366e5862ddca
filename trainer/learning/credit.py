"""From rollouts to what each action earned: rewards as tensors, a baseline, and credit by word."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.learning import reinforce
from trainer.learning.sampled import SampledBatch
from trainer.policy.transfer import sent
from trainer.types import Outcome, Rollout

ESTIMATORS = {
    "leave_one_out": reinforce.leave_one_out,
    "group_normalized": reinforce.group_normalized,
    "greedy": reinforce.greedy,
    "none": reinforce.no_baseline,
    "reference": reinforce.no_baseline,
    "reference_padded": reinforce.no_baseline,
}


@dataclass(frozen=True, slots=True)
class Rewards:
    """A process's rewards, question by question (Q is 1 where a rollout has one reward)."""

    reward_BQS: Tensor
    """0 where a rollout is not valid, or an example has fewer questions."""
    asked_BQ: Tensor
    """Which questions an example has."""
    valid_BS: Tensor


@dataclass(frozen=True, slots=True)
class Credit:
    """What each action earned."""

    advantage_SCW: Tensor
    """(S, C, W), or W 1 where a rollout's words share one; 0 where a rollout does not count."""
    counts_BS: Tensor
    """The rollouts that count."""


def rewards_of(
    own: Sequence[Rollout], sampled: SampledBatch, *, by_question: bool, refused: float | None
) -> Rewards:
    """A process's rewards as tensors.

    Args:
        own: its rollouts, in the order of `sampled.texts`; empty where it had no example.
        sampled: what was drawn.
        by_question: a reward for each question, not their mean.
        refused: reward of a refusal; None: it is not valid.
    """
    groups = [
        sampled.texts[start : start + sampled.samples]
        for start in range(0, len(sampled.texts), sampled.samples)
    ]
    counts = [len(texts[0].example.questions) if by_question else 1 for texts in groups]
    shape = (sampled.examples, max(counts), sampled.samples)
    reward_BQS, valid_BS = torch.zeros(shape), torch.zeros(shape[::2], dtype=torch.bool)
    for index, rollout in enumerate(own):
        example, sample = divmod(index, sampled.samples)
        reward = refused if rollout.outcome is Outcome.REFUSED else rollout.reward
        if reward is None:
            continue
        valid_BS[example, sample] = True
        scores = [reward] * counts[example]
        if by_question and rollout.scores:
            # What the length costs is every question's. It is exactly 0 where it costs nothing.
            penalty = sum(rollout.scores) / len(rollout.scores) - reward
            scores = [score - penalty for score in rollout.scores]
        reward_BQS[example, : counts[example], sample] = torch.tensor(scores)
    asked_BQ = torch.arange(shape[1]) < torch.tensor(counts)[:, None]
    device = sampled.keep_mask_SCW.device
    return Rewards(sent(reward_BQS, device), sent(asked_BQ, device), sent(valid_BS, device))


def assign_credit(
    rewards: Rewards, sampled: SampledBatch, loss: str, *, by_word: bool, average: float = 0.0
) -> Credit:
    """What each word of each rollout earned beyond its baseline.

    Args:
        rewards: by question exactly where credit is `by_word`.
        sampled: the actions.
        loss: as in the config; which estimator.
        by_word: scale a word's advantage by its relevance to each question.
        average: what `moving_average` compares with.
    """
    valid_BQS = rewards.valid_BS[:, None].expand_as(rewards.reward_BQS)
    if loss == "moving_average":
        estimated = reinforce.moving_average(rewards.reward_BQS, valid_BQS, average=average)
    else:
        estimated = ESTIMATORS[loss](rewards.reward_BQS, valid_BQS)
    advantage_BQS, counts_BQS = estimated
    counts_BS = counts_BQS[:, 0]
    advantage_CQS = advantage_BQS[sampled.example_C]
    if not by_word:
        return Credit(advantage_CQS[:, 0].T[:, :, None], counts_BS)
    relevance_CQSW = reinforce.relevance(
        rewards.reward_BQS[sampled.example_C],
        counts_BS[sampled.example_C],
        sampled.keep_mask_SCW.transpose(0, 1),
    )
    advantage_CSW = reinforce.word_advantage(
        advantage_CQS, rewards.asked_BQ[sampled.example_C], relevance_CQSW
    )
    return Credit(advantage_CSW.transpose(0, 1), counts_BS)
