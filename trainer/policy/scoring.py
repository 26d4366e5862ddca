"""Keep probabilities outside training: no gradient, batches of chunks of like length."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.policy.compressor import PromptCompressorReinforce, piece_keep_probs, word_keep_probs
from trainer.policy.words import Chunk

Probabilities = NDArray[np.float32]

CPU_BATCH_PIECES = 2048
"""Pieces in one forward pass on a CPU, padding counted: larger ones outgrow its caches."""


def keep_probabilities(
    compressor: PromptCompressorReinforce, chunks: Sequence[Chunk]
) -> list[Probabilities]:
    """Keep probabilities (W,) of each chunk's words, forced pieces counted as 1."""

    def trim(chunk: Chunk, row: Probabilities) -> Probabilities:
        return row[: len(chunk.words)]

    return _score(compressor, chunks, word_keep_probs, trim)


def first_piece_probabilities(
    compressor: PromptCompressorReinforce, chunks: Sequence[Chunk]
) -> list[Probabilities]:
    """What the context-level filter of the stock package takes for word probabilities, (W,) each.

    Nothing is overridden, and, by an oversight there, the first piece stands for all of its word.
    """
    return _score(compressor, chunks, piece_keep_probs, _repeat_first_piece)


def batches_by_length(
    chunks: Sequence[Chunk], size: int, pieces: int | None = None
) -> Iterator[list[int]]:
    """Indices of chunks, shortest first, so that little is padded.

    Args:
        chunks: What to group.
        size: Chunks in one batch, at most.
        pieces: Pieces in one batch, padding counted, at most, unless a single chunk has more;
            None: any number.
    """
    batch: list[int] = []
    for at in sorted(range(len(chunks)), key=lambda at: len(chunks[at].piece_ids)):
        too_wide = pieces is not None and (len(batch) + 1) * len(chunks[at].piece_ids) > pieces
        if batch and (len(batch) == size or too_wide):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _score(
    compressor: PromptCompressorReinforce,
    chunks: Sequence[Chunk],
    forward: Callable[..., tuple[Tensor, Tensor]],
    finish: Callable[[Chunk, Probabilities], Probabilities],
) -> list[Probabilities]:
    result: dict[int, Probabilities] = {}
    pieces = CPU_BATCH_PIECES if torch.device(compressor.device).type == "cpu" else None
    for batch in batches_by_length(chunks, compressor.max_batch_size, pieces):
        with torch.inference_mode():
            prob, _ = forward(
                compressor.model,
                [chunks[at] for at in batch],
                compressor.tokenizer.pad_token_id,
                compressor.device,
            )
        for at, row in zip(batch, prob.cpu().numpy(), strict=True):
            result[at] = finish(chunks[at], row)
    return [result[at] for at in range(len(chunks))]


def _repeat_first_piece(chunk: Chunk, prob_T: Probabilities) -> Probabilities:
    """The mean over as many copies of the first piece's probability as the word has pieces.

    Added up one by one in float32, like there: the mean of copies need not equal them.
    """
    in_word = np.flatnonzero(chunk.word_of_piece >= 0)
    word_of_piece = chunk.word_of_piece[in_word]
    _, first = np.unique(word_of_piece, return_index=True)
    first_W = prob_T[in_word[first]]
    total_W = np.zeros(len(chunk.words), np.float32)
    np.add.at(total_W, word_of_piece, first_W[word_of_piece])
    pieces_W: Probabilities = np.bincount(word_of_piece).astype(np.float32)
    return total_W / pieces_W
