"""The deployment rule: which words the stock package keeps, and the text it makes of them.

Word for word the text of `PromptCompressor.compress_prompt_llmlingua2` (llmlingua 0.2.2), several
times faster on short texts: one pass of the tokenizer over all prompts, forward passes padded to
the longest chunk only, and per-word work left to numpy.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import ContextFilter, Target, filter_contexts
from trainer.policy.scoring import Probabilities, keep_probabilities
from trainer.policy.words import (
    CONTEXT_SEPARATOR,
    Chunk,
    CompressionOptions,
    Mask,
    SegmentedPrompt,
    Segmenter,
    drop_adjacent,
    drop_repeated_forced,
    repeats_forced,
)


@dataclass(frozen=True, slots=True)
class Cut:
    """How one chunk was cut. W words."""

    words: tuple[str, ...]
    """As `Chunk.words`."""
    keep: Mask
    """(W,): the words kept."""
    probabilities: Probabilities | None = None
    """(W,): the keep probabilities, 1 for forced pieces; None where the policy was not asked."""
    threshold: float | None = None
    """Words above it are kept, before `drop_consecutive`; None where another rule cut."""


@dataclass(frozen=True, slots=True)
class Compression:
    """A compressed prompt."""

    text: str
    cuts: tuple[Cut, ...]
    """One per chunk of the contexts that the context filter left."""
    original_tokens: int
    """Length of all contexts, without what separates them."""
    compressed_tokens: int
    """Length of what is left of them, counted in the same way."""

    @property
    def keep(self) -> tuple[Mask, ...]:
        """The words kept, (W,) per chunk."""
        return tuple(cut.keep for cut in self.cuts)

    @property
    def rate(self) -> float:
        """Compressed tokens over original tokens; 1 for an empty prompt."""
        return self.compressed_tokens / self.original_tokens if self.original_tokens else 1.0


def compress(
    compressor: PromptCompressorReinforce,
    contexts: Sequence[str],
    options: CompressionOptions,
    *,
    rate: float = 0.5,
    target_token: int = -1,
    use_token_level_filter: bool = True,
    context_filter: ContextFilter | None = None,
    exact: bool = False,
) -> Compression:
    """Compresses one prompt as the stock package would.

    Args:
        compressor: Whose policy decides.
        contexts: The texts that make up the prompt.
        options: What is kept by rule.
        rate: The share of tokens to keep; 1 or more keeps all words, detokenised.
        target_token: How many tokens to keep; overrides the rate where it is above 0.
        use_token_level_filter: False keeps all words of the contexts that are left.
        context_filter: Drops whole contexts first; None, or a single context, drops none.
        exact: Cut where the final text comes nearest to the rate, not by the stock package's
            percentile, which misses it by 2 to 3 points.
    """
    target = Target(rate, target_token, use_token_level_filter)
    return compress_many(
        compressor, [contexts], options, target, context_filter=context_filter, exact=exact
    )[0]


def compress_many(
    compressor: PromptCompressorReinforce,
    prompts: Sequence[Sequence[str]],
    options: CompressionOptions,
    target: Target,
    *,
    context_filter: ContextFilter | None = None,
    exact: bool = False,
) -> list[Compression]:
    """Compresses prompts, in their order; see `compress`. Chunks of like length share a batch."""
    segmenter = compressor.segmenter(options)
    if context_filter is None:
        segmented = segmenter.segment_many(prompts)
        rates = [target.rate_for(prompt.original_tokens) for prompt in segmented]
    else:
        filtered = [
            filter_contexts(compressor, segmenter, contexts, context_filter, target)
            for contexts in prompts
        ]
        prompts = [contexts for contexts, _, _ in filtered]
        segmented = [prompt for _, prompt, _ in filtered]
        rates = [rate for _, _, rate in filtered]
    cuts_of_prompt = _cut_many(compressor, segmenter, segmented, rates, exact=exact)
    return [
        _finish(segmenter, contexts, prompt, cuts, whole=rate >= 1)
        for contexts, prompt, cuts, rate in zip(
            prompts, segmented, cuts_of_prompt, rates, strict=True
        )
    ]


def compress_at(
    compressor: PromptCompressorReinforce,
    prompts: Sequence[Sequence[str]],
    options: CompressionOptions,
    rates: Sequence[float],
    *,
    exact: bool = False,
) -> list[list[Compression]]:
    """Compresses prompts at several rates below 1, for little more than the price of one.

    Args:
        compressor: Whose policy decides; it is asked once.
        prompts: The contexts of each.
        options: What is kept by rule.
        rates: The shares of tokens to keep.
        exact: See `compress`.

    Returns:
        For each rate the prompts' compressions, as `compress_many` gives them.
    """
    segmenter = compressor.segmenter(options)
    segmented = segmenter.segment_many(prompts)
    probs_of_prompt = _probabilities(compressor, segmented)
    rule = _exact_cuts if exact else _stock_cuts
    return [
        [
            _finish(segmenter, contexts, prompt, rule(segmenter, prompt, probs, rate), whole=False)
            for contexts, prompt, probs in zip(prompts, segmented, probs_of_prompt, strict=True)
        ]
        for rate in rates
    ]


def deployment_masks(
    compressor: PromptCompressorReinforce,
    segmenter: Segmenter,
    prompts: Sequence[SegmentedPrompt],
    rates: Sequence[float],
    *,
    exact: bool = False,
) -> list[tuple[Mask, ...]]:
    """The words that deployment keeps.

    Args:
        compressor: Whose policy decides.
        segmenter: What cut the prompts; its options apply.
        prompts: Segmented prompts.
        rates: The target rate of each; at 1 and more the policy is not asked.
        exact: See `compress`.

    Returns:
        For each prompt one mask (W,) per chunk.
    """
    cuts_of_prompt = _cut_many(compressor, segmenter, prompts, rates, exact=exact)
    return [tuple(cut.keep for cut in cuts) for cuts in cuts_of_prompt]


def _cut_many(
    compressor: PromptCompressorReinforce,
    segmenter: Segmenter,
    prompts: Sequence[SegmentedPrompt],
    rates: Sequence[float],
    *,
    exact: bool,
) -> list[tuple[Cut, ...]]:
    """For each prompt one cut per chunk; the arguments of `deployment_masks`."""
    asked = [prompt for prompt, rate in zip(prompts, rates, strict=True) if rate < 1]
    probabilities = iter(_probabilities(compressor, asked))
    cuts = []
    for prompt, rate in zip(prompts, rates, strict=True):
        if rate >= 1:
            cuts.append(
                tuple(Cut(chunk.words, np.ones(len(chunk.words), bool)) for chunk in prompt.chunks)
            )
            continue
        rule = _exact_cuts if exact else _stock_cuts
        cuts.append(rule(segmenter, prompt, next(probabilities), rate))
    return cuts


def _probabilities(
    compressor: PromptCompressorReinforce, prompts: Sequence[SegmentedPrompt]
) -> list[list[Probabilities]]:
    """The keep probabilities (W,) of each prompt's chunks."""
    chunks = [chunk for prompt in prompts for chunk in prompt.chunks]
    scored = iter(keep_probabilities(compressor, chunks))
    return [[next(scored) for _ in prompt.chunks] for prompt in prompts]


