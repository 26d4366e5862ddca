"""What of a text's hard facts is still there after compression."""

import re

from trainer.tasks.rules import STOP_WORDS

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_LOOSE_SEPARATOR = re.compile(r"(?<=\d) ?([.,:]) ?(?=\d)")
_SENTENCE = re.compile(r"[.!?\n]+")
_WORD = re.compile(r"[^\W\d_]+")


def numbers(text: str) -> set[str]:
    """The numbers in a text, as they are written."""
    return set(_NUMBER.findall(text))


def entities(text: str) -> set[str]:
    """Names, by shape: capitalised words that do not begin a sentence and are no stop words.

    A rule for languages that capitalise names; where it finds none, there is nothing to report.
    """
    return {
        word
        for sentence in _SENTENCE.split(text)
        for word in _WORD.findall(sentence)[1:]
        if word[0].isupper() and word.lower() not in STOP_WORDS
    }


def kept_share(wanted: set[str], text: str) -> float | None:
    """The share of `wanted` that stands in a text as whole words; None where there is none.

    A number may have come back with spaces around its separators, as the stock package joins BERT's
    word pieces.
    """
    if not wanted:
        return None
    tight = _LOOSE_SEPARATOR.sub(r"\1", text)
    found = numbers(text) | numbers(tight) | set(_WORD.findall(text))
    return len(wanted & found) / len(wanted)
