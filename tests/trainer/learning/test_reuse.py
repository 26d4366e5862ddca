"""How near recorded rollouts are to a policy, in figures worked out by hand."""

import math

import pytest
import torch

from trainer.learning.reuse import (
    covers,
    effective_share,
    geometric_weight,
    kl_per_word,
    kl_to_recorded,
    quota,
)
from trainer.policy.sampling import IndependentWords

# Two examples: one of two chunks, one of one; the last word of the second chunk is forced.
EXAMPLE_C = torch.tensor([0, 0, 1])
FREE = torch.tensor([[1, 1], [1, 0], [1, 1]], dtype=torch.bool)


def policy(*rows):
    """Words that are kept with these probabilities."""
    return IndependentWords(FREE, ~FREE, torch.logit(torch.tensor(rows)))


def test_the_kl_is_the_mean_over_an_examples_words():
    """Its chunks together; a word without an action counts neither above nor below the line."""
    drew = policy([0.5, 0.5], [0.5, 0.9], [0.2, 0.2])
    now = policy([0.5, 0.25], [0.25, 0.1], [0.2, 0.2])
    moved = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    kl_B = kl_per_word(drew, now, EXAMPLE_C, 2)
    torch.testing.assert_close(kl_B, torch.tensor([2 * moved / 3, 0.0]))


def test_the_kl_that_holds_a_run_to_its_recordings_is_the_policys_own():
    """That of `MaskPolicy.kl`, chunk by chunk; forced words cost nothing."""
    drew = policy([0.5, 0.5], [0.5, 0.9], [0.2, 0.2])
    now = policy([0.5, 0.25], [0.25, 0.1], [0.7, 0.2])
    torch.testing.assert_close(kl_to_recorded(drew.logits_CW, now), drew.kl(now))


def test_it_pulls_at_nothing_where_the_policy_is_the_one_that_drew():
    """Exactly: AdamW would make full steps of rounding errors."""
    torch.manual_seed(0)
    log_odds_CW = 3 * torch.randn(8, 64)
    free_CW = torch.ones(8, 64, dtype=torch.bool)
    logits_CW = log_odds_CW.clone().requires_grad_()
    kl_C = kl_to_recorded(log_odds_CW, IndependentWords(free_CW, ~free_CW, logits_CW))
    kl_C.sum().backward()
    assert not kl_C.any()
    assert not logits_CW.grad.any()


def test_a_weight_is_the_geometric_mean_of_a_rollouts_ratios():
    """Ratios of 2, 1/2 and 4 over three words: the cube root of 4."""
    zero = torch.zeros(1, 3, 2)
    log_prob_SCW = torch.log(torch.tensor([[[2.0, 0.5], [4.0, 1.0], [3.0, 3.0]]]))
    weight_SB = geometric_weight(log_prob_SCW, zero, FREE, EXAMPLE_C, 2)
    torch.testing.assert_close(weight_SB, torch.tensor([[4 ** (1 / 3), 3.0]]))


def test_the_effective_share_is_one_for_equal_weights():
    """And 1/S where a single rollout has all of the weight; 0.9 for weights of 2 and 1."""
    weight_SB = torch.tensor([[3.0, 1.0, 2.0], [3.0, 0.0, 1.0]])
    torch.testing.assert_close(effective_share(weight_SB), torch.tensor([1.0, 0.5, 0.9]))


def test_it_holds_for_long_texts_where_products_fail():
    """3,000 words whose log-odds drift by 0.1: the product leaves one rollout of hundreds."""
    torch.manual_seed(0)
    words, samples = 3000, 256
    before_CW = torch.randn(1, words)
    drew = IndependentWords(torch.ones(1, words, dtype=torch.bool), torch.tensor([]), before_CW)
    now = IndependentWords(drew.free_CW, torch.tensor([]), before_CW + 0.1 * torch.randn(1, words))
    mask_SCW = torch.rand(samples, 1, words) < torch.sigmoid(before_CW)
    log_probs = [each.word_log_probs(mask_SCW) for each in (now, drew)]
    weight_SB = geometric_weight(*log_probs, drew.free_CW, torch.tensor([0]), 1)
    assert effective_share(weight_SB).item() > 0.99
    product_SB = torch.softmax((log_probs[0] - log_probs[1]).sum((1, 2)), 0)[:, None]
    assert effective_share(product_SB).item() < 0.2


@pytest.mark.parametrize(
    ("kl", "share", "covered"), [(0.05, 0.9, True), (0.051, 1.0, False), (0.0, 0.89, False)]
)
def test_both_guards_must_hold(kl, share, covered):
    """A limit is within."""
    found = covers(torch.tensor([kl]), torch.tensor([share]), max_kl=0.05, min_effective_share=0.9)
    assert found.tolist() == [covered]


@pytest.mark.parametrize(("share", "of_batches"), [(0.0, 0), (1 / 9, 8), (1 / 3, 24), (1.0, 72)])
def test_a_share_of_the_examples_is_spread_over_the_run(share, of_batches):
    """Nine batches of eight: as evenly as whole numbers allow, and never more in all."""
    quotas = [quota(share, before, 8) for before in range(0, 72, 8)]
    assert sum(quotas) == of_batches
    assert max(quotas) - min(quotas) <= 1
