"""Stores of any size in minutes: the rows that the store writes, without waiting for the disk.

All requests differ in their text alone, so the canonical documents are made once and the text is
put in. A test holds the rows together with those of `CompletionStore.commit`.
"""

import hashlib
import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

from cache import (
    Completion,
    CompletionStore,
    NewEntry,
    TeacherIdentity,
    canonical_json,
    fingerprint,
)
from cache.rows import INSERT_COMPLETION, INSERT_REQUEST

Row: TypeAlias = tuple[Any, ...]

TEACHER = TeacherIdentity.from_definition("bulk", "builtin", {"rules": 1})
_ENDINGS = ("da", "lor", "m", "n", "ra", "s", "t", "vin")
_WORDS = tuple(map("".join, itertools.product("bdfgklmn", "aeio", _ENDINGS)))  # 256: one a byte.
_TEXT, _ANSWER = "@text@", "@answer@"
_ANSWER_WORDS = 8
_PROVENANCE = {"model": "pinned-2024-07-18", "service": "0.1.0"}
_CHUNK = 1_000_000  # Fewer would write the pages of the indexes again and again.


def entry(number: int) -> NewEntry:
    """Row `number` on its way into the store."""
    text, answer = _texts(number)
    asked = fingerprint(TEACHER.digest, _request(text))
    return NewEntry(asked, TEACHER.digest, text, _completion(number, answer), created_at=number)


def key(number: int) -> bytes:
    """The key of row `number`."""
    return hashlib.sha256(_document(_texts(number)[0]).encode()).digest()


def prompt(number: int) -> str:
    """What the teacher is asked in row `number`."""
    return _prompt(_texts(number)[0])


def answer_fields(number: int) -> dict[str, Any]:
    """What the teacher answered, as a dictionary."""
    completion = _completion(number, _texts(number)[1])
    return {"text": completion.text, "finish_reason": "stop", "usage": completion.usage}


def build(path: Path, rows: int) -> None:
    """Make a store at `path` with rows 0 to `rows` - 1, in the order of their numbers."""
    with CompletionStore.open(path) as store:
        store.register_teacher(TEACHER)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # A crash costs the whole file, which is then made again.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute(f"PRAGMA cache_size = -{3 << 20}")  # KiB: the indexes of 10 million.
        for numbers in _chunks(rows):
            connection.execute("BEGIN")
            connection.executemany(INSERT_REQUEST, map(request_row, numbers))
            connection.executemany(INSERT_COMPLETION, map(completion_row, numbers))
            connection.execute("COMMIT")


def request_row(number: int) -> Row:
    """Row `number` of the table `requests`, as `INSERT_REQUEST` takes it."""
    text, _ = _texts(number)
    document = _document(text)
    key = hashlib.sha256(document.encode()).digest()
    return key, 1, document, text, hashlib.sha256(text.encode()).digest(), number


def completion_row(number: int) -> Row:
    """Row `number` of the table `completions`, as `INSERT_COMPLETION` takes it."""
    _, answer = _texts(number)
    digest = hashlib.sha256(_SEEN.replace(_ANSWER, answer).encode()).digest()
    return answer, "stop", _USAGES[number % 50], None, _MADE, 12.5, digest, number, key(number)


def _chunks(rows: int) -> Iterator[range]:
    for start in range(0, rows, _CHUNK):
        yield range(start, min(start + _CHUNK, rows))


def _texts(number: int) -> tuple[str, str]:
    """A compressed text of 24 words and an answer of 8, the same for a number on every machine."""
    words = [_WORDS[byte] for byte in hashlib.blake2b(b"%d" % number, digest_size=32).digest()]
    return " ".join([str(number), *words[_ANSWER_WORDS:]]), " ".join(words[:_ANSWER_WORDS])


def _prompt(text: str) -> str:
    return f"{text}\n\nQuestion: Who leads it, and when will the work be finished?"


def _request(text: str) -> dict[str, Any]:
    return {
        "model": "pinned-2024-07-18",
        "messages": [{"role": "user", "content": _prompt(text)}],
        "temperature": 0,
        "max_tokens": 100,
    }


def _completion(number: int, answer: str) -> Completion:
    usage = {"prompt_tokens": 60, "completion_tokens": number % 50}
    return Completion(answer, "stop", usage, None, _PROVENANCE, 12.5)


_DOCUMENT = fingerprint(TEACHER.digest, _request(_TEXT)).document
_SEEN = canonical_json({"text": _ANSWER, "finish_reason": "stop"}).decode()
_USAGES = tuple(
    canonical_json({"prompt_tokens": 60, "completion_tokens": tokens}).decode()
    for tokens in range(50)
)
_MADE = canonical_json(_PROVENANCE).decode()


def _document(text: str) -> str:
    return _DOCUMENT.replace(_TEXT, text)
