"""A disk that is full or may not be written to: one error, whatever was being written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import WriteError


@contextmanager
def written(path: Path) -> Iterator[None]:
    """What is done in here writes `path`.

    Raises:
        WriteError: it could not, for a reason of the disk's or the folder's.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path}: could not be written: {error.strerror or error}; make room, or make it a "
            "place that can be written to, and go on from the last checkpoint with "
            "`taco train --resume RUN`"
        ) from error
