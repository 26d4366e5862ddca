"""Puts kept words back together as they stood in their source, so that code keeps its indentation.

The stock package joins words by its tokenizer's rules, which fold white space. Here each word is
found in the source, and between two kept words stands what stood there: the source itself where
nothing was dropped in between, else a line break with the indentation of the line that goes on, a
blank, or nothing.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
"""Where a word begins and ends in its source, in characters."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """A context, and where its W words stand in it."""

    text: str
    spans: tuple[Span, ...]
    """(W,), in order; empty where a word is nowhere to be found, which then adds nothing."""

    def join(self, keep: NDArray[np.bool_]) -> str:
        """The kept words, (W,), with the source's spacing."""
        kept = [place for place in np.flatnonzero(keep).tolist() if _length(self.spans[place])]
        if not kept:
            return ""
        first = self.spans[kept[0]]
        parts = [_indentation(self.text, first[0]), self.text[slice(*first)]]
        for before, after in pairwise(kept):
            parts.append(_gap(self.text, self.spans[before][1], self.spans[after][0]))
            parts.append(self.text[slice(*self.spans[after])])
        return "".join(parts)


def find_words(text: str, words: Sequence[str]) -> SourceText:
    """Find a context's words in it, one after the other.

    Args:
        text: the context.
        words: as `Chunk.words`, of all its chunks in order.
    """
    letters, places = _letters(text)
    spans: list[Span] = []
    end = at = 0
    for word in words:
        sought, _ = _letters(word.removeprefix("▁"))
        if sought and (found := letters.find(sought, at)) >= 0:
            at = found + len(sought)
            start, end = places[found], places[at - 1] + 1
        elif not sought and (start := text.find(word, end, places[at])) >= 0:
            end = start + len(word)  # White space that is kept by force, such as a line break.
        else:
            start = end
        spans.append((start, end))
    return SourceText(text, tuple(spans))


def _letters(text: str) -> tuple[str, list[int]]:
    """A text without white space, as tokenizers see it; where each letter stood, and the end."""
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for letter in unicodedata.normalize("NFKC", character):
            if not letter.isspace():
                letters.append(letter)
                places.append(place)
    return "".join(letters), [*places, len(text)]


def _gap(text: str, end: int, start: int) -> str:
    """What stands between two kept words, of which the first ends where the other may begin."""
    gap = text[end:start]
    if not gap.strip():
        return gap
    if text[start].isspace():  # A line break that was kept by force needs nothing before it.
        return ""
    if text[end - 1] == "\n":
        return _indentation(text, start)
    if "\n" in gap:
        return "\n" + _indentation(text, start)
    return " " if any(map(str.isspace, gap)) else ""


def _indentation(text: str, place: int) -> str:
    """The white space that the line of a place begins with."""
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return line[: len(line) - len(line.lstrip())]


def _length(span: Span) -> int:
    return span[1] - span[0]
