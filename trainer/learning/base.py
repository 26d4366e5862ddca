"""A base compressor made from nothing: fresh weights, taught by rule which words are rare."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from trainer.errors import DataError
from trainer.learning.warm_start import warm_start
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.fresh import make_fresh_compressor
from trainer.policy.words import Chunk, CompressionOptions
from trainer.tasks.rules import document_frequencies, rarest_first

STEPS = 60
TEXTS_PER_STEP = 16
LR = 1e-3


def make_base(
    folder: Path,
    texts: Sequence[str],
    *,
    rate: float,
    seed: int,
    report: Callable[[str], None] = print,
) -> Path:
    """Write a small compressor that keeps a text's rarest words, within `rate` of its tokens.

    The labels spend the same token budget that training and deployment will, because a base that
    was taught another rate is a weak one, and a weak base flatters whatever is trained from it.

    Args:
        folder: where the compressor goes.
        texts: for vocabulary, frequencies and labels.
        rate: labelled tokens / all tokens.
        seed: of the initial weights.
        report: told of the progress.

    Returns:
        The path to load it from.

    Raises:
        DataError: none of the texts has a word.
    """
    path = make_fresh_compressor(folder, texts, seed=seed)
    compressor = PromptCompressorReinforce(str(path), "cpu", length_tokenizer="policy")
    segmenter = compressor.segmenter(CompressionOptions())
    frequencies = document_frequencies(texts)

    def labelled(chunk: Chunk) -> tuple[Chunk, np.ndarray]:
        budget = int(rate * chunk.word_tokens.sum())
        return chunk, rarest_first(chunk.words, chunk.word_tokens, budget, frequencies)

    needed = STEPS * TEXTS_PER_STEP
    segmented = segmenter.segment_many([[text] for text in texts[:needed]])
    with_words = [prompt.chunks for prompt in segmented if prompt.chunks]
    if not with_words:
        raise DataError(str(folder), ["expected texts with words to learn from; none has any"])
    chunks = [with_words[index % len(with_words)] for index in range(needed)]
    batches = [
        [labelled(chunk) for part in chunks[start : start + TEXTS_PER_STEP] for chunk in part]
        for start in range(0, len(chunks), TEXTS_PER_STEP)
    ]
    warm_start(compressor, batches, lr=LR, report=report)
    return compressor.save(path)
