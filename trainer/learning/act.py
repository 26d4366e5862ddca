"""From examples to compressed texts: masks drawn from the policy in training, cut by the deployment
rule in validation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from trainer.learning.prepared import PreparedExample, chunk_counts, chunk_owners, chunks_of
from trainer.learning.recorded import KeepMask, RecordedGroup, put_recorded
from trainer.learning.sampled import SampledBatch
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.exact_count import exact_count_policy
from trainer.policy.inference import deployment_masks
from trainer.policy.positions import IndependentPositions, words_kept
from trainer.policy.sampling import (
    IndependentWords,
    MaskPolicy,
    bernoulli_policy,
    rate_held_policy,
)
from trainer.policy.transfer import padded, sent
from trainer.policy.words import CONTEXT_SEPARATOR, Chunk, Segmenter, drop_repeated_forced
from trainer.rollouts.collect import CompressedText

Noise = Callable[[str, int, int], np.ndarray]
"""(example id, sample index, count) -> uniform numbers, float32 (count,)."""


def mask_policy(
    prob_CW: Tensor, is_word_CW: Tensor, batch: Sequence[PreparedExample], sampler: str
) -> MaskPolicy:
    """The policy over a batch's chunks, from what `word_keep_probs` gives for them."""
    chunks, width, device = chunks_of(batch), prob_CW.shape[1], prob_CW.device
    forced_CW = _padded([chunk.word_forced for chunk in chunks], width, device)
    if sampler == "bernoulli":
        return bernoulli_policy(prob_CW, is_word_CW, forced_CW)
    held = exact_count_policy if sampler == "exact_count" else rate_held_policy
    rates = [prepared.target_rate for prepared in batch for _ in prepared.prompt.chunks]
    return held(
        prob_CW,
        is_word_CW,
        forced_CW,
        _padded([chunk.word_tokens for chunk in chunks], width, device),
        sent(torch.tensor(rates, dtype=prob_CW.dtype), device),
    )


def sample_batch(
    policy: MaskPolicy,
    batch: Sequence[PreparedExample],
    segmenter: Segmenter,
    noise: Noise,
    samples: int,
    recalled: Sequence[RecordedGroup | None],
    last: Sequence[KeepMask] | None = None,
) -> SampledBatch:
    """Masks from the same logits, `samples` per example, and the texts that they leave.

    Where an example has a recorded group, its masks are those. Where each example has a `last`
    mask, that is one more, which was not drawn.
    """
    width, device = policy.free_CW.shape[1], policy.free_CW.device
    sizes = [[len(chunk.words) for chunk in prepared.prompt.chunks] for prepared in batch]
    if isinstance(policy, IndependentPositions):
        sizes = [[width] * len(words) for words in sizes]
    noise_SCW = torch.from_numpy(_stack_noise(batch, noise, samples, sizes, width))
    keep_mask_SCW = policy.draw(sent(noise_SCW, device))
    if last is not None:
        last_CW = _padded([mask_W for mask in last for mask_W in mask], width, device)
        keep_mask_SCW = torch.cat([keep_mask_SCW, last_CW[None]])
    return _sampled_batch(policy, batch, segmenter, keep_mask_SCW, recalled)


def locked_batch(
    policy: MaskPolicy,
    batch: Sequence[PreparedExample],
    segmenter: Segmenter,
    masks: Sequence[Sequence[KeepMask]],
    recalled: Sequence[RecordedGroup | None],
) -> SampledBatch:
    """Like `sample_batch`, with given masks: S for each of the B examples."""
    width, device = policy.free_CW.shape[1], policy.free_CW.device
    keep_mask_SCW = torch.stack(
        [
            _padded([mask_W for mask in masks_of_sample for mask_W in mask], width, device)
            for masks_of_sample in zip(*masks, strict=True)
        ]
    )
    return _sampled_batch(policy, batch, segmenter, keep_mask_SCW, recalled)


def _sampled_batch(
    policy: MaskPolicy,
    batch: Sequence[PreparedExample],
    segmenter: Segmenter,
    keep_mask_SCW: Tensor,
    recalled: Sequence[RecordedGroup | None],
) -> SampledBatch:
    drew = policy.detach()
    if any(recalled):
        assert isinstance(drew, IndependentWords)  # The config refuses any other sampler.
        drew, keep_mask_SCW = put_recorded(drew, keep_mask_SCW, chunk_counts(batch), recalled)
    drawn_SCW = keep_mask_SCW.cpu().numpy()
    if isinstance(drew, IndependentPositions):
        texts = _sampled_texts(batch, segmenter, _words_kept(batch, drawn_SCW), None)
    else:
        texts = _sampled_texts(batch, segmenter, drawn_SCW, _log_odds(drew))
    return SampledBatch(
        texts=list(_with_replies(texts, recalled, len(keep_mask_SCW))),
        keep_mask_SCW=keep_mask_SCW,
        behaviour_SCW=drew.word_log_probs(keep_mask_SCW),
        log_odds_CW=(
            drew.logits_CW
            if isinstance(drew, IndependentWords)
            else torch.zeros_like(keep_mask_SCW[0], dtype=torch.float32)
        ),
        example_C=sent(torch.tensor(chunk_owners(batch)), keep_mask_SCW.device),
        examples=len(batch),
    )


