"""From raw records to a task's data files: checked one by one, split by hash, described.

A bad record is left out and named with the reason; it never ends the work.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import DataError
from trainer.tasks.data import data_digest, unit_hash, write_records
from trainer.tasks.records import Record, record_problems

SPLITS = ("train", "validation", "test")
LONGEST = 1_000_000
"""Characters of a prompt; a longer one is a mistake more often than a document."""

_VALIDATION_UP_TO = 0.05
_TEST_UP_TO = 0.20


@dataclass(frozen=True, slots=True)
class Draft:
    """One raw record on its way into a data file."""

    name: str
    """Names it where it came from, for people."""
    record: Any
    """May be bad in any way."""
    split: str | None = None
    """The publisher's own; None: by the hash of its text."""
    problem: str | None = None
    """Why there is no record at all; None: there is one."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One record that is in no file, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Assembled:
    """A task's records."""

    splits: Mapping[str, Mapping[str, Record]]
    """Split -> the name of each record -> the record."""
    left_out: tuple[LeftOut, ...]


def assemble(drafts: Iterable[Draft]) -> Assembled:
    """Check every record and give it its split.

    The hash is of the text, so that a record's side depends on nothing else, not even on the order;
    a text that came before is left out, whichever split it was in.
    """
    splits: dict[str, dict[str, Record]] = {name: {} for name in SPLITS}
    left_out: list[LeftOut] = []
    seen: dict[str, str] = {}
    for draft in drafts:
        reason = _fault(draft, seen)
        if reason:
            left_out.append(LeftOut(draft.name, reason))
            continue
        text = _text(draft.record)
        seen[_digest(text)] = draft.name
        splits[draft.split or split_of(text)][draft.name] = draft.record
    return Assembled(splits, tuple(left_out))


def split_of(text: str) -> str:
    """Test for 15 % of all texts, validation for 5 %, else train."""
    place = unit_hash(text)
    if place < _VALIDATION_UP_TO:
        return "validation"
    return "test" if place < _TEST_UP_TO else "train"


def train_or_validation(text: str) -> str:
    """The same for data whose test split is the publisher's: validation for 5 %, else train."""
    return "validation" if unit_hash(text) < _VALIDATION_UP_TO else "train"


def write_task(folder: Path, assembled: Assembled) -> dict[str, Any]:
    """Write one data file for each split.

    Returns:
        For each split that has records: path, number of records, and the digest of the data.

    Raises:
        DataError: nothing is left to write, or a file cannot be written.
    """
    if not assembled.splits["train"]:
        reasons = [f"{each.name}: {each.reason}" for each in assembled.left_out[:10]]
        raise DataError(str(folder), ["no good record is left to train on", *reasons])
    files = {}
    for name, records in assembled.splits.items():
        path = folder / f"{name}.json"
        if records:
            write_records(path, records)
            files[name] = {
                "path": str(path),
                "records": len(records),
                "sha256": data_digest(path),
            }
        else:  # What other data left there is no part of this.
            path.unlink(missing_ok=True)
    return files


def _fault(draft: Draft, seen: Mapping[str, str]) -> str | None:
    if draft.problem:
        return draft.problem
    if problems := list(record_problems(draft.record)):
        return "; ".join(problems)
    text = _text(draft.record)
    if len(text) > LONGEST:
        return f"original_prompt has {len(text):,} characters, more than {LONGEST:,}"
    if earlier := seen.get(_digest(text)):
        return f"the same text as {earlier}"
    return None


def _text(record: Record) -> str:
    prompt = record["original_prompt"]
    return "\n\n".join(prompt) if isinstance(prompt, list) else prompt


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
