"""Texts of strangers, a teacher's answers above all, made safe to look at."""

import re

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # Control characters; a terminal obeys them.
    "\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""What has no picture of its own: it moves, hides or turns round what stands beside it."""


def visible(text: str) -> str:
    """The text with everything that acts unseen spelt out, such as ⟨U+202E⟩.

    Newlines and tabs stay. What is left can be printed on a terminal; for HTML it has yet to be
    escaped.
    """
    return _HIDDEN.sub(_spelt, text.replace("\r\n", "\n"))


def clipped(text: str, limit: int) -> str:
    """The beginning of a text, made `visible`, and how much was left out."""
    if len(text) <= limit:
        return visible(text)
    return f"{visible(text[:limit])} … ({len(text) - limit:,} more characters)"


def _spelt(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match[0]):04X}⟩"
