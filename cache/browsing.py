"""Lists of entries for people: a page at a time, the latest first, at the same cost on every page.

A page begins below a row's number (keyset paging), so that the thousandth page of a million
entries is as quick as the first, and new entries shift none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    Row,
    Select,
    cast,
    exists,
    func,
    select,
)

from cache.models import completions, refusals, requests, run_uses, runs, teachers
from cache.selection import teacher_ids
from cache.word_index import WordIndex
from cache.words import Search

PAGE = 50
_LOOK, _LOOKS = 500, 20
"""Of a search in a run: how many matches are looked at together, and how often for one page."""

_READ = 4_000
"""Characters of a request and of its answer that are read for a line: either may be megabytes."""


@dataclass(frozen=True, slots=True)
class Line:
    """An entry in a list: enough to know it again."""

    number: int  # Of its row; higher is later. In a run's list, of the use.
    key: bytes
    teacher: str
    asked: str  # The compressed text, or the last message, from its beginning.
    answered: str | None  # The served answer likewise; None: it has no text (a tool call).
    refused: bool  # Then `answered` is what the API said.
    created_at: float  # When it was first asked, seconds since the epoch.
    step: int | None = None  # In a run's list: where it was used; None: the run did not say.
    served: str | None = None  # In a run's list: hit, miss or collapsed.
    uses: int = 1  # In a run's list: how often, at that step.
    around: str | None = None  # What the last message says around the compressed text.


@dataclass(frozen=True, slots=True)
class Sought:
    """What a search by text is for."""

    search: Search
    teacher: str | None = None  # A name, or the start of a digest; None: any.
    run: str | None = None  # That was served it; None: any, or none.


@dataclass(frozen=True, slots=True)
class Lines:
    """One page of a list."""

    lines: Sequence[Line]
    before: int | None  # Where the next page begins; None: this is the last one.


def latest(
    connection: Connection,
    teacher: str | None = None,
    before: int | None = None,
    limit: int = PAGE,
) -> Lines:
    """The entries that were first asked last, of all teachers or of one.

    Args:
        connection: From `CompletionStore.query`.
        teacher: A name, or the start of a digest.
        before: `Lines.before` of the page above; None: the first page.
        limit: Lines of a page.

    Raises:
        StoreError: no teacher matches.
    """
    numbers = select(requests.c.id).order_by(requests.c.id.desc()).limit(limit + 1)
    if teacher is not None:
        numbers = numbers.where(requests.c.teacher_id.in_(teacher_ids(connection, teacher)))
    if before is not None:
        numbers = numbers.where(requests.c.id < before)
    found = connection.execute(numbers).scalars().all()
    return _page(list(lines_of(connection, found[:limit])), found, limit)


def used_by(
    connection: Connection,
    run: str,
    teacher: str | None = None,
    before: int | None = None,
    limit: int = PAGE,
) -> Lines:
    """What a run was served, its last use first; of entries that are gone nothing is listed.

    Raises:
        StoreError: no teacher matches.
    """
    uses = (
        select(run_uses)
        .where(run_uses.c.run_id.in_(select(runs.c.id).where(runs.c.name == run)))
        .order_by(run_uses.c.id.desc())
        .limit(limit + 1)
    )
    if teacher is not None:
        its = requests.c.teacher_id.in_(teacher_ids(connection, teacher))
        uses = uses.where(exists().where(requests.c.key == run_uses.c.key, its))
    if before is not None:
        uses = uses.where(run_uses.c.id < before)
    rows = connection.execute(uses).all()
    wanted = requests.c.key.in_({row.key for row in rows[:limit]})
    lines = {line.key: line for line in _lines(connection, wanted)}
    shown = [_as_used(lines[row.key], row) for row in rows[:limit] if row.key in lines]
    return _page(shown, [row.id for row in rows], limit)


def found_by(
    connection: Connection,
    index: WordIndex,
    sought: Sought,
    before: int | None = None,
    limit: int = PAGE,
) -> Lines:
    """The entries that a search by text finds, the latest first.

    Of words that very many entries have, but few of the run, a page may have fewer lines than the
    limit though another one follows.

    Raises:
        StoreError: no teacher matches, or the search takes too long.
    """
    look = limit + 1 if sought.run is None else _LOOK
    lines: list[Line] = []
    for numbers in islice(_matches(connection, index, sought, before, look), _LOOKS):
        wanted = _of_run(connection, numbers, sought.run)[: limit + 1 - len(lines)]
        lines += lines_of(connection, wanted)
        if len(lines) > limit:
            return Lines(lines[:limit], lines[limit - 1].number)
        if len(numbers) < look:
            return Lines(lines, None)
        before = numbers[-1]
    return Lines(lines, before)


def keys_found_by(connection: Connection, index: WordIndex, sought: Sought) -> Sequence[bytes]:
    """The keys of all that such a search finds.

    Raises:
        StoreError: as for `found_by`.
    """
    keys: list[bytes] = []
    for numbers in _matches(connection, index, sought, None, _LOOK):
        wanted = requests.c.id.in_(_of_run(connection, numbers, sought.run))
        keys += connection.execute(select(requests.c.key).where(wanted)).scalars()
    return keys


def keys_used_by(connection: Connection, run: str) -> Sequence[bytes]:
    """The keys of all that a run was served."""
    of_run = run_uses.c.run_id.in_(select(runs.c.id).where(runs.c.name == run))
    return connection.execute(select(run_uses.c.key).distinct().where(of_run)).scalars().all()


def lines_of(connection: Connection, numbers: Sequence[int]) -> Iterator[Line]:
    """The entries in the rows `numbers` of `requests`, in that order; less those that are gone."""
    lines = {line.number: line for line in _lines(connection, requests.c.id.in_(numbers))}
    return (lines[number] for number in numbers if number in lines)


def shown_text(document: str, compressed_text: str | None = None) -> str:
    """What a request is about, for people: the compressed text, the last message or the prompt.

    Args:
        document: Canonical JSON, or the beginning of one.
        compressed_text: As it is stored.
    """
    if compressed_text is not None:
        return compressed_text
    said = _last_said(document)
    return document if said is None else said


def said_around(document: str, compressed_text: str) -> str | None:
    """What the last message says before and after the compressed text: the question, as a rule.

    None where that is not known, or where there is nothing else.
    """
    before, found, after = (_last_said(document) or "").partition(compressed_text)
    return " … ".join(filter(None, (before.strip(), after.strip()))) or None if found else None


def _last_said(document: str) -> str | None:
    try:
        request = json.loads(document)["request"]
    except (ValueError, TypeError, KeyError):
        return None  # Damaged, or only its beginning was read.
    match request:
        case {"messages": [*_, last]}:
            return _plain(last)
        case {"prompt": prompt}:
            return _plain(prompt)
    return _plain(request)


def _plain(said: Any) -> str:
    """The text of a message, of its parts, or of a prompt; as JSON where there is none."""
    match said:
        case str():
            return said
        case {"content": str() | list() as content}:
            return _plain(content)
        case {"type": "text", "text": str() as text}:
            return text
        case [{}, *_]:
            return "\n".join(map(_plain, said))
    return json.dumps(said, ensure_ascii=False)


def _matches(
    connection: Connection, index: WordIndex, sought: Sought, before: int | None, look: int
) -> Iterator[Sequence[int]]:
    """The row numbers that the index finds, `look` at a time; the last ones may be fewer."""
    teachers = None if sought.teacher is None else teacher_ids(connection, sought.teacher)
    while numbers := index.find(sought.search, teachers, before, look):
        yield numbers
        before = numbers[-1]


def _of_run(connection: Connection, numbers: Sequence[int], run: str | None) -> Sequence[int]:
    """Those of the rows `numbers` that a run was served."""
    if run is None:
        return numbers
    query = (
        select(requests.c.id)
        .join(run_uses, run_uses.c.key == requests.c.key)
        .join(runs)
        .where(requests.c.id.in_(numbers), runs.c.name == run)
    )
    used = set(connection.execute(query).scalars())
    return [number for number in numbers if number in used]


def _page(lines: Sequence[Line], numbers: Sequence[int], limit: int) -> Lines:
    """One number more than a page holds says that another page follows."""
    return Lines(lines, numbers[limit - 1] if len(numbers) > limit else None)


def _as_used(line: Line, use: Row[Any]) -> Line:
    return replace(line, number=use.id, step=use.step, served=use.served, uses=use.uses)


def _lines(connection: Connection, wanted: ColumnElement[bool]) -> list[Line]:
    rows = connection.execute(_line_query(connection).where(wanted)).all()
    declined = _refusals(connection, [row.key for row in rows if row.answer is None])
    return [_line(row, declined) for row in rows]


def _line_query(connection: Connection) -> Select[Any]:
    answered = requests.join(teachers).outerjoin(completions)
    return select(
        requests.c.id,
        requests.c.key,
        requests.c.created_at,
        teachers.c.name,
        _start(connection, requests.c.document).label("document"),
        _start(connection, requests.c.compressed_text).label("compressed_text"),
        completions.c.id.label("answer"),
        _start(connection, completions.c.text).label("text"),
    ).select_from(answered)


def _refusals(connection: Connection, keys: Sequence[bytes]) -> Mapping[bytes, str]:
    """What is served for keys without a completion: the first refusal."""
    if not keys:
        return {}
    message = _start(connection, refusals.c.message)
    query = select(refusals.c.key, message).where(refusals.c.key.in_(keys))
    last_first = connection.execute(query.order_by(refusals.c.id.desc()))
    return {key: _text(said) or "" for key, said in last_first}


def _line(row: Row[Any], declined: Mapping[bytes, str]) -> Line:
    document, compressed_text = _text(row.document) or "", _text(row.compressed_text)
    return Line(
        row.id,
        row.key,
        row.name,
        shown_text(document, compressed_text),
        declined.get(row.key, "") if row.answer is None else _text(row.text),
        row.answer is None,
        row.created_at,
        around=said_around(document, compressed_text) if compressed_text else None,
    )


def _start(connection: Connection, column: Column[Any]) -> ColumnElement[Any]:
    """The beginning of a text. SQLite's own would end at the first U+0000, its bytes do not."""
    bare = connection.dialect.name == "sqlite"
    return func.substr(cast(column, LargeBinary) if bare else column, 1, _READ)


def _text(start: str | bytes | None) -> str | None:
    return start.decode(errors="replace") if isinstance(start, bytes) else start
