"""Which keys a training run needs: read from its lock file.

A lock file has one JSON document a line: a header `{"lock": 1, ...}`, leaves, and (once the run
is finished) a trailer `{"leaves": ..., "root": ...}`. A leaf has `"replies": [[outcome,
fingerprint, content digest], ...]`, the last two as hexadecimal digits or null.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache.errors import LockFileError

LOCK_FORMAT = 1


def needed_keys(path: Path) -> Iterator[bytes]:
    """The keys that the run of the lock file at `path` used; with repeats, in the run's order.

    The lock of a run that was stopped, or is under way, counts as far as it goes.

    Raises:
        LockFileError: there is no such file, or it is no lock file.
    """
    try:
        with path.open("rb") as file:
            _check_header(path, file.readline())
            for number, line in enumerate(file, start=2):
                if line.endswith(b"\n"):  # Else the run is writing this line just now.
                    yield from _keys_of(path, number, line)
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


def _keys_of(path: Path, number: int, line: bytes) -> list[bytes]:
    try:
        replies = json.loads(line).get("replies", ())
        return [bytes.fromhex(reply[1]) for reply in replies if reply[1] is not None]
    except (ValueError, AttributeError, TypeError, IndexError):
        raise LockFileError(
            f"{path}, line {number}: expected a rollout with its replies; the file was changed "
            "or damaged, so what it needs is not known"
        ) from None
