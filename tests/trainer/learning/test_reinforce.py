"""Advantages and loss, against tables made by hand."""

import math

import pytest
import torch

from trainer.learning.reinforce import (
    clipped_ratio,
    leave_one_out,
    no_baseline,
    policy_loss,
    score_function,
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


def _loss(**changes: object) -> float:
    arguments = {
        "objective_BS": torch.tensor([[-1.0, 2.0]]),
        "entropy_B": torch.tensor([6.0]),
        "kl_B": torch.tensor([0.5]),
        "words_B": torch.tensor([4.0]),
        "counts_BS": torch.tensor([[True, True]]),
        "entropy_coeff": 0.0,
        "entropy_per_word": 0.0,
        "kl_coeff": 0.0,
    }
    return policy_loss(**{**arguments, **changes}).item()


def test_loss_by_hand() -> None:
    """Summed over rollouts: -(-1 + 2) = -1."""
    assert _loss() == pytest.approx(-1.0)


def test_entropy_and_kl_terms_by_hand() -> None:
    """The summed bonus pays 0.1 * 6 a rollout, the mean one 0.1 * 6 / 4; KL costs 0.2 * 0.5."""
    assert _loss(entropy_per_word=0.1) == pytest.approx(-1.0 - 2 * 0.6)
    assert _loss(entropy_coeff=0.1) == pytest.approx(-1.0 - 2 * 0.15)
    assert _loss(kl_coeff=0.2) == pytest.approx(-1.0 + 2 * 0.1)


def test_rollouts_that_do_not_count_add_nothing() -> None:
    """Neither their objective nor their entropy and KL."""
    counts_BS = torch.tensor([[True, False]])
    loss = _loss(counts_BS=counts_BS, entropy_per_word=0.1, kl_coeff=0.2)
    assert loss == pytest.approx(1.0 - 0.6 + 0.1)
