r"""Masks that spend their budget exactly: a conditional Bernoulli over the words of each chunk.

Independent words with log-odds z, given that the tokens t of those that are kept come to K:

    P(mask) = prod_kept exp(z) / R_0(K),   R_w(k) = R_{w+1}(k) + exp(z_w) R_{w+1}(k - t_w)

where R_w(k) sums over all ways to spend k tokens on the words from w on (Chen and Liu, 1997). Word
by word, in the text's order, that is a chain of Bernoullis with p = exp(z_w) R_{w+1}(k - t_w) /
R_w(k), k being what is left: so masks are drawn from the same noise as with independent words, and
every word has a log-probability of its own; together they are exact. A common shift of the logits
changes nothing.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from trainer.policy.sampling import MaskPolicy, word_logits

_IMPOSSIBLE = -1e9
"""Stands for log 0: finite, so that no gradient is NaN."""


@dataclass(frozen=True, slots=True)
class ExactCount(MaskPolicy):
    """Conditional Bernoulli distributions over the words of a batch's chunks."""

    tokens_CW: Tensor
    """Of free words; 0 for others."""
    budget_C: Tensor
    """Tokens of the free words that a mask keeps."""
    logits_CW: Tensor
    """z; float32, with gradient."""
    log_ways_XCK: Tensor
    """log R_w(k), X being 0 to W."""

    def detach(self) -> Self:
        """The same distributions, without a gradient."""
        return replace(
            self, logits_CW=self.logits_CW.detach(), log_ways_XCK=self.log_ways_XCK.detach()
        )

    def draw(self, noise_SCW: Tensor) -> Tensor:
        """Keep masks, bool (S, C, W): forced words always, free ones where the noise is below p."""
        left_SC = self.budget_C.expand(noise_SCW.shape[:2])
        masks = []
        with torch.no_grad():
            for word in range(noise_SCW.shape[-1]):
                keep_CK, _ = self._log_chances(word)
                log_p_SC = _at(keep_CK.expand(len(left_SC), -1, -1), left_SC)
                keep_SC = self.free_CW[:, word] & (noise_SCW[..., word] < log_p_SC.exp())
                left_SC = left_SC - keep_SC * self.tokens_CW[:, word]
                masks.append(keep_SC | self.forced_CW[:, word])
        return torch.stack(masks, dim=-1)

    def word_log_probs(self, keep_mask_SCW: Tensor) -> Tensor:
        """Log-probability of every word's action given those before it: float32 (S, C, W)."""
        kept_SCW = keep_mask_SCW & self.free_CW
        spent_SCW = (kept_SCW * self.tokens_CW).cumsum(-1)
        before_SCW = self.budget_C[:, None] - spent_SCW + kept_SCW * self.tokens_CW
        log_probs = []
        for word in range(keep_mask_SCW.shape[-1]):
            keep_CK, drop_CK = self._log_chances(word)
            left_SC = before_SCW[..., word]
            keep_SC = _at(keep_CK.expand(len(left_SC), -1, -1), left_SC)
            drop_SC = _at(drop_CK.expand(len(left_SC), -1, -1), left_SC)
            log_probs.append(torch.where(kept_SCW[..., word], keep_SC, drop_SC))
        return torch.stack(log_probs, dim=-1) * self.free_CW

    def entropy(self) -> Tensor:
        """Entropy in nats of each chunk's masks: float32 (C,)."""
        return self._expected(self)

    def kl(self, other: Self) -> Tensor:
        """KL(self || other) in nats of each chunk's masks: float32 (C,)."""
        return -self.entropy() + self._expected(other)

    def _expected(self, other: Self) -> Tensor:
        """Expected -log p under another policy, from the last word to the first: (C,)."""
        value_CK = torch.zeros_like(self.log_ways_XCK[0])
        for word in reversed(range(self.free_CW.shape[-1])):
            keep_CK, drop_CK = self._log_chances(word)
            other_keep_CK, other_drop_CK = other._log_chances(word)
            after_CK = _shifted(value_CK, self.tokens_CW[:, word], 0.0)
            step_CK = keep_CK.exp() * (after_CK - other_keep_CK)
            step_CK = step_CK + drop_CK.exp() * (value_CK - other_drop_CK)
            # What cannot happen has no say; a word without an action changes nothing.
            acts_CK = self.free_CW[:, word, None] & (self.log_ways_XCK[word] > _IMPOSSIBLE / 2)
            value_CK = torch.where(acts_CK, step_CK, value_CK)
        return _at(value_CK, self.budget_C)

    def _log_chances(self, word: int) -> tuple[Tensor, Tensor]:
        """Log p and log (1 - p) of keeping a word, by the tokens that are left: (C, K) each."""
        ways_CK, rest_CK = self.log_ways_XCK[word], self.log_ways_XCK[word + 1]
        kept_CK = _shifted(rest_CK, self.tokens_CW[:, word], _IMPOSSIBLE)
        return self.logits_CW[:, word, None] + kept_CK - ways_CK, rest_CK - ways_CK


