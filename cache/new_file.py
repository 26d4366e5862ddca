"""A file that is there whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import ExportError


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to, for its owner's eyes only; it becomes `path` at the end.

    Raises:
        ExportError: `path` exists already, or its folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    if path.exists():
        raise ExportError(f"{path} exists: remove it, or name a new file")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        yield partial
        _wait_for_disk(partial)
        partial.rename(path)
        _wait_for_disk(path.parent)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _wait_for_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
