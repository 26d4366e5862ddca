"""The words by which entries are found: of a request and its answer, and of a search.

Cut here and not by the database, so that a store is searched alike wherever it is kept.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Written without spaces: each character of these is a word."""

_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")
_LONGEST = 64
_MOST_BYTES = 400_000
"""Of all words of one entry: PostgreSQL takes a megabyte, with what it adds."""

_MOST_ASKED = 16
_UNFINISHED = 3
"""Letters from which on the last word of a search may be the beginning of one."""


@dataclass(frozen=True, slots=True)
class Search:
    """What an entry has to have."""

    words: tuple[str, ...]  # All of these, in any order.
    beginning: str | None = None  # And a word that begins so.


def parse_search(text: str) -> Search | None:
    """What a person looks for: every word, and the last one may be unfinished.

    None where there is no word in it; of very many words only the first count.
    """
    words = list(dict.fromkeys(_words(text)))[:_MOST_ASKED]
    if not words:
        return None
    *others, last = words
    if len(last) >= _UNFINISHED and text.casefold().endswith(last):
        return Search(tuple(others), last)
    return Search(tuple(words))


def entry_words(document: str, answer: str | None) -> list[str]:
    """The different words of what was asked and what was answered, in order.

    Of an entry with more words than an index takes, the first count; a damaged one has none.
    """
    try:
        request = json.loads(document)["request"]
    except ValueError:
        return []
    said = [*_strings(request.get("messages")), *_strings(request.get("prompt")), answer or ""]
    found: dict[str, None] = {}
    left = _MOST_BYTES
    for word in (word for text in said for word in _words(text)):
        if word not in found:
            left -= len(word.encode(errors="replace"))
            if left < 0:
                break
            found[word] = None
    return list(found)


def _words(text: str) -> Iterator[str]:
    return (found[0][:_LONGEST] for found in _WORD.finditer(text.casefold()))


def _strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, less the names of its fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in ("role", "type"):
                yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
