"""Why a request was not found: the stored request that is nearest to it, and what differs."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import Connection, select

from cache.canonical import JSON, parse_json
from cache.models import requests, teachers

_CANDIDATES = 1_000
_COMPARED_CHARACTERS = 2_000_000
_PAGE = 50
"""How many requests are compared, and how much text: a miss in a store of any size is explained
in a fraction of a second.
"""

_SHOWN = 80
_BEFORE = 20
"""Characters of a long text that are shown, and how many of them come before the difference."""

_Fields: TypeAlias = Mapping[str, str]
"""The JSON of every leaf of a document, by its path."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which two requests differ."""

    field: str  # Such as `request.messages[1].content`.
    stored: str | None  # JSON, a long text cut to where it differs; None: not set.
    asked: str | None  # Likewise.


@dataclass(frozen=True, slots=True)
class Explanation:
    """The nearest stored request, and how it differs from the one that was asked."""

    key: bytes
    differences: tuple[Difference, ...]  # Empty: it is the very same request.


def explain(
    connection: Connection, document: str, compressed_text: str | None = None
) -> Explanation | None:
    """Find the stored request nearest to one that is not stored; None in an empty store.

    Compared are requests about the same compressed text, and the latest ones, those of the same
    teacher first. The nearest differs in the fewest fields, then in the least text.

    Args:
        connection: From `CompletionStore.query`.
        document: What was asked, as `Fingerprint.document` has it.
        compressed_text: As it would have been stored; None where it is not known.

    Raises:
        CanonicalError: `document` is no JSON.
        ValueError: a stored row's JSON is damaged.
    """
    asked = dict(flatten(parse_json(document)))
    candidates = _candidates(connection, json.loads(asked["teacher"]), compressed_text)
    compared = ((key, dict(flatten(json.loads(stored)))) for key, stored in candidates)
    nearest = min(compared, key=lambda each: _distance(each[1], asked), default=None)
    if nearest is None:
        return None
    key, stored = nearest
    return Explanation(
        key, tuple(_difference(name, stored, asked) for name in _differing(stored, asked))
    )


def flatten(value: JSON, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON value: its path and its own JSON; what is empty is a leaf."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from flatten(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from flatten(item, f"{path}[{index}]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def _candidates(
    connection: Connection, teacher: str, text: str | None
) -> Iterator[tuple[bytes, str]]:
    """Keys and documents to compare, the likeliest first, until there was enough text."""
    ids = list(dict.fromkeys([*_same_text(connection, text), *_latest(connection, teacher)]))
    columns = select(requests.c.id, requests.c.key, requests.c.document)
    characters = 0
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        rows = {row.id: row for row in connection.execute(columns.where(requests.c.id.in_(page)))}
        for row in map(rows.__getitem__, page):
            yield row.key, row.document
            characters += len(row.document)
            if characters > _COMPARED_CHARACTERS:
                return


def _same_text(connection: Connection, text: str | None) -> Sequence[int]:
    """The latest requests about a compressed text."""
    if text is None:
        return []
    sha256 = hashlib.sha256(text.encode()).digest()
    query = select(requests.c.id).where(requests.c.compressed_sha256 == sha256)
    latest = query.order_by(requests.c.id.desc()).limit(_CANDIDATES)
    return connection.execute(latest).scalars().all()


def _latest(connection: Connection, teacher: str) -> Sequence[int]:
    """The latest requests of all, those of one teacher first."""
    columns = (requests.c.id, requests.c.teacher_id)
    recent = select(*columns).order_by(requests.c.id.desc()).limit(_CANDIDATES).subquery()
    query = (
        select(recent.c.id)
        .join(teachers, teachers.c.id == recent.c.teacher_id)
        .order_by(teachers.c.digest != teacher, recent.c.id.desc())
    )
    return connection.execute(query).scalars().all()


def _differing(stored: _Fields, asked: _Fields) -> list[str]:
    """The fields that differ: in the order of the request asked, then those that it lacks."""
    names = dict.fromkeys([*asked, *stored])
    return [name for name in names if stored.get(name) != asked.get(name)]


def _distance(stored: _Fields, asked: _Fields) -> tuple[int, int]:
    """How many fields differ, and over how many characters."""
    names = _differing(stored, asked)
    return len(names), sum(_span(stored.get(name, ""), asked.get(name, "")) for name in names)


def _span(one: str, other: str) -> int:
    """Characters from the first to the last difference."""
    start = _common_start(one, other)
    one, other = one[start:], other[start:]
    return max(len(one), len(other)) - _common_start(one[::-1], other[::-1])


def _common_start(one: str, other: str) -> int:
    """By bisection: comparing slices is a thousand times faster than comparing characters."""
    lengths = range(1, min(len(one), len(other)) + 1)
    return bisect_left(lengths, True, key=lambda length: one[:length] != other[:length])


def _difference(field: str, stored: _Fields, asked: _Fields) -> Difference:
    one, other = stored.get(field), asked.get(field)
    start = _common_start(one or "", other or "")
    return Difference(field, _excerpt(one, start), _excerpt(other, start))


def _excerpt(text: str | None, start: int) -> str | None:
    """The part of a long text from a little before `start`."""
    if text is None or len(text) <= _SHOWN:
        return text
    first = min(max(0, start - _BEFORE), len(text) - _SHOWN)
    end = first + _SHOWN
    return "…" * (first > 0) + text[first:end] + "…" * (end < len(text))
