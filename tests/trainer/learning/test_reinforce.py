"""Advantages and loss, against tables made by hand."""

import math

import pytest
import torch

from trainer.learning.reinforce import (
    averaged,
    clipped_ratio,
    greedy,
    group_normalized,
    leave_one_out,
    moving_average,
    no_baseline,
    policy_loss,
    relevance,
    score_function,
    weighted_advantage,
    word_advantage,
)


def test_leave_one_out_compares_with_the_others_of_the_group() -> None:
    """Rewards 1, 0, 0.5: each minus the mean of the other two."""
    advantage_BS, counts_BS = leave_one_out(
        torch.tensor([[1.0, 0.0, 0.5]]), torch.ones(1, 3, dtype=torch.bool)
    )
    torch.testing.assert_close(advantage_BS, torch.tensor([[0.75, -0.75, 0.0]]))
    assert counts_BS.all()


def test_a_failed_rollout_is_in_neither_loss_nor_baseline() -> None:
    """Whatever stands in the reward of an invalid rollout has no influence."""
    valid_BS = torch.tensor([[True, True, False]])
    for nonsense in (0.0, 99.0, float("nan")):
        advantage_BS, counts_BS = leave_one_out(torch.tensor([[1.0, 0.0, nonsense]]), valid_BS)
        assert advantage_BS.tolist() == [[1.0, -1.0, 0.0]]
        assert counts_BS.tolist() == [[True, True, False]]


def test_a_group_with_one_valid_rollout_leaves_the_denominator() -> None:
    """There is nothing to compare it with."""
    advantage_BS, counts_BS = leave_one_out(
        torch.tensor([[1.0, 0.3], [0.2, 0.4]]), torch.tensor([[True, False], [True, True]])
    )
    assert counts_BS.tolist() == [[False, False], [True, True]]
    torch.testing.assert_close(advantage_BS, torch.tensor([[0.0, 0.0], [-0.2, 0.2]]))


def test_the_plain_loss_uses_the_reward_itself() -> None:
    """No baseline: the reference's estimator."""
    advantage_BS, counts_BS = no_baseline(torch.tensor([[0.5]]), torch.tensor([[True]]))
    assert (advantage_BS.item(), counts_BS.item()) == (0.5, True)


def test_greedy_compares_with_the_deployed_text_which_comes_last() -> None:
    """Rewards 1 and 0.25 against 0.5. Where that text failed, nothing can be compared."""
    reward_BS = torch.tensor([[1.0, 0.25, 0.5], [1.0, 0.0, 9.0], [1.0, 7.0, 0.5]])
    valid_BS = torch.tensor([[True, True, True], [True, True, False], [True, False, True]])
    advantage_BS, counts_BS = greedy(reward_BS, valid_BS)
    assert advantage_BS.tolist() == [[0.5, -0.25, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]
    assert counts_BS.tolist() == [[True, True, False], [False] * 3, [True, False, False]]


def test_the_moving_average_weighs_recent_steps_more() -> None:
    """After rewards 1 and 0: (0.9 * 1 + 0) / 1.9. The first step is the average of itself."""
    first = averaged(0.0, 1.0, 1)
    assert first == pytest.approx(1.0)
    assert averaged(first, 0.0, 2) == pytest.approx(0.9 / 1.9)


def test_rollouts_are_compared_with_the_moving_average() -> None:
    """The same for every group; what failed does not count."""
    advantage_BS, counts_BS = moving_average(
        torch.tensor([[1.0, 0.0], [0.5, 7.0]]),
        torch.tensor([[True, True], [True, False]]),
        average=0.25,
    )
    assert advantage_BS.tolist() == [[0.75, -0.25], [0.25, 0.0]]
    assert counts_BS.tolist() == [[True, True], [True, False]]


def test_the_group_is_normalized_by_its_spread() -> None:
    """Rewards 1, 0, 0.5, and one that failed: mean 0.5, standard deviation sqrt(1/6)."""
    advantage_BS, counts_BS = group_normalized(
        torch.tensor([[1.0, 0.0, 0.5, 7.0]]), torch.tensor([[True, True, True, False]])
    )
    spread = math.sqrt(1 / 6) + 1e-4
    torch.testing.assert_close(advantage_BS, torch.tensor([[0.5 / spread, -0.5 / spread, 0, 0]]))
    assert counts_BS.tolist() == [[True, True, True, False]]
    flat_BS, _ = group_normalized(torch.full((1, 3), 0.3), torch.ones(1, 3, dtype=torch.bool))
    assert flat_BS.tolist() == [[0.0, 0.0, 0.0]]


# Four rollouts of three words. Question 0 hangs on word 0, question 1 on nothing that was varied.
KEEP = torch.tensor([[[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1]]], dtype=torch.bool)
SCORES = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.5, 1.0, 0.5]]])


