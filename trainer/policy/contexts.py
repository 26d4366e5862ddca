"""The stock package's context-level filter: whole contexts are dropped before any word is.

It is deterministic and no action of the policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.scoring import first_piece_probabilities
from trainer.policy.words import SegmentedPrompt, Segmenter


@dataclass(frozen=True, slots=True)
class ContextFilter:
    """How much of a prompt's contexts stays; the stock package's arguments and defaults."""

    target_context: int = -1
    """How many contexts; below 0: unset. Overrides `rate`."""
    rate: float = 1.0
    """The share of contexts."""
    target_token: int = -1
    """How many tokens; below 0: unset. Overrides the others."""
    force_ids: tuple[int, ...] = ()
    """Contexts that stay in any case, by index."""


@dataclass(frozen=True, slots=True)
class Target:
    """How long a compressed prompt should be."""

    rate: float = 0.5
    """The share of tokens to keep; 1 or more keeps every word."""
    target_token: int = -1
    """How many tokens to keep; below 1: unset. Overrides the rate."""
    use_token_level_filter: bool = True
    """False: words are kept, whatever the rate; only contexts are dropped."""

    def rate_for(self, tokens: int) -> float:
        """The rate at which a prompt of so many tokens reaches the target."""
        if not self.use_token_level_filter:
            return 1.0
        return _share(self.target_token, tokens) if self.target_token > 0 else self.rate


def filter_contexts(
    compressor: PromptCompressorReinforce,
    segmenter: Segmenter,
    contexts: Sequence[str],
    context_filter: ContextFilter,
    target: Target,
) -> tuple[list[str], SegmentedPrompt, float]:
    """Drops the contexts that the policy would keep least of.

    Args:
        compressor: Whose policy decides.
        segmenter: What cuts its prompts.
        contexts: The prompt; a single context is never dropped.
        context_filter: How much stays.
        target: Where the filter says nothing, it keeps a share in between this and everything.

    Returns:
        The contexts that stay, the prompt that they make (its `original_tokens` still those of the
        whole), and the rate at which it reaches the target.
    """
    prompt = segmenter.segment(contexts)
    if len(contexts) <= 1:
        return list(contexts), prompt, target.rate_for(prompt.original_tokens)
    rate = _context_rate(context_filter, target, len(contexts), prompt.original_tokens)
    prob_N = _context_probabilities(compressor, prompt)
    threshold = np.percentile(prob_N, int(100 * (1 - rate)))
    stays = [
        index
        for index, prob in enumerate(prob_N)
        if prob >= threshold or index in context_filter.force_ids
    ]
    kept = [contexts[index] for index in stays]
    reserved = replace(prompt, contexts=tuple(prompt.contexts[index] for index in stays))
    return kept, reserved, _word_rate(segmenter, kept, target)


def _context_rate(
    context_filter: ContextFilter, target: Target, contexts: int, tokens: int
) -> float:
    rate, target_token = context_filter.rate, context_filter.target_token
    if context_filter.target_context <= 0 and rate >= 1 and target_token <= 0:
        # Nothing asked for: half of the way from everything to the target.
        by_words = target.use_token_level_filter
        if target.target_token >= 0:
            target_token = target.target_token * (2 if by_words else 1)
        elif target.rate < 1:
            rate = (target.rate + 1.0) / 2 if by_words else target.rate
    if context_filter.target_context >= 0:
        rate = min(context_filter.target_context / contexts, 1.0)
    return _share(target_token, tokens) if target_token >= 0 else rate


def _word_rate(segmenter: Segmenter, contexts: Sequence[str], target: Target) -> float:
    """Counts what is left as the stock package does: chunk by chunk, after its round trip."""
    if target.target_token < 0 or not target.use_token_level_filter:
        return target.rate_for(0)
    texts = [text for texts in segmenter.chunk_texts(contexts) for text in texts]
    return _share(target.target_token, segmenter.count_tokens(texts))


def _context_probabilities(
    compressor: PromptCompressorReinforce, prompt: SegmentedPrompt
) -> NDArray[np.float32]:
    """The mean over each context's words, overriding nothing; 0 for a context without words."""
    of_chunk = iter(first_piece_probabilities(compressor, prompt.chunks))
    means = []
    for chunks in prompt.contexts:
        prob_W = np.concatenate([np.empty(0, np.float32), *(next(of_chunk) for _ in chunks)])
        # Summed one by one in float32, as Python's sum does: np.sum adds in another order.
        means.append(np.cumsum(prob_W)[-1] / np.float32(len(prob_W)) if len(prob_W) else 0)
    return np.array(means, np.float32)


def _share(target_token: int, tokens: int) -> float:
    return min(target_token / tokens, 1.0) if tokens else 1.0