def stock_cut(
    chunk: Chunk, prob_W: Probabilities, rate: float, *, drop_consecutive: bool = False
) -> Cut:
    """The stock package's cut of one chunk.

    Words strictly above a percentile are kept, each counted as often as it has tokens. The
    percentile, `int(100 * (1 - rate) + 1)`, is computed as there: 10 at rate 0.9, 31 at 0.7.

    Args:
        chunk: W words.
        prob_W: Their keep probabilities.
        rate: Below 1.
        drop_consecutive: Whether a force token is dropped where it would follow itself.
    """
    reduce_rate = max(0, 1 - rate)
    probabilities = prob_W
    overridden = chunk.word_forced
    if drop_consecutive:
        threshold = _percentile(prob_W, overridden, int(100 * reduce_rate))
        repeated = repeats_forced(chunk, prob_W > threshold)
        prob_W = np.where(repeated, np.float32(0), prob_W)
        overridden = overridden | repeated
    tokens = chunk.word_tokens
    threshold = _percentile(
        np.repeat(prob_W, tokens), np.repeat(overridden, tokens), int(100 * reduce_rate + 1)
    )
    keep = (prob_W >= 1) if threshold == 1 else (prob_W > threshold)
    if drop_consecutive:
        keep = drop_adjacent(chunk, keep)
    return Cut(chunk.words, keep, probabilities, float(threshold))


