"""Advantages and loss, against tables made by hand."""

import pytest
import torch

from trainer.learning.reinforce import leave_one_out, no_baseline, policy_loss


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


def _loss(**changes: object) -> float:
    arguments = {
        "log_prob_BS": torch.tensor([[-2.0, -4.0]]),
        "entropy_B": torch.tensor([6.0]),
        "words_B": torch.tensor([4.0]),
        "advantage_BS": torch.tensor([[0.5, -0.5]]),
        "counts_BS": torch.tensor([[True, True]]),
        "entropy_coeff": 0.0,
        "entropy_per_word": 0.0,
        "mean_over_words": False,
    }
    return policy_loss(**{**arguments, **changes}).item()


def test_loss_by_hand() -> None:
    """Summed over rollouts: -(0.5 * -2 + -0.5 * -4) = -1."""
    assert _loss() == pytest.approx(-1.0)


def test_entropy_terms_by_hand() -> None:
    """The summed bonus pays 0.1 * 6 a rollout, the mean one 0.1 * 6 / 4."""
    assert _loss(entropy_per_word=0.1) == pytest.approx(-1.0 - 2 * 0.6)
    assert _loss(entropy_coeff=0.1) == pytest.approx(-1.0 - 2 * 0.15)


def test_only_the_reference_averages_over_words() -> None:
    """With four words, the plain loss is a quarter of the summed one."""
    assert _loss(mean_over_words=True) == pytest.approx(-0.25)


def test_rollouts_that_do_not_count_add_nothing() -> None:
    """Neither their log-prob nor their entropy."""
    counts_BS = torch.tensor([[True, False]])
    assert _loss(counts_BS=counts_BS, entropy_per_word=0.1) == pytest.approx(1.0 - 0.6)