def _words_kept(batch: Sequence[PreparedExample], keep_SCT: np.ndarray) -> np.ndarray:
    """What draws for positions keep of the words, (S, C, W)."""
    chunks = chunks_of(batch)
    keep_SCW = np.zeros((*keep_SCT.shape[:2], max(len(chunk.words) for chunk in chunks)), bool)
    for keep_CW, keep_CT in zip(keep_SCW, keep_SCT, strict=True):
        for keep_W, keep_T, chunk in zip(keep_CW, keep_CT, chunks, strict=True):
            keep_W[: len(chunk.words)] = words_kept(chunk, keep_T)
    return keep_SCW


def _log_odds(drew: MaskPolicy) -> np.ndarray | None:
    """Log-odds of each word, float32 (C, W); None where words are not drawn independently."""
    return drew.logits_CW.float().cpu().numpy() if isinstance(drew, IndependentWords) else None


def _with_replies(
    texts: Iterator[CompressedText], recalled: Sequence[RecordedGroup | None], samples: int
) -> Iterator[CompressedText]:
    """Say of recorded rollouts where they come from, and what the teacher said of them."""
    for group in recalled:
        of_example = list(islice(texts, samples))
        yield from group.answered(of_example) if group else of_example


def deploy_batch(
    batch: Sequence[PreparedExample],
    compressor: PromptCompressorReinforce,
    segmenter: Segmenter,
    *,
    exact: bool,
    threshold: float | None = None,
) -> list[CompressedText]:
    """One text per example, cut by the deployment rule."""
    masks = deployed_masks(batch, compressor, segmenter, exact=exact, threshold=threshold)
    return deployed_texts(batch, masks, segmenter)


def deployed_masks(
    batch: Sequence[PreparedExample],
    compressor: PromptCompressorReinforce,
    segmenter: Segmenter,
    *,
    exact: bool,
    threshold: float | None = None,
) -> list[KeepMask]:
    """What the deployment rule keeps of each example."""
    return deployment_masks(
        compressor,
        segmenter,
        [prepared.prompt for prepared in batch],
        [prepared.target_rate for prepared in batch],
        exact=exact,
        threshold=threshold,
    )


def deployed_texts(
    batch: Sequence[PreparedExample], masks: Sequence[KeepMask], segmenter: Segmenter
) -> list[CompressedText]:
    """What the deployment rule's masks leave of each example."""
    return [
        _compressed_text(prepared, 0, mask, mask, segmenter)
        for prepared, mask in zip(batch, masks, strict=True)
    ]


def _padded(rows: Sequence[np.ndarray], width: int, device: torch.device) -> Tensor:
    """Rows of different lengths as one (C, W) tensor, zeros at the end."""
    return sent(padded(rows, 0, width), device)


def _stack_noise(
    batch: Sequence[PreparedExample],
    noise: Noise,
    samples: int,
    sizes: Sequence[Sequence[int]],
    width: int,
) -> np.ndarray:
    """Noise (S, C, W): each rollout's numbers run through its example's words in order.

    Each example has the sizes of its chunks.
    """
    noise_SCW = np.ones((samples, sum(map(len, sizes)), width), dtype=np.float32)
    for sample in range(samples):
        row = 0
        for prepared, words in zip(batch, sizes, strict=True):
            numbers = noise(prepared.example.id, sample, sum(words))
            for part in np.split(numbers, np.cumsum(words)[:-1]):
                noise_SCW[sample, row, : len(part)] = part
                row += 1
    return noise_SCW


def _sampled_texts(
    batch: Sequence[PreparedExample],
    segmenter: Segmenter,
    keep_mask_SCW: np.ndarray,
    log_odds_CW: np.ndarray | None,
) -> Iterator[CompressedText]:
    row = 0
    for prepared in batch:
        chunks = prepared.prompt.chunks
        log_odds = _log_odds_of(chunks, log_odds_CW, row)
        for sample, mask_CW in enumerate(keep_mask_SCW[:, row : row + len(chunks)]):
            mask = tuple(
                mask_W[: len(chunk.words)] for mask_W, chunk in zip(mask_CW, chunks, strict=True)
            )
            kept = mask
            if segmenter.options.drop_consecutive:
                kept = tuple(map(drop_repeated_forced, chunks, mask))
            text = _compressed_text(prepared, sample, mask, kept, segmenter)
            yield replace(text, log_odds=log_odds)
        row += len(chunks)


def _log_odds_of(
    chunks: Sequence[Chunk], log_odds_CW: np.ndarray | None, row: int
) -> tuple[bytes, ...]:
    """Those of one example's words, whose first chunk is in this row."""
    if log_odds_CW is None:
        return ()
    return tuple(
        log_odds_CW[row + index, : len(chunk.words)].tobytes() for index, chunk in enumerate(chunks)
    )


def _compressed_text(
    prepared: PreparedExample,
    sample_index: int,
    mask: KeepMask,
    kept: KeepMask,
    segmenter: Segmenter,
) -> CompressedText:
    texts = segmenter.join_contexts(prepared.prompt, kept)
    return CompressedText(
        example=prepared.example,
        sample_index=sample_index,
        keep_mask=mask,
        text=CONTEXT_SEPARATOR.join(texts),
        original_tokens=prepared.prompt.original_tokens,
        compressed_tokens=segmenter.count_tokens(texts),
        target_rate=prepared.target_rate,
    )
