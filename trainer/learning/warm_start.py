"""Supervised training of a compressor on keep labels: the LLMLingua-2 way of making a base."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.policy.compressor import PromptCompressorReinforce, piece_keep_probs
from trainer.policy.words import Chunk

LABEL_SMOOTHING = 0.2
"""Without it the policy saturates, and REINFORCE has nothing left to explore."""


def warm_start(
    compressor: PromptCompressorReinforce,
    batches: Sequence[Sequence[tuple[Chunk, np.ndarray]]],
    *,
    lr: float,
    report: Callable[[str], None] = print,
) -> None:
    """Teach a compressor to keep the labelled words; one AdamW step a batch, in place.

    Args:
        compressor: trained where it is.
        batches: chunks, each with its keep labels, bool (W,).
        lr: peak learning rate; it falls linearly to 0.
        report: told of the loss now and then.
    """
    optimizer = torch.optim.AdamW(compressor.model.parameters(), lr=lr, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(batches))
    compressor.model.train()
    for step, batch in enumerate(batches, start=1):
        loss = _loss(compressor, [chunk for chunk, _ in batch], [labels for _, labels in batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(compressor.model.parameters(), 1.0)
        optimizer.step()
        decay.step()
        if step % 20 == 0 or step == len(batches):
            report(f"warm start {step}/{len(batches)}  loss {loss.item():.3f}")


def _loss(
    compressor: PromptCompressorReinforce, chunks: Sequence[Chunk], labels: Sequence[np.ndarray]
) -> Tensor:
    """Cross-entropy over the pieces that belong to a word; a piece has its word's label."""
    tokenizer, device = compressor.tokenizer, compressor.device
    prob_CT, word_CT = piece_keep_probs(compressor.model, chunks, tokenizer.pad_token_id, device)
    target_CT = torch.zeros_like(prob_CT)
    for row, (chunk, label_W) in enumerate(zip(chunks, labels, strict=True)):
        of_piece = chunk.word_of_piece
        target_CT[row, : len(of_piece)] = torch.from_numpy((of_piece >= 0) & label_W[of_piece])
    target_CT = target_CT * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 2
    in_word_CT = word_CT >= 0
    return F.binary_cross_entropy(prob_CT[in_word_CT], target_CT[in_word_CT])
