"""What a teacher leaves of a text when it may only delete words, as labels for its words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError, TooManyFailures
from trainer.policy.words import Chunk, Segmenter
from trainer.tasks.alignment import Alignment, align
from trainer.types import Example, Outcome, TeacherItem, TeacherReply

DELETE_ONLY = """\
Shorten the text below by deleting words, so that what is left still tells all that matters.

- Delete only. The words that stay keep their form and their order.
- Add no word, no sign and no remark; change and abbreviate nothing.
- Delete as much as you can: what a reader would guess, small talk, what is said twice.

Answer with what is left of the text, and with nothing else.

Shorten:
{transcript}
"""
"""The instruction, after the idea of LLMLingua-2 (arXiv 2403.12968, section 3.1)."""
BATCH_SIZE = 256

Ask = Callable[[Sequence[TeacherItem]], Sequence[TeacherReply]]


@dataclass(frozen=True, slots=True)
class Extract:
    """A text, what the teacher left of it, and the labels that follow."""

    text: str
    left: str
    alignment: Alignment
    """Of the words of all chunks."""
    labelled: tuple[tuple[Chunk, NDArray[np.bool_]], ...]
    """The text's chunks, one unless the model cuts it once more, with the words (W,) to keep."""


def texts_to_shorten(examples: Sequence[Example], segmenter: Segmenter) -> list[str]:
    """The examples' contexts, cut into what the model reads at once; each text once, in order.

    Raises:
        DataError: there is not a word in them.
    """
    contexts = [context for example in examples for context in example.contexts]
    chunks = [text for texts in segmenter.chunk_texts(contexts) for text in texts if text.strip()]
    if not chunks:
        raise DataError("distillation", ["expected texts to shorten, and no record has a word"])
    return list(dict.fromkeys(chunks))


def ask_for_extracts(
    texts: Sequence[str],
    ask: Ask,
    *,
    max_failed_share: float,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[str | None]:
    """What the teacher leaves of each text; None where it refused, failed or left nothing.

    Args:
        texts: what to shorten.
        ask: the teacher, with the instruction; one reply an item, in order.
        max_failed_share: of the texts, how many may fail.
        on_progress: called after each batch with (asked, to ask).

    Raises:
        TooManyFailures: more did. What was answered is stored, so that asking again costs less.
    """
    replies: list[TeacherReply] = []
    for start in range(0, len(texts), BATCH_SIZE):
        replies += ask([TeacherItem(text) for text in texts[start : start + BATCH_SIZE]])
        on_progress(len(replies), len(texts))
    failed = [reply for reply in replies if reply.outcome is Outcome.FAILED]
    if len(failed) > max_failed_share * len(texts):
        raise TooManyFailures(
            f"{len(failed)} of {len(texts)} texts failed, more than teacher.max_failed_share "
            f"({max_failed_share}) allows; nothing was trained. The first reason: "
            f"{failed[0].error}. Mend the teacher and distil again: what it answered is stored"
        )
    return [reply.text if reply.text.strip() else None for reply in replies]


def label(text: str, left: str, segmenter: Segmenter) -> Extract:
    """The words of a text that its extract kept, found by aligning the two."""
    chunks = segmenter.segment([text]).chunks
    words = [word for chunk in chunks for word in chunk.words]
    sought = [word for chunk in segmenter.segment([left]).chunks for word in chunk.words]
    alignment = align(words, sought)
    bounds = [0, *accumulate(len(chunk.words) for chunk in chunks)]
    labels = [alignment.kept[start:end] for start, end in pairwise(bounds)]
    return Extract(text, left, alignment, tuple(zip(chunks, labels, strict=True)))
