"""The right to write to a store: an operating-system lock that dies with its process."""

import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cache.errors import StoreLocked


@dataclass(frozen=True, slots=True)
class WriterLock:
    """A lock on a file beside the database; held until `release` or the end of the process."""

    descriptor: int

    @classmethod
    def acquire(cls, store: Path) -> Self:
        """Take the writer's lock of `store`.

        The lock is `flock`, which belongs to the open file: another thread or a second store of
        this same process is refused too, as it would not be with POSIX record locks.

        Raises:
            StoreLocked: another process (or this one) holds it.
            OSError: the lock file cannot be made.
        """
        path = store.with_name(store.name + ".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _describe(os.read(descriptor, 1000))
            os.close(descriptor)
            raise StoreLocked(_refusal(store, holder)) from error
        _write_holder(descriptor)
        return cls(descriptor)

    def release(self) -> None:
        """Give the lock back. The file stays: removing it would race with the next holder."""
        os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def writer_of(store: Path) -> str | None:
    """Who holds the writer's lock of `store`; None: nobody.

    To ask, the lock is shared for a moment, in which a writer that starts would be refused.
    """
    try:
        descriptor = os.open(store.with_name(store.name + ".lock"), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe(os.read(descriptor, 1000))
    else:
        return None
    finally:
        os.close(descriptor)


def _write_holder(descriptor: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _describe(content: bytes) -> str:
    try:
        holder = json.loads(content)
    except ValueError:  # The holder has the lock but has not written its name yet.
        return "another process"
    return f"process {holder['pid']} on {holder['host']} (since {holder['since']})"


def _refusal(store: Path, holder: str) -> str:
    return (
        f"{store} is open for writing in {holder}; one process writes a store. Ask that process "
        "over HTTP (set TACO_TEACHER_URL), stop it, or open the store read-only. "
        "Several writers at once need PostgreSQL."
    )
