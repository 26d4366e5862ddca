"""Text that nobody vouches for, made fit to be looked at: what cannot be seen is named."""

import re
from dataclasses import dataclass

from markupsafe import Markup, escape

SHORT = 4_000
"""Characters that are shown of a text at first."""

WHOLE = 1_000_000
"""Characters that are shown of it on demand: what is longer is for an export."""

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
    characters: int  # Of the whole text.
    cut: bool  # Something is not shown.


def shown(text: str, limit: int) -> Shown:
    """The first `limit` characters of a text."""
    return Shown(visible(text[:limit]), len(text), len(text) > limit)


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


def excerpt(text: str, length: int) -> Markup:
    """The beginning of a text on one line."""
    line = " ".join(text[: 4 * length].split())
    return visible(line[:length]) + "…" * (len(line) > length or len(text) > 4 * length)
