"""Which words of a text an extractive compression kept.

A teacher that is told to delete words also changes some of them, moves some, and adds others. Its
compression is therefore aligned with the text: from where the last word was found, both ways, first
for the same word, then for another form of it (LLMLingua-2, arXiv 2403.12968, section 3.2). What
that cannot mend is measured, so that bad compressions can be left out (section 3.3).
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

WINDOW = 150
"""How far from where the last word was found the next one is looked for, in words, either way."""
_SHORTEST_STEM = 4
_LONGEST_ENDING = 3


@dataclass(frozen=True, slots=True)
class Alignment:
    """What became of a text of W words."""

    kept: NDArray[np.bool_]
    """(W,): the words that the compression kept."""
    variation_rate: float
    """Share of the compression's words that the text does not have, in any form."""
    alignment_gap: float
    """Hitting rate less matching rate: words of the compression that the text has, less those that
    were found where they belong, as a share of W."""


def align(words: Sequence[str], compression: Sequence[str], window: int = WINDOW) -> Alignment:
    """Find the compression's words in the text, each of the text's at most once.

    Args:
        words: the text's W words, XLM-R's "▁" and punctuation and all.
        compression: the compression's words, cut in the same way.
        window: words looked at, either way.
    """
    forms, sought = list(map(_form, words)), list(map(_form, compression))
    kept = np.zeros(len(forms), bool)
    next_word = hits = 0
    for form in sought:
        hits += form in forms or any(same_word(form, other) for other in forms)
        found = _find(form, forms, kept, next_word, window)
        if found is not None:
            kept[found] = True
            # One word found far ahead is more often another one than a gap of that length.
            next_word = min(found + 1, next_word + window // 2)
    return Alignment(
        kept,
        variation_rate=(len(sought) - hits) / max(len(sought), 1),
        alignment_gap=(hits - int(kept.sum())) / max(len(forms), 1),
    )


def same_word(one: str, other: str) -> bool:
    """Whether two words are forms of one: equal up to an ending of a few letters."""
    if one == other:
        return True
    stem = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return stem >= _SHORTEST_STEM and max(len(one), len(other)) - stem <= _LONGEST_ENDING


def well_aligned(
    alignments: Sequence[Alignment], variation_share: float = 0.05, gap_share: float = 0.1
) -> NDArray[np.bool_]:
    """The alignments (N,) to learn from: without the worst by variation rate, then by gap.

    Args:
        alignments: N of them.
        variation_share: of all, how many to leave out for their variation rate, where it is not 0.
        gap_share: of the rest, how many to leave out for their alignment gap, where it is not 0.
    """
    variation = np.array([each.variation_rate for each in alignments])
    gap = np.array([each.alignment_gap for each in alignments])
    good = variation <= max(_quantile(variation, 1 - variation_share), 0.0)
    return good & (gap <= max(_quantile(gap[good], 1 - gap_share), 0.0))


def _quantile(values: NDArray[np.float64], share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else 0.0


def _find(
    form: str, forms: Sequence[str], kept: NDArray[np.bool_], start: int, window: int
) -> int | None:
    """The nearest free place of a word, the same one before other forms, ahead before behind."""
    places = [
        place
        for distance in range(window)
        for place in (start + distance, start - 1 - distance)
        if 0 <= place < len(forms) and not kept[place]
    ]
    equal = (place for place in places if forms[place] == form)
    alike = (place for place in places if same_word(forms[place], form))
    return next(equal, next(alike, None))


def _form(word: str) -> str:
    """A word without case, "▁" and the punctuation around it; punctuation alone stays."""
    text = unicodedata.normalize("NFKC", word.removeprefix("▁")).casefold()
    inner = [place for place in range(len(text)) if text[place].isalnum()]
    return text[inner[0] : inner[-1] + 1] if inner else text
