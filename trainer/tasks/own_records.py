"""Records of a user's own, from one file: a JSON object of them, or JSON lines, one a line."""

import json
from collections.abc import Iterator
from pathlib import Path

from trainer.tasks.assembling import Draft
from trainer.tasks.data import read_records, read_text

LINES = ".jsonl"


def own_records(path: Path) -> Iterator[Draft]:
    """Every record of a file, good or bad; of JSON lines, one that cannot be read is a bad one.

    Raises:
        DataError: the file cannot be read, or is no JSON object of records.
    """
    if path.suffix == LINES:
        yield from _lines(path)
        return
    for name, record in read_records(path).items():
        yield Draft(name, record)


def _lines(path: Path) -> Iterator[Draft]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield Draft(str(number), json.loads(line))
        except (json.JSONDecodeError, RecursionError) as error:
            yield Draft(str(number), None, problem=f"not valid JSON: {error}")
