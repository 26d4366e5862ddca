"""A rule-based judge: how many words of a reference answer another answer has, and how few others.

It is recognised by its prompt: "Reference answer:" and "Answer to grade:", each at the beginning of
a line and followed by a text, then a paragraph that ends in a line "Score:" (from 1 to 5) or
"Verdict:" (yes or no).
"""

import re
from collections import Counter

_JUDGED = re.compile(
    r"^Reference answer:(?P<reference>.*?)^Answer to grade:(?P<answer>.*)"
    r"\n\n(?:[^\n]+\n)+(?P<asked>Score|Verdict):\s*\Z",
    re.MULTILINE | re.DOTALL,
)
_WORD = re.compile(r"\w+")
_ENOUGH = 0.5
"""The share of common words from which on two texts say the same."""


def judge(prompt: str) -> str | None:
    """The judgement that a prompt asks for; None where it asks for none."""
    if (found := _JUDGED.search(prompt)) is None:
        return None
    common = _f1(found["reference"], found["answer"])
    if found["asked"] == "Verdict":
        return "yes" if common >= _ENOUGH else "no"
    return str(1 + round(4 * common))


def _f1(reference: str, answer: str) -> float:
    theirs, ours = (Counter(_WORD.findall(text.lower())) for text in (reference, answer))
    return 2 * (theirs & ours).total() / max(theirs.total() + ours.total(), 1)
