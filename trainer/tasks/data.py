"""Data files in the reference's JSON: read, checked, split, digested and written.

What a record may be is in `records`.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.errors import DataError
from trainer.tasks.records import Record, json_name, record_problems, to_example
from trainer.types import Example

_SHAPE = 'expected a JSON object of records {"0": {"original_prompt": ..., "gpt_output": ...}, ...}'


def load_examples(path: Path, *, require_references: bool = True) -> list[Example]:
    """Reads the examples of a data file, in its order.

    Args:
        path: The data file.
        require_references: Whether every question must have its `gpt_output`; without, a missing
            one becomes an empty reference completion.

    Raises:
        DataError: The file cannot be read as records; every bad record is named.
    """
    return to_examples(read_records(path), path, require_references=require_references)


def to_examples(
    records: Mapping[str, Any], path: Path, *, require_references: bool = True
) -> list[Example]:
    """Checks records and makes them examples; `path` names their file in errors.

    Raises:
        DataError: Some records are bad; every one is named.
    """
    problems = [
        f"record {id_!r}: {problem}"
        for id_, record in records.items()
        for problem in record_problems(record)
    ]
    if problems:
        advice = f"`taco data {path} -o FOLDER` leaves such records out"
        raise DataError(str(path), problems, advice)
    examples = [to_example(id_, record) for id_, record in records.items()]
    if require_references:
        _require_references(examples, path)
    return examples


def read_records(path: Path) -> dict[str, Any]:
    """Reads a data file's records as they are.

    Raises:
        DataError: There is no such file, or it is empty or no JSON object, or a key occurs twice.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError(str(path), [f"the file is empty; {_SHAPE}"])
    duplicates: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> Record:
        seen: Record = {}
        for key, value in pairs:
            if key in seen:
                duplicates.append(f"the key {key!r} occurs twice in one object; rename or drop one")
            seen[key] = value
        return seen

    try:
        records = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(str(path), [f"not valid JSON at {place}: {error.msg}"]) from error
    if not isinstance(records, dict):
        raise DataError(str(path), [f"{_SHAPE}, got {json_name(records)}"])
    if not records:
        raise DataError(str(path), [f"there are no records in it; {_SHAPE}"])
    if duplicates:
        raise DataError(str(path), duplicates)
    return records


def write_records(path: Path, records: Mapping[str, Any]) -> None:
    """Writes a data file whole or not at all, and makes its folder if need be.

    Raises:
        DataError: The folder or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(records, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(str(path), [f"cannot be written: {error.strerror}"]) from error


def data_digest(path: Path) -> str:
    """SHA-256 (hex) of what a data file says, in the order in which it says it.

    White space, the order of a record's fields and escapes do not count, so that a file that was
    only formatted anew stays the same data; the order of the records does, since training follows
    it.

    Raises:
        DataError: As `read_records`.
    """
    records = list(read_records(path).items())
    canonical = json.dumps(records, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def split_validation(
    examples: Sequence[Example], share: float = 0.05
) -> tuple[list[Example], list[Example]]:
    """Splits examples by the hash of their ids: a record's side never depends on the others.

    Returns:
        (train, validation), each in the given order. Validation is about `share` of the examples,
        and empty where it would leave nothing to train on.
    """
    train = [example for example in examples if unit_hash(example.id) >= share]
    validation = [example for example in examples if unit_hash(example.id) < share]
    return (train, validation) if train else (list(examples), [])


def shared_texts(train: Sequence[Example], held_out: Sequence[Example], source: str) -> str | None:
    """A warning of held-out examples whose text is trained on: they are no test of new texts.

    Args:
        train: what is trained on.
        held_out: what is validated or evaluated on.
        source: of the held-out examples, for the message.

    Returns:
        The sentence that names them; None where there are none.
    """
    trained_on = {example.contexts for example in train}
    shared = [example.id for example in held_out if example.contexts in trained_on]
    if not shared:
        return None
    return (
        f"{source}: {len(shared)} of its {len(held_out)} texts are training texts, too "
        f"({named(shared)}): scores on them say nothing about new texts; `taco data` leaves such "
        "duplicates out"
    )


def named(ids: Sequence[str]) -> str:
    """The first ten of many ids, for a message."""
    return ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")


def unit_hash(text: str) -> float:
    """A number in [0, 1) that only the text determines."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def read_text(path: Path) -> str:
    """A data file's text.

    Raises:
        DataError: there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8: byte {error.start} cannot be decoded; save it as UTF-8"
        raise DataError(str(path), [problem]) from error
    except OSError as error:
        raise DataError(str(path), [f"cannot be read: {error.strerror}"]) from error


def _require_references(examples: Sequence[Example], path: Path) -> None:
    missing = [
        example.id
        for example in examples
        if not all(question.reference_completion.strip() for question in example.questions)
    ]
    if missing:
        count = f"{len(missing)} of {len(examples)} records ({named(missing)})"
        advice = (
            f"`taco prepare {path} --config CONFIG` fills it, with the config that trains on it"
        )
        raise DataError(str(path), [f"gpt_output is missing in {count}; {advice}"])
