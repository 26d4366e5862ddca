"""The words by which entries are found: of a request and its answer, and of a search.

Cut here and not by the database, so that a store is searched alike wherever it is kept.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Written without spaces: each character of these is a word."""

_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")
_ASKED = re.compile(rf"({_WORD.pattern})(\*?)")
_LONGEST = 64
_MOST_BYTES = 400_000
"""Of all words of one entry: PostgreSQL takes a megabyte, with what it adds."""

_MOST_ASKED = 16


@dataclass(frozen=True, slots=True)
class Search:
    """What an entry has to have, in any order."""

    words: tuple[str, ...]
    beginnings: tuple[str, ...] = ()  # A word that begins so, for each.


def parse_search(text: str) -> Search | None:
    """What a person looks for: every word, and for `begin*` any word that begins so.

    None where there is no word in it; of very many words only the first count.
    """
    whole: dict[str, None] = {}
    begun: dict[str, None] = {}
    for found in islice(_ASKED.finditer(text.casefold()), _MOST_ASKED):
        (begun if found[2] else whole)[found[1][:_LONGEST]] = None
    return Search(tuple(whole), tuple(begun)) if whole or begun else None


def entry_words(document: str, answer: str | None) -> list[str]:
    """The different words of what was asked and what was answered, in order.

    Of an entry with more words than an index takes, the first count; a damaged one has none.
    """
    try:
        request = json.loads(document)["request"]
    except (ValueError, TypeError, KeyError):
        return []
    if isinstance(request, dict):
        request = [request.get("messages"), request.get("prompt")]
    said = [*_strings(request), answer or ""]
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