def test_a_word_is_relevant_where_no_other_rollout_did_as_well_without_it() -> None:
    """For rollout 0 and question 0, rollout 1 scored 1 without word 1, and none without word 0."""
    every = torch.ones(1, 4, dtype=torch.bool)
    relevance_CQSW = relevance(SCORES, every, KEEP)
    assert relevance_CQSW[0, 0, 0].tolist() == pytest.approx([1.0, 0.1, 1.0])
    assert relevance_CQSW[0, 0, 1].tolist() == pytest.approx([1.0, 1.0, 0.1])
    # Question 1, rollout 2: of the others' best, 0.5, all is reached without word 0 and word 1.
    assert relevance_CQSW[0, 1, 2].tolist() == pytest.approx([0.1, 0.1, 1.0])


def test_a_rollouts_own_actions_do_not_change_its_relevance() -> None:
    """Otherwise its advantage times log-prob would be biased."""
    every = torch.ones(1, 4, dtype=torch.bool)
    before_CQSW = relevance(SCORES, every, KEEP)
    keep_mask_CSW, scores = KEEP.clone(), SCORES.clone()
    keep_mask_CSW[0, 2] = ~keep_mask_CSW[0, 2]
    scores[0, :, 2] = 0.7
    after_CQSW = relevance(scores, every, keep_mask_CSW)
    assert torch.equal(after_CQSW[:, :, 2], before_CQSW[:, :, 2])
    assert not torch.equal(after_CQSW, before_CQSW)


def test_where_no_other_rollout_scored_every_word_is_relevant() -> None:
    """A negative reward is no success, and one that failed is not asked, whatever stands there."""
    valid_CS = torch.tensor([[True, True, True, False]])
    rewards = torch.tensor([[[0.0, -0.4, 0.9, float("nan")]]])
    relevance_CQSW = relevance(rewards, valid_CS, KEEP)
    assert relevance_CQSW[0, 0, 2].tolist() == [1.0, 1.0, 1.0]
    assert relevance_CQSW[0, 0, 0].tolist() == pytest.approx([0.1, 1.0, 1.0])


def test_words_earn_the_mean_over_the_questions_that_were_asked() -> None:
    """(0.6 * 1 - 0.2 * 0.5) / 2, and the first question alone where there is no second."""
    advantage_CQS = torch.tensor([[[0.6], [-0.2]], [[0.6], [-0.2]]])
    relevance_CQSW = torch.tensor([1.0, 0.5]).view(1, 2, 1, 1).expand(2, 2, 1, 1)
    asked_CQ = torch.tensor([[True, True], [True, False]])
    earned_CSW = word_advantage(advantage_CQS, asked_CQ, relevance_CQSW)
    torch.testing.assert_close(earned_CSW.flatten(), torch.tensor([0.25, 0.6]))


def test_the_score_functions_gradient_is_the_advantage() -> None:
    """d(A log p) / d(log p) = A, whatever the probability."""
    log_prob_SCW = torch.tensor([[[-0.5, -2.0]]], requires_grad=True)
    advantage_SCW = torch.tensor([[[0.75]]])
    score_function(log_prob_SCW, advantage_SCW).sum().backward()
    assert log_prob_SCW.grad.tolist() == [[[0.75, 0.75]]]


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.2),
        (1.5, 2.0, 2.4, 0.0),  # Moved far enough in the direction that pays.
        (0.5, 2.0, 1.0, 1.0),  # Moved the wrong way: it is pulled back with no bound.
        (0.5, -2.0, -1.6, 0.0),
        (1.5, -2.0, -3.0, -3.0),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_ratios_by_hand(ratio, advantage, objective, slope) -> None:
    """PPO's rule on one word, clipped at 0.2; the slope is by log p, so r * A where it counts."""
    log_prob_SCW = torch.tensor([[[-1.0]]], requires_grad=True)
    behaviour_SCW = torch.tensor([[[-1.0 - math.log(ratio)]]])
    value = clipped_ratio(log_prob_SCW, behaviour_SCW, torch.tensor([[[advantage]]]), 0.2)
    value.sum().backward()
    assert value.item() == pytest.approx(objective)
    assert log_prob_SCW.grad.item() == pytest.approx(slope)


