"""Text that nobody vouches for, made fit to be looked at: what cannot be seen is named."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

SHORT = 4_000
"""Characters that are shown of a text at first."""

WHOLE = 1_000_000
"""Characters that are shown of it on demand: what is longer is for an export."""

_LOOKED_AT, _BEFORE = 20, 30
"""Of an excerpt: how many times its length is looked at, and how much comes before a found word."""

# Controls, what turns the direction of the text around it, what has no width, and halves of a
# character. Joiners (U+200C, U+200D) stay: scripts and emoji need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """The part of a text that is shown."""

    html: Markup
    characters: int  # That are shown.
    of: int  # That there are.

    @property
    def cut(self) -> bool:
        """Something is not shown."""
        return self.characters < self.of


def shown(text: str, limit: int) -> Shown:
    """The first `limit` characters of a text."""
    return Shown(visible(text[:limit]), min(limit, len(text)), len(text))


def visible(text: str) -> Markup:
    """A text as HTML in which every character can be seen, and none does anything."""
    parts = []
    end = 0
    for found in _UNSEEN.finditer(text):
        parts += [
            escape(text[end : found.start()]),
            Markup("<i>U+{:04X}</i>").format(ord(found[0])),
        ]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


def excerpt(text: str, length: int, words: Sequence[str] = ()) -> Markup:
    """A part of a text on one line: its beginning, or what is around the first of `words`.

    Args:
        text: Of any length; only its beginning is looked at.
        length: Characters that are shown.
        words: Marked wherever they are; in small letters.
    """
    line = " ".join(text[: _LOOKED_AT * length].split())
    sought = re.compile("|".join(map(re.escape, words)) or "(?!)", re.IGNORECASE)
    first = sought.search(line)
    start = max(0, first.start() - _BEFORE) if first and first.end() > length else 0
    shown = line[start : start + length]
    cut = len(line) > start + length or len(text) > _LOOKED_AT * length
    return "…" * (start > 0) + _marked(shown, sought) + "…" * cut


def _marked(line: str, sought: re.Pattern[str]) -> Markup:
    parts = []
    end = 0
    for found in sought.finditer(line):
        parts += [visible(line[end : found.start()]), Markup("<mark>"), visible(found[0])]
        parts.append(Markup("</mark>"))
        end = found.end()
    return Markup("").join([*parts, visible(line[end:])])