def _percentile(prob_N: Probabilities, overridden_N: Mask, percent: int) -> np.floating:
    """The percentile, in the precision that the stock package happens to compute it in.

    It keeps probabilities in a list: numpy scalars (float32), but Python floats where they were
    overridden, and a single one of those makes the array float64.
    """
    if not len(prob_N):
        return np.float64(1)  # No word has a token: only what is forced stays.
    precision = np.float64 if overridden_N.any() else np.float32
    # At rate 0 the stock package asks for the 101st and crashes.
    result: np.floating = np.percentile(prob_N.astype(precision), min(percent, 100))
    return result


def _stock_cuts(
    segmenter: Segmenter, prompt: SegmentedPrompt, probs: Sequence[Probabilities], rate: float
) -> tuple[Cut, ...]:
    drop_consecutive = segmenter.options.drop_consecutive
    return tuple(
        stock_cut(chunk, prob_W, rate, drop_consecutive=drop_consecutive)
        for chunk, prob_W in zip(prompt.chunks, probs, strict=True)
    )


def _exact_cuts(
    segmenter: Segmenter, prompt: SegmentedPrompt, probs: Sequence[Probabilities], rate: float
) -> tuple[Cut, ...]:
    """The cut whose text comes nearest to `rate` in tokens; every chunk keeps the same share."""
    chunks = prompt.chunks
    shares = [_share_when_last(chunk, prob_W) for chunk, prob_W in zip(chunks, probs, strict=True)]
    cuts = np.unique([0.0, *(share for share_W in shares for share in share_W)])

    def masks_at(cut: int) -> tuple[Mask, ...]:
        masks = tuple(share_W <= cuts[cut] for share_W in shares)
        if not segmenter.options.drop_consecutive:
            return masks
        return tuple(map(drop_repeated_forced, chunks, masks))

    def tokens_at(cut: int) -> int:
        return segmenter.count_tokens(segmenter.join_contexts(prompt, masks_at(cut)))

    target = rate * prompt.original_tokens
    above = bisect_left(range(len(cuts) - 1), target, key=tokens_at)
    candidates = range(max(above - 1, 0), above + 1)
    masks = masks_at(min(candidates, key=lambda cut: abs(tokens_at(cut) - target)))
    return tuple(
        Cut(chunk.words, keep, prob_W)
        for chunk, keep, prob_W in zip(chunks, masks, probs, strict=True)
    )


def _share_when_last(chunk: Chunk, prob_W: Probabilities) -> NDArray[np.float64]:
    """(W,): the share of the chunk's tokens kept if no later-ranked word is; forced words: 0."""
    order = np.argsort(-prob_W, kind="stable")
    kept = np.cumsum(chunk.word_tokens[order])
    share_W = np.empty(len(order))
    share_W[order] = kept / max(kept[-1], 1)
    share_W[chunk.word_forced] = 0.0
    return share_W


def _finish(
    segmenter: Segmenter,
    contexts: Sequence[str],
    prompt: SegmentedPrompt,
    cuts: tuple[Cut, ...],
    *,
    whole: bool,
) -> Compression:
    keep = [cut.keep for cut in cuts]
    texts = segmenter.whole_contexts(contexts) if whole else segmenter.join_contexts(prompt, keep)
    return Compression(
        text=CONTEXT_SEPARATOR.join(texts),
        cuts=cuts,
        original_tokens=prompt.original_tokens,
        compressed_tokens=segmenter.count_tokens(texts),
    )
