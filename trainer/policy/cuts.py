"""Which words are kept: the stock package's percentile, the exact rate, or one threshold."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.policy.scoring import Probabilities
from trainer.policy.words import (
    Chunk,
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


def stock_cuts(
    segmenter: Segmenter, prompt: SegmentedPrompt, probs: Sequence[Probabilities], rate: float
) -> tuple[Cut, ...]:
    """The stock package's cut of each of a prompt's chunks."""
    drop_consecutive = segmenter.options.drop_consecutive
    return tuple(
        stock_cut(chunk, prob_W, rate, drop_consecutive=drop_consecutive)
        for chunk, prob_W in zip(prompt.chunks, probs, strict=True)
    )


def exact_cuts(
    segmenter: Segmenter, prompt: SegmentedPrompt, probs: Sequence[Probabilities], rate: float
) -> tuple[Cut, ...]:
    """The cut whose text comes nearest to `rate` in tokens; every chunk keeps the same share.

    The words are taken by rank up to the one that does not fit any more. Then either that one is
    kept too, or it is left out and later ones that fit are kept, whichever comes nearer.
    """
    chunks = prompt.chunks
    shares = [_share_when_last(chunk, prob_W) for chunk, prob_W in zip(chunks, probs, strict=True)]
    cuts = np.unique([0.0, *(share for share_W in shares for share in share_W)])

    def masks_at(cut: int) -> tuple[Mask, ...]:
        return without_repeats(tuple(share_W <= cuts[cut] for share_W in shares))

    def without_repeats(masks: tuple[Mask, ...]) -> tuple[Mask, ...]:
        if not segmenter.options.drop_consecutive:
            return masks
        return tuple(map(drop_repeated_forced, chunks, masks))

    def tokens_of(masks: tuple[Mask, ...]) -> int:
        return segmenter.count_tokens(segmenter.join_contexts(prompt, masks))

    target = rate * prompt.original_tokens
    above = bisect_left(range(len(cuts) - 1), target, key=lambda cut: tokens_of(masks_at(cut)))
    below = masks_at(max(above - 1, 0))
    filled = without_repeats(_filled(chunks, shares, below, round(target) - tokens_of(below)))
    candidates = (below, masks_at(above), filled)
    masks = min(candidates, key=lambda masks: abs(tokens_of(masks) - target))
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


def _filled(
    chunks: Sequence[Chunk],
    shares: Sequence[NDArray[np.float64]],
    masks: Sequence[Mask],
    room: int,
) -> tuple[Mask, ...]:
    """The masks with the next words by rank that fit into so many more tokens, over all chunks."""
    if room <= 0:
        return tuple(masks)
    keep_N = np.concatenate(masks)
    tokens_N = np.concatenate([chunk.word_tokens for chunk in chunks])
    fitting = np.flatnonzero(~keep_N & (tokens_N > 0) & (tokens_N <= room))
    for word in fitting[np.argsort(np.concatenate(shares)[fitting], kind="stable")]:
        if tokens_N[word] <= room:
            keep_N[word] = True
            room -= tokens_N[word]
    return tuple(np.split(keep_N, np.cumsum([len(mask) for mask in masks])[:-1]))


def threshold_cuts(
    segmenter: Segmenter, prompt: SegmentedPrompt, probs: Sequence[Probabilities], threshold: float
) -> tuple[Cut, ...]:
    """Keep the words above one probability, the same for every text, and what is forced."""
    return tuple(
        Cut(chunk.words, _kept_above(segmenter, chunk, prob_W, threshold), prob_W, threshold)
        for chunk, prob_W in zip(prompt.chunks, probs, strict=True)
    )


def _kept_above(
    segmenter: Segmenter, chunk: Chunk, prob_W: Probabilities, threshold: float
) -> Mask:
    keep: Mask = (prob_W > threshold) | chunk.word_forced
    return drop_repeated_forced(chunk, keep) if segmenter.options.drop_consecutive else keep
