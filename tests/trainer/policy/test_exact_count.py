"""The exact-count sampler, against all masks of small texts, one by one."""

from itertools import product

import numpy as np
import pytest
import torch

from trainer.policy.exact_count import exact_count_policy

WORDS = 6
TOKENS = torch.tensor([[1, 2, 1, 3, 1, 0], [2, 2, 4, 2, 2, 2]])
IS_WORD = torch.tensor([[True] * 5 + [False], [True] * 6])
FORCED = torch.tensor([[False, False, True, False, False, False], [False] * 6])
RATE = torch.tensor([0.5, 0.5])
# Half of 8 tokens less the forced one; half of 14, where only even lengths exist.
BUDGETS = [3, 6]


def _policy(seed=0, dtype=torch.float64):
    """Two chunks; the last word of the first is padding, its third is forced."""
    prob_CW = torch.rand(2, WORDS, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    prob_CW.requires_grad_(True)
    return prob_CW, exact_count_policy(prob_CW, IS_WORD, FORCED, TOKENS, RATE)


def _masks(chunk):
    """Every mask of a chunk that spends its budget."""
    free_W = IS_WORD[chunk] & ~FORCED[chunk]
    for bits in product([False, True], repeat=WORDS):
        mask_W = torch.tensor(bits)
        if not (mask_W & ~free_W).any() and (mask_W * TOKENS[chunk]).sum() == BUDGETS[chunk]:
            yield mask_W | FORCED[chunk]


def _by_hand(prob_W, chunk):
    """Every such mask with its probability: the product of its odds over all their sum."""
    masks = list(_masks(chunk))
    free_W = IS_WORD[chunk] & ~FORCED[chunk]
    odds_W = prob_W / (1 - prob_W)
    weights = torch.stack([odds_W[mask_W & free_W].prod() for mask_W in masks])
    return masks, weights / weights.sum()


def _log_probs(policy, chunk, masks):
    keep_mask_SCW = FORCED.repeat(len(masks), 1, 1)
    keep_mask_SCW[:, chunk] = torch.stack(masks)
    return policy.word_log_probs(keep_mask_SCW).sum(-1)[:, chunk]


@pytest.mark.parametrize("chunk", [0, 1])
def test_log_probs_are_those_of_enumeration(chunk):
    """Of every mask that spends the budget, or the nearest that can be spent; they add up to 1."""
    prob_CW, policy = _policy()
    assert policy.budget_C.tolist() == BUDGETS
    masks, expected_M = _by_hand(prob_CW[chunk], chunk)
    assert len(masks) >= 3
    torch.testing.assert_close(_log_probs(policy, chunk, masks).exp(), expected_M)


@pytest.mark.parametrize("chunk", [0, 1])
def test_entropy_and_kl_are_those_of_enumeration(chunk):
    """Sums over all masks; from a policy to itself 0."""
    (prob_CW, policy), (other_prob_CW, other) = _policy(0), _policy(1)
    _, p_M = _by_hand(prob_CW[chunk], chunk)
    _, q_M = _by_hand(other_prob_CW[chunk], chunk)
    entropy, kl = -(p_M * p_M.log()).sum(), (p_M * (p_M / q_M).log()).sum()
    torch.testing.assert_close(policy.entropy()[chunk], entropy)
    torch.testing.assert_close(policy.kl(other)[chunk], kl)
    assert policy.kl(policy)[chunk].item() == pytest.approx(0.0, abs=1e-12)


def test_gradients_match_finite_differences():
    """Of a mask's log-prob and of the entropy."""
    prob_CW, _ = _policy()
    mask = next(_masks(1))

    def value(prob_CW):
        policy = exact_count_policy(prob_CW, IS_WORD, FORCED, TOKENS, RATE)
        return _log_probs(policy, 1, [mask]).sum() + policy.entropy().sum()

    (gradient_CW,) = torch.autograd.grad(value(prob_CW), prob_CW)
    step = 1e-6
    for index in np.ndindex(2, WORDS):
        shift_CW = torch.zeros_like(prob_CW)
        shift_CW[index] = step
        with torch.no_grad():
            slope = (value(prob_CW + shift_CW) - value(prob_CW - shift_CW)) / (2 * step)
        assert gradient_CW[index].item() == pytest.approx(slope.item(), abs=1e-6)


def test_masks_are_drawn_as_often_as_they_are_likely():
    """Over 20,000 draws each share lies within four standard errors, and every mask fits."""
    prob_CW, policy = _policy()
    noise = torch.rand(20_000, 2, WORDS, generator=torch.Generator().manual_seed(2))
    drawn = policy.draw(noise)
    spent = (drawn * TOKENS * policy.free_CW).sum(-1)
    assert (spent == torch.tensor(BUDGETS)).all()
    for chunk in (0, 1):
        masks, expected_M = _by_hand(prob_CW[chunk].detach(), chunk)
        for mask_W, p in zip(masks, expected_M.tolist(), strict=True):
            share = (drawn[:, chunk] == mask_W).all(-1).float().mean().item()
            assert share == pytest.approx(p, abs=4 * (p * (1 - p) / 20_000) ** 0.5)


def test_forced_words_that_fill_the_budget_leave_no_action():
    """They are kept, and nothing is learnt; likewise a text without words."""
    prob_CW = torch.full((2, 3), 0.5, requires_grad=True)
    is_word = torch.tensor([[True, True, True], [False, False, False]])
    forced = torch.tensor([[True, True, False], [False, False, False]])
    tokens = torch.ones(2, 3, dtype=torch.int64)
    policy = exact_count_policy(prob_CW, is_word, forced, tokens, torch.full((2,), 0.5))
    masks_SCW = policy.draw(torch.zeros(2, 2, 3))
    assert masks_SCW.tolist() == [forced.tolist()] * 2
    total = policy.word_log_probs(masks_SCW).sum() + policy.entropy().sum()
    assert total.item() == 0.0
    assert total.requires_grad


def test_a_long_text_keeps_its_precision():
    """400 words in float32: the budget is met, and no gradient is lost."""
    generator = torch.Generator().manual_seed(0)
    prob_CW = torch.rand(1, 400, generator=generator).requires_grad_(True)
    tokens = torch.randint(1, 5, (1, 400), generator=generator)
    every = torch.ones(1, 400, dtype=torch.bool)
    policy = exact_count_policy(prob_CW, every, ~every, tokens, torch.tensor([0.3]))
    masks_SCW = policy.draw(torch.rand(4, 1, 400, generator=generator))
    assert ((masks_SCW * tokens).sum(-1) == round(0.3 * int(tokens.sum()))).all()
    policy.word_log_probs(masks_SCW).sum().backward()
    assert prob_CW.grad.isfinite().all()
    assert (prob_CW.grad != 0).all()