def exact_count_policy(
    prob_CW: Tensor,
    is_word_CW: Tensor,
    forced_CW: Tensor,
    word_tokens_CW: Tensor,
    rate_C: Tensor,
) -> ExactCount:
    """The policy whose masks keep the target number of tokens, or the nearest below that exists.

    Arguments as for `sampling.rate_held_policy`.
    """
    tokens_CW = word_tokens_CW * is_word_CW
    wanted_C = rate_C * tokens_CW.sum(-1) - (tokens_CW * forced_CW).sum(-1)
    free_CW = is_word_CW & ~forced_CW & (wanted_C > 0)[:, None]
    tokens_CW = tokens_CW * free_CW
    wanted_C = torch.minimum(wanted_C.round().long().clamp_min(0), tokens_CW.sum(-1))
    z_CW = word_logits(prob_CW)
    log_ways_XCK = _log_ways(z_CW, tokens_CW, free_CW, int(wanted_C.max()))
    places_K = torch.arange(log_ways_XCK.shape[-1], device=z_CW.device)
    possible_CK = (log_ways_XCK[0] > _IMPOSSIBLE / 2) & (places_K <= wanted_C[:, None])
    budget_C = torch.where(possible_CK, places_K, 0).amax(-1)
    return ExactCount(free_CW, forced_CW, tokens_CW, budget_C, z_CW, log_ways_XCK)


def _log_ways(z_CW: Tensor, tokens_CW: Tensor, free_CW: Tensor, most: int) -> Tensor:
    """Log R_w(k) for w 0 to W and k 0 to `most`: (W + 1, C, K)."""
    chunks, words = z_CW.shape
    ways_CK = z_CW.new_full((chunks, most + 1), _IMPOSSIBLE)
    ways_CK[:, 0] = 0.0
    table = [ways_CK]
    for word in reversed(range(words)):
        kept_CK = z_CW[:, word, None] + _shifted(table[-1], tokens_CW[:, word], _IMPOSSIBLE)
        both_CK = torch.logaddexp(table[-1], kept_CK)
        table.append(torch.where(free_CW[:, word, None], both_CK, table[-1]))
    return torch.stack(table[::-1])


def _shifted(value_CK: Tensor, by_C: Tensor, fill: float) -> Tensor:
    """value(k - by), `fill` where that is negative."""
    places_CK = torch.arange(value_CK.shape[-1], device=value_CK.device) - by_C[:, None]
    shifted_CK = value_CK.gather(-1, places_CK.clamp_min(0))
    return torch.where(places_CK >= 0, shifted_CK, fill)


def _at(value_XK: Tensor, place_X: Tensor) -> Tensor:
    """value(k) at each row's k."""
    return value_XK.gather(-1, place_X[..., None])[..., 0]
