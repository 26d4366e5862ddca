"""Compression by rule, within a token budget: what a trained policy has to beat.

Rarest words first is the best simple rule on texts whose facts hang on names and numbers; its keep
masks also label the warm start. Random drop is the floor.

W is the number of words in a text; words are those of the policy, so a "▁" in front or punctuation
at the end does not matter.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

KeepMask: TypeAlias = NDArray[np.bool_]

_WORD = re.compile(r"\w+")

_STOP_WORDS_TEXT = """
    a about after again all also an and any are as at be because been before being below between
    both but by can could did do does doing down during each few for from further had has have
    having he her here hers him his how i if in into is it its itself just may me might more most
    must my no nor not now of off on once only or other our out over own same shall she should so
    some such than that the their theirs them then there these they this those through to too
    under until up upon us very was we were what when where which while who whom whose why will
    with would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())


def document_frequencies(texts: Iterable[str]) -> Counter[str]:
    """Counts, for each word in lower case, the texts that contain it."""
    frequencies: Counter[str] = Counter()
    for text in texts:
        frequencies.update(set(_WORD.findall(text.lower())))
    return frequencies


def rarest_first(
    words: Sequence[str],
    word_tokens: NDArray[np.int64],
    budget_tokens: int,
    frequencies: Mapping[str, int],
) -> KeepMask:
    """Keeps the words found in the fewest texts, as many as the budget holds.

    Stop words and punctuation are never kept; equally rare words go in the text's order, and a
    word too long for what is left makes room for the next.

    Args:
        words: W words of one text.
        word_tokens: Tokens of each word, shape (W,).
        budget_tokens: Most tokens that the kept words may have together.
        frequencies: What `document_frequencies` counted; a word that is missing is the rarest.

    Returns:
        The keep mask, shape (W,).
    """
    keys = [_key(word) for word in words]
    content = [i for i, key in enumerate(keys) if key and key not in STOP_WORDS]
    order = sorted(content, key=lambda i: frequencies.get(keys[i], 0))
    return _fill(order, word_tokens, budget_tokens)


def first_words(word_tokens: NDArray[np.int64], budget_tokens: int) -> KeepMask:
    """Keeps the text's beginning, as much of it as the budget holds; shape (W,)."""
    mask: KeepMask = np.cumsum(word_tokens) <= budget_tokens
    return mask


def stop_word_drop(
    words: Sequence[str],
    word_tokens: NDArray[np.int64],
    budget_tokens: int,
    rng: np.random.Generator,
) -> KeepMask:
    """Drops stop words and punctuation first, then drawn words; shape (W,)."""
    drawn = rng.permutation(len(words)).tolist()
    order = sorted(drawn, key=lambda i: _key(words[i]) in STOP_WORDS | {""})
    return _fill(order, word_tokens, budget_tokens)


def clues_first(
    words: Sequence[str],
    word_tokens: NDArray[np.int64],
    budget_tokens: int,
    clues: Container[str],
) -> KeepMask:
    """Keeps the clues and then what ends a sentence, as many as the budget holds; shape (W,).

    With a question's names and its answer as clues, an oracle: it has seen what is asked.
    """
    keys = ["".join(_WORD.findall(word)) for word in words]
    clue_places = [i for i, key in enumerate(keys) if key in clues]
    ends = [i for i, word in enumerate(words) if i not in clue_places and word[-1:] in ".!?"]
    return _fill(clue_places + ends, word_tokens, budget_tokens)


def random_drop(
    word_tokens: NDArray[np.int64], budget_tokens: int, rng: np.random.Generator
) -> KeepMask:
    """Keeps words in a drawn order, as many as the budget holds; shape (W,)."""
    return _fill(rng.permutation(len(word_tokens)).tolist(), word_tokens, budget_tokens)


def _key(word: str) -> str:
    """What a word is counted as: without case, punctuation and a "▁" in front."""
    return "".join(_WORD.findall(word.lower()))


def _fill(order: Sequence[int], word_tokens: NDArray[np.int64], budget_tokens: int) -> KeepMask:
    keep = np.zeros(len(word_tokens), dtype=bool)
    left = budget_tokens
    for i in order:
        if word_tokens[i] <= left:
            keep[i] = True
            left -= int(word_tokens[i])
    return keep
