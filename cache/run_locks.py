"""Which answers a training run needs: read from its lock file.

A lock file has one JSON document a line: a header `{"lock": 1, ...}`, leaves, and (once the run
is finished) a trailer `{"leaves": ..., "root": ...}`. A leaf has `"replies": [[outcome,
fingerprint, content digest], ...]`, the last two as hexadecimal digits or null; and `"judgements"`
of the same form, where the teacher judged the replies.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.errors import LockFileError
from cache.maintenance import Progress, no_progress

LOCK_FORMAT = 1


@dataclass(frozen=True, slots=True)
class NeededAnswer:
    """An answer that a run used."""

    line: int  # Of the lock file, counted from 1.
    place: str  # Which rollout used it, for people: "train step 1, example '7', sample 0".
    key: bytes
    content_digest: bytes


def needed_keys(path: Path) -> Iterator[bytes]:
    """The keys of `needed_answers`."""
    return (each.key for each in needed_answers(path))


def needed_answers(path: Path, progress: Progress = no_progress) -> Iterator[NeededAnswer]:
    """What the run of the lock file at `path` used; with repeats, in the run's order.

    The lock of a run that was stopped, or is under way, counts as far as it goes. `progress`
    counts the file's bytes.

    Raises:
        LockFileError: there is no such file, or it is no lock file.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.readline()
            _check_header(path, header)
            read = len(header)
            for number, line in enumerate(file, start=2):
                if line.endswith(b"\n"):  # Else the run is writing this line just now.
                    yield from _answers_of(path, number, line)
                read += len(line)
                progress(read, size)
    except OSError as error:
        raise LockFileError(f"{path}: expected a lock file: {error.strerror}") from error


def _check_header(path: Path, line: bytes) -> None:
    try:
        found: Any = json.loads(line)["lock"]
    except (ValueError, KeyError, TypeError):
        raise LockFileError(
            f"{path}: expected a run's lock file; its first line is no header"
        ) from None
    if found != LOCK_FORMAT:
        raise LockFileError(
            f"{path}: expected lock format {LOCK_FORMAT}, got {found}; use the version of "
            "taco-rewards that wrote it"
        )


def _answers_of(path: Path, number: int, line: bytes) -> list[NeededAnswer]:
    try:
        leaf = json.loads(line)
        place = (
            f"{leaf.get('phase')} step {leaf.get('step')}, example {leaf.get('example')!r}, "
            f"sample {leaf.get('sample')}"
        )
        return [
            NeededAnswer(number, place, bytes.fromhex(key), bytes.fromhex(digest))
            for _, key, digest in (*leaf.get("replies", ()), *leaf.get("judgements", ()))
            if key is not None
        ]
    except (ValueError, AttributeError, TypeError, IndexError):
        raise LockFileError(
            f"{path}, line {number}: expected a rollout with its replies; the file was changed "
            "or damaged, so what it needs is not known"
        ) from None
