"""Stage 1: a base compressor taught by a teacher that shortens texts by deleting words.

    texts, cut into what the model reads at once  ->  the teacher's extracts  ->  labels
    ->  the badly aligned left out  ->  supervised training

after LLMLingua-2 (arXiv 2403.12968, section 3). The teacher is asked through its service, which
keeps every answer: a distillation that was stopped pays for nothing twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError
from trainer.learning.extracts import Extract, ask_for_extracts, label, texts_to_shorten
from trainer.learning.warm_start import warm_start
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.scoring import keep_probabilities
from trainer.policy.words import Chunk, CompressionOptions
from trainer.tasks.alignment import well_aligned
from trainer.types import Example, TeacherItem, TeacherReply

HELD_OUT = 20
"""One text in so many is not trained on, to see what was learnt."""

Labelled = tuple[Chunk, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the labels are trained on; the defaults are LLMLingua-2's."""

    epochs: int = 10
    batch_size: int = 10
    """Chunks a step."""
    lr: float = 1e-5
    """At the start; it falls linearly to 0."""
    seed: int = 0
    """Of the order of the chunks."""


@dataclass(frozen=True, slots=True)
class Distilled:
    """What came of it."""

    extracts: tuple[Extract, ...]
    """What was learnt from."""
    texts: int
    unanswered: int
    """Texts that the teacher refused, failed or emptied."""
    left_out: int
    """Extracts that were aligned too badly to learn from."""
    kept_share: float
    """Of the words of what was learnt from."""
    variation_rate: float
    """Before anything was left out, on average; see `Alignment`."""
    alignment_gap: float
    agreement_before: float | None
    """Of held-out texts; see `agreement`. None: there are none."""
    agreement_after: float | None


def distill(
    compressor: PromptCompressorReinforce,
    examples: Sequence[Example],
    ask: Callable[[Sequence[TeacherItem]], Sequence[TeacherReply]],
    schedule: Schedule,
    *,
    max_seq_len: int = 512,
    max_failed_share: float = 0.2,
    report: Callable[[str], None] = print,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Distilled:
    """Teach a compressor, in place, to keep the words that the teacher keeps.

    Args:
        compressor: trained where it is.
        examples: whose texts are shortened; their reference completions do not matter.
        ask: the teacher, with an instruction to delete words.
        schedule: of the training.
        max_seq_len: pieces that the model reads at once.
        max_failed_share: of the texts, how many the teacher may fail.
        report: told of the training's progress.
        on_progress: called with (asked, to ask).

    Raises:
        DataError: there is nothing to learn from.
        TeacherError: the teacher does not answer, or failed too many texts.
    """
    segmenter = compressor.segmenter(CompressionOptions(), max_seq_len)
    texts = texts_to_shorten(examples, segmenter)
    lefts = ask_for_extracts(texts, ask, max_failed_share=max_failed_share, on_progress=on_progress)
    extracts = [
        label(text, left, segmenter) for text, left in zip(texts, lefts, strict=True) if left
    ]
    good = [
        extract
        for extract, keep in zip(
            extracts, well_aligned([each.alignment for each in extracts]), strict=True
        )
        if keep and extract.alignment.kept.any()
    ]
    held_out = [each for each in good if _is_held_out(each.text)]
    learnt = [each for each in good if not _is_held_out(each.text)]
    if not learnt:
        raise DataError(
            "distillation",
            [
                f"expected extracts to learn from, and of {len(texts)} texts the teacher left "
                f"{len(extracts)}, none of which has words of its text; look at the instruction"
            ],
        )
    before = agreement(compressor, held_out)
    warm_start(compressor, _batches(learnt, schedule), lr=schedule.lr, report=report)
    return Distilled(
        extracts=tuple(learnt),
        texts=len(texts),
        unanswered=len(texts) - len(extracts),
        left_out=len(extracts) - len(good),
        kept_share=fmean(float(each.alignment.kept.mean()) for each in learnt),
        variation_rate=fmean(each.alignment.variation_rate for each in extracts),
        alignment_gap=fmean(each.alignment.alignment_gap for each in extracts),
        agreement_before=before,
        agreement_after=agreement(compressor, held_out),
    )


def agreement(compressor: PromptCompressorReinforce, extracts: Sequence[Extract]) -> float | None:
    """Share of the teacher's words among as many that the compressor would keep first.

    Returns:
        The mean over chunks; None where there are none.
    """
    labelled = [pair for each in extracts for pair in each.labelled if pair[1].any()]
    probabilities = keep_probabilities(compressor, [chunk for chunk, _ in labelled])
    shares = []
    for (_, kept), probs in zip(labelled, probabilities, strict=True):
        first = np.argsort(-probs, kind="stable")[: kept.sum()]
        shares.append(float(kept[first].mean()))
    return fmean(shares) if shares else None


def _batches(extracts: Sequence[Extract], schedule: Schedule) -> list[list[Labelled]]:
    """All chunks once an epoch, in another order each time."""
    labelled = [pair for each in extracts for pair in each.labelled]
    order = np.random.default_rng(schedule.seed)
    batches = []
    for _ in range(schedule.epochs):
        shuffled = [labelled[place] for place in order.permutation(len(labelled))]
        batches += [
            shuffled[start : start + schedule.batch_size]
            for start in range(0, len(shuffled), schedule.batch_size)
        ]
    return batches


def _is_held_out(text: str) -> bool:
    return sha256(text.encode()).digest()[0] % HELD_OUT == 0
