r"""The policy as a distribution over keep masks: z = logit(p_word), held at the target rate.

Words are the unit of action, as deployed. For each chunk the rate-held sampler solves for the bias

    sum_free w * sigmoid(z + b) = c * sum_all w - sum_forced w

(b: the bias, w: a word's tokens, c: the target rate) and keeps every free word independently with
probability sigmoid(z + b), so that no teacher call is spent on a text out of tolerance. b depends
on z, and its derivative belongs in the gradient: left constant, the common shift of the logits
soaks it up.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PROBABILITY_FLOOR = 1e-5
BISECTION_LIMIT = 40.0
BISECTION_STEPS = 40


@dataclass(frozen=True, slots=True)
class MaskPolicy(ABC):
    """A distribution over the keep masks of a batch's chunks, with gradient."""

    free_CW: Tensor
    """Where there is an action: real words that are not forced, in chunks with room for them."""
    forced_CW: Tensor
    """Words that are kept whatever the policy says."""

    @abstractmethod
    def detach(self) -> Self:
        """The same distribution, without a gradient."""

    @abstractmethod
    def draw(self, noise_SCW: Tensor) -> Tensor:
        """Keep masks, bool (S, C, W), forced words included; uniform noise decides."""

    @abstractmethod
    def word_log_probs(self, keep_mask_SCW: Tensor) -> Tensor:
        """Log-probability of every word's action, 0 where there is none: float32 (S, C, W).

        A mask's log-probability is their sum.
        """

    @abstractmethod
    def entropy(self) -> Tensor:
        """Entropy in nats, of each chunk's masks: float32 (C,)."""

    @abstractmethod
    def kl(self, other: Self) -> Tensor:
        """KL(self || other) in nats, of each chunk's masks: float32 (C,)."""


@dataclass(frozen=True, slots=True)
class IndependentWords(MaskPolicy):
    """Independent Bernoulli distributions over the words of a batch's chunks."""

    logits_CW: Tensor
    """Log-odds of keeping a word; float32, with gradient."""

    def detach(self) -> Self:
        """The same distributions, without a gradient."""
        return replace(self, logits_CW=self.logits_CW.detach())

    def draw(self, noise_SCW: Tensor) -> Tensor:
        """Keep masks, bool (S, C, W): forced words always, free ones where the noise is below p."""
        prob_CW = torch.sigmoid(self.logits_CW.detach())
        return self.forced_CW | (self.free_CW & (noise_SCW < prob_CW))

    def word_log_probs(self, keep_mask_SCW: Tensor) -> Tensor:
        """Log-probability of every word's action, 0 where there is none: float32 (S, C, W)."""
        sign_SCW = torch.where(keep_mask_SCW, 1.0, -1.0)
        return F.logsigmoid(sign_SCW * self.logits_CW) * self.free_CW

    def entropy(self) -> Tensor:
        """Entropy in nats, summed over each chunk's free words: float32 (C,)."""
        z_CW = self.logits_CW
        p_CW = torch.sigmoid(z_CW)
        return ((F.softplus(z_CW) - p_CW * z_CW) * self.free_CW).sum(-1)

    def kl(self, other: Self) -> Tensor:
        """KL(self || other) in nats, summed over each chunk's free words: float32 (C,).

        In closed form, p (log p - log q) + (1 - p) (log (1 - p) - log (1 - q)), each policy after
        its own bias: it compares what is drawn, not the classifier's raw probabilities.
        """
        z_CW, other_z_CW = self.logits_CW, other.logits_CW
        p_CW = torch.sigmoid(z_CW)
        kept_CW = p_CW * (F.logsigmoid(z_CW) - F.logsigmoid(other_z_CW))
        dropped_CW = (1 - p_CW) * (F.logsigmoid(-z_CW) - F.logsigmoid(-other_z_CW))
        return ((kept_CW + dropped_CW) * self.free_CW).sum(-1)


