"""A rule-based reader of code: what a function is called, takes, raises, calls and returns.

It reads compressed code too, where brackets, line ends and keywords may be missing and spaces may
stand around what is left. An identifier that lost its mark (`def`, `raise`, a bracket) is not
found.
"""

import keyword
import re
from collections.abc import Iterable
from itertools import pairwise

_LOOSE_UNDERSCORE = re.compile(r"([^\W\d]\w*)\s+_\s+(?=\w)")
_TOKEN = re.compile(r"[^\W\d]\w*|\S")
_WORD_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NAMES_AT_MOST = 8
"""Of one kind in a summary."""


def summarize_code(code: str) -> str:
    """One line for each thing found; "" where nothing is.

    Identifiers are given as words: `parse_HTTPDate` becomes "parse http date".
    """
    tokens = _TOKEN.findall(_LOOSE_UNDERSCORE.sub(_tightened, code))
    pairs = list(pairwise([*tokens, ""]))
    name = next((after for word, after in pairs if word in ("def", "class")), "")
    parts = {
        "": [name],
        "takes": _parameters(tokens),
        "raises": [after for word, after in pairs if word in ("raise", "except")],
        "calls": [word for word, after in pairs if after == "(" and word != name],
        "returns": [after for word, after in pairs if word == "return"],
    }
    lines = (f"{label} {_as_words(names)}".strip() for label, names in parts.items())
    return "\n".join(line for line in lines if line and line not in parts)


def _tightened(match: re.Match[str]) -> str:
    """Word pieces come back with spaces around underscores: identifiers are made whole again."""
    word = match[1]
    return f"{word} _" if keyword.iskeyword(word) else f"{word}_"


def _parameters(tokens: list[str]) -> list[str]:
    """The identifiers between the first bracket and the one that closes it."""
    if "(" not in tokens:
        return []
    inside = []
    depth = 0
    for word in tokens[tokens.index("(") :]:
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth == 0:
            break
        inside.append(word)
    return [word for word in inside if word not in ("self", "cls")]


def _as_words(names: Iterable[str]) -> str:
    """Distinct identifiers, in order, each split into its words."""
    found = dict.fromkeys(
        name for name in names if name.isidentifier() and not keyword.iskeyword(name)
    )
    split = (" ".join(_WORD_PARTS.findall(name)).lower() for name in list(found)[:_NAMES_AT_MOST])
    return ", ".join(words for words in split if words)
