"""The rate-held sampler: its budget, its derivative, its noise."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from trainer.policy.sampling import (
    IndependentWords,
    bernoulli_policy,
    hold_rate,
    rate_held_policy,
    uniform_noise,
)

EXPECTED_NOISE = [0.11277103424072266, 0.21083831787109375, 0.17690163850784302, 0.3939460515975952]


def _random_chunks(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Three chunks of up to nine words; the last two words of the second are padding."""
    generator = torch.Generator().manual_seed(seed)
    is_word_CW = torch.ones(3, 9, dtype=torch.bool)
    is_word_CW[1, 7:] = False
    forced_CW = torch.zeros(3, 9, dtype=torch.bool)
    forced_CW[2, 0] = True
    return {
        "prob_CW": torch.rand(3, 9, generator=generator, dtype=dtype) * is_word_CW,
        "is_word_CW": is_word_CW,
        "forced_CW": forced_CW,
        "word_tokens_CW": torch.randint(1, 5, (3, 9), generator=generator) * is_word_CW,
    }


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_expected_length_is_the_target_in_every_chunk(rate: float) -> None:
    """Forced words count against the budget, padding does not."""
    chunks = _random_chunks(0)
    policy = rate_held_policy(**chunks, rate_C=torch.full((3,), rate))
    weight_CW = chunks["word_tokens_CW"].float()
    kept_CW = torch.sigmoid(policy.logits_CW) * policy.free_CW + policy.forced_CW.float()
    expected_C = (kept_CW * weight_CW).sum(-1)
    torch.testing.assert_close(expected_C, rate * weight_CW.sum(-1), rtol=1e-4, atol=1e-4)


def test_gradient_through_the_bias_matches_finite_differences() -> None:
    """A mask's log-prob, as a function of z, has the derivative that includes the bias."""
    generator = torch.Generator().manual_seed(1)
    z_CW = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    weight_CW = torch.randint(1, 5, (2, 7), generator=generator).double()
    budget_C = 0.3 * weight_CW.sum(-1)
    mask_CW = torch.rand(2, 7, generator=generator) < 0.3

    def log_likelihood(z_CW: torch.Tensor) -> torch.Tensor:
        everywhere = torch.ones_like(mask_CW)
        policy = IndependentWords(everywhere, ~everywhere, hold_rate(z_CW, weight_CW, budget_C))
        return policy.word_log_probs(mask_CW[None]).sum(-1).sum()

    z_CW.requires_grad_(True)
    (gradient_CW,) = torch.autograd.grad(log_likelihood(z_CW), z_CW)
    step = 1e-5
    for index in np.ndindex(2, 7):
        shift_CW = torch.zeros_like(z_CW)
        shift_CW[index] = step
        with torch.no_grad():
            slope = (log_likelihood(z_CW + shift_CW) - log_likelihood(z_CW - shift_CW)) / (2 * step)
        assert gradient_CW[index].item() == pytest.approx(slope.item(), abs=1e-6)


def test_shifting_all_logits_changes_nothing() -> None:
    """The bias takes up a common shift, so no gradient may flow into it."""
    z_CW = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)
    held_CW = hold_rate(z_CW, torch.ones(1, 6, dtype=torch.float64), torch.tensor([2.0]).double())
    (gradient_CW,) = torch.autograd.grad(held_CW.square().sum(), z_CW)
    assert gradient_CW.sum().item() == pytest.approx(0.0, abs=1e-9)


def test_a_chunk_full_of_forced_words_has_no_action() -> None:
    """Where forced words fill the budget, only they are kept, and nothing is learnt."""
    policy = rate_held_policy(
        torch.full((1, 4), 0.9),
        torch.ones(1, 4, dtype=torch.bool),
        torch.tensor([[True, True, False, False]]),
        torch.ones(1, 4, dtype=torch.long),
        torch.tensor([0.5]),
    )
    masks_SCW = policy.draw(torch.zeros(3, 1, 4))
    assert masks_SCW.tolist() == [[[True, True, False, False]]] * 3
    assert policy.word_log_probs(masks_SCW).sum(-1).abs().sum() == 0


