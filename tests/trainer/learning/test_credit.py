"""From rollouts to advantages, with examples of one and of two questions."""

import numpy as np
import pytest
import torch

from trainer.learning.credit import assign_credit, rewards_of
from trainer.learning.sampled import SampledBatch
from trainer.rollouts.collect import CompressedText
from trainer.types import Example, Outcome, Question

# Example "a" has two questions and two chunks of two words, "b" one of each.
QUESTIONS = {"a": 2, "b": 1}
KEEP = torch.tensor([[[1, 0], [1, 1], [0, 1]], [[0, 1], [1, 0], [1, 0]]], dtype=torch.bool)


@pytest.fixture
def sampled():
    """Two rollouts of each example."""
    texts = [
        CompressedText(
            Example(name, ("text",), (Question(None, "x"),) * count), sample, (), "", 10, 3, 0.3
        )
        for name, count in QUESTIONS.items()
        for sample in range(2)
    ]
    example_C = torch.tensor([0, 0, 1])
    return SampledBatch(texts, KEEP, torch.zeros(2, 3, 2), torch.zeros(3, 2), example_C, examples=2)


@pytest.fixture
def own(make_rollout):
    """What they got: one text of "b" had the wrong length."""
    return [
        make_rollout(scores=(1.0, 0.0), reward=0.5),
        make_rollout(scores=(0.0, 0.5), reward=0.25),
        make_rollout(scores=(1.0,), reward=1.0),
        make_rollout(outcome=Outcome.OUT_OF_RANGE, reward=-0.1),
    ]


def test_rewards_by_question(sampled, own):
    """A length rule's reward is every question's; a question that is not asked has none."""
    rewards = rewards_of(own, sampled, by_question=True, refused=None)
    np.testing.assert_allclose(rewards.reward_BQS, [[[1, 0], [0, 0.5]], [[1, -0.1], [0, 0]]])
    assert rewards.asked_BQ.tolist() == [[True, True], [True, False]]
    assert rewards.valid_BS.all()


def test_what_the_length_costs_is_every_questions(sampled, own, make_rollout):
    """A rollout of 0.5 in the mean that lost 0.2 for its length."""
    own[0] = make_rollout(scores=(1.0, 0.0), reward=0.3)
    rewards = rewards_of(own, sampled, by_question=True, refused=None)
    np.testing.assert_allclose(rewards.reward_BQS[0, :, 0], [0.8, -0.2], rtol=1e-6)


def test_rewards_by_rollout(sampled, own):
    """One each, their mean over the questions."""
    rewards = rewards_of(own, sampled, by_question=False, refused=None)
    np.testing.assert_allclose(rewards.reward_BQS, [[[0.5, 0.25]], [[1, -0.1]]])


def test_a_refusal_counts_only_where_it_has_a_reward(sampled, own, make_rollout):
    """The reference pays for it; otherwise it says nothing of the compression."""
    own[1] = make_rollout(outcome=Outcome.REFUSED, reward=None)
    masked = rewards_of(own, sampled, by_question=True, refused=None)
    assert masked.valid_BS.tolist() == [[True, False], [True, True]]
    paid = rewards_of(own, sampled, by_question=False, refused=0.4)
    assert paid.valid_BS.all()
    assert paid.reward_BQS[0, 0, 1].item() == pytest.approx(0.4)


def test_a_process_without_rollouts_has_none_that_count(sampled):
    """It still takes part in the backward pass."""
    rewards = rewards_of([], sampled, by_question=True, refused=None)
    credit = assign_credit(rewards, sampled, "leave_one_out", by_word=True)
    assert not credit.counts_BS.any()
    assert credit.advantage_SCW.abs().sum() == 0


def test_a_rollouts_words_share_its_advantage(sampled, own):
    """In every chunk of its example."""
    rewards = rewards_of(own, sampled, by_question=False, refused=None)
    credit = assign_credit(rewards, sampled, "leave_one_out", by_word=False)
    expected = [[[0.25], [0.25], [1.1]], [[-0.25], [-0.25], [-1.1]]]
    np.testing.assert_allclose(credit.advantage_SCW, expected, rtol=1e-6)


def test_the_average_so_far_is_a_baseline(sampled, own):
    """The one that is handed in."""
    rewards = rewards_of(own, sampled, by_question=False, refused=None)
    credit = assign_credit(rewards, sampled, "moving_average", by_word=False, average=0.5)
    expected = [[[0.0], [0.0], [0.5]], [[-0.25], [-0.25], [-0.6]]]
    np.testing.assert_allclose(credit.advantage_SCW, expected, atol=1e-6)


def test_words_earn_by_what_the_other_rollout_shows(sampled, own):
    """Rollout 1 of "a" earns -1 and 0.5; rollout 0 answered the first without the second word.

    For the second question rollout 0 shows nothing, since it did not answer it.
    """
    rewards = rewards_of(own, sampled, by_question=True, refused=None)
    credit = assign_credit(rewards, sampled, "leave_one_out", by_word=True)
    of_first = [[1.0, 0.1], [1.0, 1.0]]
    expected = [[(-1.0 * share + 0.5) / 2 for share in chunk] for chunk in of_first]
    np.testing.assert_allclose(credit.advantage_SCW[1, :2], expected, rtol=1e-6)