def word_logits(prob_CW: Tensor) -> Tensor:
    """The log-odds of keep probabilities, which are kept off 0 and 1 by `PROBABILITY_FLOOR`."""
    return torch.logit(prob_CW.clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR))


def bernoulli_policy(prob_CW: Tensor, is_word_CW: Tensor, forced_CW: Tensor) -> IndependentWords:
    """Every word by its own probability; the rate has no influence (the reference's sampler)."""
    return IndependentWords(is_word_CW & ~forced_CW, forced_CW, word_logits(prob_CW))


def rate_held_policy(
    prob_CW: Tensor,
    is_word_CW: Tensor,
    forced_CW: Tensor,
    word_tokens_CW: Tensor,
    rate_C: Tensor,
) -> IndependentWords:
    """The policy whose expected length is the target, chunk by chunk.

    A chunk whose forced words fill its budget alone keeps only those and has no action.

    Args:
        prob_CW: keep probabilities, with gradient; anything where there is no word.
        is_word_CW: False where a row is padded.
        forced_CW: words that are always kept.
        word_tokens_CW: a word's length in tokens of the length tokenizer.
        rate_C: target compressed / original tokens of each chunk.
    """
    weight_CW = word_tokens_CW.to(prob_CW.dtype) * is_word_CW
    budget_C = rate_C * weight_CW.sum(-1) - (weight_CW * forced_CW).sum(-1)
    free_CW = is_word_CW & ~forced_CW & (budget_C > 0)[:, None]
    z_CW = word_logits(prob_CW)
    return IndependentWords(free_CW, forced_CW, hold_rate(z_CW, weight_CW * free_CW, budget_C))


def hold_rate(z_CW: Tensor, weight_CW: Tensor, budget_C: Tensor) -> Tensor:
    """Shift each row so that sum w * sigmoid(z + b) meets its budget; b's derivative included.

    With v = w p (1 - p), implicit differentiation of the budget gives db/dz_i = -v_i / sum(v):
    subtracting m = sum(v z) / sum(v), v held constant, has that derivative, and adding m's value
    back leaves b itself. A row of zero weights is left unshifted.
    """
    with torch.no_grad():
        bias_C = _bisect_bias(z_CW, weight_CW, budget_C)
        p_CW = torch.sigmoid(z_CW + bias_C[:, None])
        v_CW = weight_CW * p_CW * (1 - p_CW)
        v_CW = v_CW / v_CW.sum(-1, keepdim=True).clamp_min(torch.finfo(z_CW.dtype).tiny)
    mean_C = (v_CW * z_CW).sum(-1)
    return z_CW + (bias_C - mean_C + mean_C.detach())[:, None]


def _bisect_bias(z_CW: Tensor, weight_CW: Tensor, budget_C: Tensor) -> Tensor:
    low_C = torch.full_like(budget_C, -BISECTION_LIMIT)
    high_C = torch.full_like(budget_C, BISECTION_LIMIT)
    for _ in range(BISECTION_STEPS):
        middle_C = (low_C + high_C) / 2
        length_C = (weight_CW * torch.sigmoid(z_CW + middle_C[:, None])).sum(-1)
        too_long_C = length_C > budget_C
        high_C = torch.where(too_long_C, middle_C, high_C)
        low_C = torch.where(too_long_C, low_C, middle_C)
    bias_C = (low_C + high_C) / 2
    return torch.where(weight_CW.sum(-1) > 0, bias_C, torch.zeros_like(bias_C))


def uniform_noise(
    seed: int, epoch: int, example_id: str, sample_index: int, count: int
) -> np.ndarray:
    """Numbers in [0, 1), float32 (count,): a function of the arguments alone.

    Counter-based, so that masks depend neither on the batch's composition nor on a resume.
    """
    address = f"{seed}/{epoch}/{sample_index}/{example_id}".encode()
    key = np.frombuffer(hashlib.sha256(address).digest()[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key)).random(count, dtype=np.float32)