def test_log_prob_and_entropy_by_hand() -> None:
    """Two free words with p 0.25 and 0.5, a forced one and padding, which do not count."""
    prob_CW = torch.tensor([[0.25, 0.5, 0.9, 0.0]])
    is_word_CW = torch.tensor([[True, True, True, False]])
    forced_CW = torch.tensor([[False, False, True, False]])
    policy = bernoulli_policy(prob_CW, is_word_CW, forced_CW)
    mask_SCW = torch.tensor([[[True, False, True, False]]])
    assert policy.word_log_probs(mask_SCW).sum(-1).item() == pytest.approx(
        math.log(0.25 * 0.5), rel=1e-5
    )
    by_hand = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) + math.log(2)
    assert policy.entropy().item() == pytest.approx(by_hand, rel=1e-5)


def test_noise_depends_on_its_address_alone() -> None:
    """Another seed, epoch, example or sample is another stream; a longer text extends its own."""
    first = uniform_noise(42, 1, "7", 0, 20)
    assert np.array_equal(uniform_noise(42, 1, "7", 0, 30)[:20], first)
    others = [(43, 1, "7", 0), (42, 2, "7", 0), (42, 1, "8", 0), (42, 1, "7", 1)]
    for address in others:
        assert not np.array_equal(uniform_noise(*address, 20), first)


def test_noise_is_the_published_sequence() -> None:
    """Recorded once: another numpy or another machine must draw the same masks."""
    drawn = uniform_noise(42, 1, "0", 0, 4)
    assert drawn.dtype == np.float32
    assert drawn.tolist() == pytest.approx(EXPECTED_NOISE, abs=0)


def test_samples_keep_words_as_often_as_the_policy_says() -> None:
    """Over 20,000 draws, each word's share lies within four standard errors of its p."""
    policy = bernoulli_policy(
        torch.tensor([[0.1, 0.5, 0.9]]),
        torch.ones(1, 3, dtype=torch.bool),
        torch.zeros(1, 3, dtype=torch.bool),
    )
    noise = torch.from_numpy(uniform_noise(0, 0, "x", 0, 60_000)).view(20_000, 1, 3)
    share_W = policy.draw(noise).float().mean(0)[0]
    error_W = 4 * (torch.tensor([0.09, 0.25, 0.09]) / 20_000).sqrt()
    assert ((share_W - torch.tensor([0.1, 0.5, 0.9])).abs() < error_W).all()


def test_words_that_are_no_actions_have_no_log_prob() -> None:
    """Forced words and padding have 0, every free word less."""
    chunks = _random_chunks(3)
    policy = rate_held_policy(**chunks, rate_C=torch.full((3,), 0.4))
    masks_SCW = policy.draw(torch.rand(4, 3, 9, generator=torch.Generator().manual_seed(3)))
    words_SCW = policy.word_log_probs(masks_SCW)
    assert (words_SCW[:, ~policy.free_CW] == 0).all()
    assert (words_SCW[:, policy.free_CW] < 0).all()


def test_kl_is_the_expectation_over_all_masks() -> None:
    """Of log p - log q, summed over the eight masks of three words; 0 from a policy to itself."""
    policy, other = (
        bernoulli_policy(
            torch.tensor([probs]),
            torch.tensor([[True, True, True, True]]),
            torch.tensor([[False, False, False, True]]),
        )
        for probs in ([0.2, 0.5, 0.9, 0.3], [0.4, 0.6, 0.7, 0.8])
    )
    bits = torch.tensor(list(product([False, True], repeat=3)))
    masks_SCW = torch.cat([bits, torch.ones(8, 1, dtype=torch.bool)], dim=1)[:, None, :]
    log_p_S, log_q_S = (
        policy.word_log_probs(masks_SCW).sum(-1)[:, 0],
        other.word_log_probs(masks_SCW).sum(-1)[:, 0],
    )
    by_hand = (log_p_S.exp() * (log_p_S - log_q_S)).sum().item()
    assert policy.kl(other).item() == pytest.approx(by_hand, rel=1e-5)
    assert policy.kl(policy).item() == 0.0