def test_recorded_words_are_weighted_by_their_ratios_up_to_two() -> None:
    """Ratios of 1/2, 1, 2 and 8, whether the advantage is a rollout's or a word's."""
    behaviour_SCW = torch.log(torch.tensor([[[0.8, 0.4, 0.4, 0.1]]]))
    log_prob_SCW = torch.log(torch.tensor([[[0.4, 0.4, 0.8, 0.8]]]))
    for advantage in (torch.tensor([[[-3.0]]]), torch.full((1, 1, 4), -3.0)):
        weighted_SCW = weighted_advantage(advantage, log_prob_SCW, behaviour_SCW)
        torch.testing.assert_close(weighted_SCW, torch.tensor([[[-1.5, -3.0, -6.0, -6.0]]]))


def test_in_the_mean_over_masks_a_weighted_gradient_is_the_policys_own() -> None:
    """One word that is worth 1, kept with 0.6 by what drew and with 0.3 by what learns.

    On its own masks the gradient by log-odds is p (1 - p) * 1; enumerated, not sampled.
    """
    prob, behaviour = torch.tensor(0.3), torch.tensor([0.4, 0.6])
    log_odds = torch.logit(prob).requires_grad_()
    log_prob_SCW = torch.stack(
        [torch.nn.functional.logsigmoid(sign * log_odds) for sign in (-1, 1)]
    )[:, None, None]
    advantage_SCW = torch.tensor([0.0, 1.0])[:, None, None]
    weighted_SCW = weighted_advantage(
        advantage_SCW, log_prob_SCW.detach(), torch.log(behaviour)[:, None, None]
    )
    objective_SCW = score_function(log_prob_SCW, weighted_SCW)
    (behaviour[:, None, None] * objective_SCW).sum().backward()
    assert log_odds.grad.item() == pytest.approx(0.3 * 0.7)


def _loss(**changes: object) -> float:
    arguments = {
        "objective_BS": torch.tensor([[-1.0, 2.0]]),
        "entropy_B": torch.tensor([6.0]),
        "kl_B": torch.tensor([0.5]),
        "imitated_B": torch.tensor([0.25]),
        "words_B": torch.tensor([4.0]),
        "counts_BS": torch.tensor([[True, True]]),
        "entropy_coeff": 0.0,
        "entropy_per_word": 0.0,
        "kl_coeff": 0.0,
        "imitation": 0.0,
    }
    return policy_loss(**{**arguments, **changes}).item()


def test_loss_by_hand() -> None:
    """Summed over rollouts: -(-1 + 2) = -1."""
    assert _loss() == pytest.approx(-1.0)


def test_entropy_and_kl_terms_by_hand() -> None:
    """The summed bonus pays 0.1 * 6 a rollout, the mean one 0.1 * 6 / 4; KLs cost 0.2 of each."""
    assert _loss(entropy_per_word=0.1) == pytest.approx(-1.0 - 2 * 0.6)
    assert _loss(entropy_coeff=0.1) == pytest.approx(-1.0 - 2 * 0.15)
    assert _loss(kl_coeff=0.2) == pytest.approx(-1.0 + 2 * 0.1)
    assert _loss(imitation=0.2) == pytest.approx(-1.0 + 2 * 0.05)


def test_rollouts_that_do_not_count_add_nothing() -> None:
    """Neither their objective nor their entropy and KL."""
    counts_BS = torch.tensor([[True, False]])
    loss = _loss(counts_BS=counts_BS, entropy_per_word=0.1, kl_coeff=0.2)
    assert loss == pytest.approx(1.0 - 0.6 + 0.1)
