"""Fills a data file's missing `gpt_output` with the teacher's answers on the originals.

The file is saved as it fills, and whatever ends the work early: asking again resumes where it
stopped. What the teacher refused or failed to answer stays missing and is reported.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.tasks.data import read_records, to_examples, write_records
from trainer.tasks.records import Record
from trainer.types import Outcome, TeacherItem, TeacherReply

Ask = Callable[[Sequence[TeacherItem]], Sequence[TeacherReply]]


@dataclass(frozen=True, slots=True)
class Unfilled:
    """One reference completion that the teacher did not give."""

    example_id: str
    question: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was done to a data file."""

    filled: int
    """Reference completions written by this call."""
    present: int
    """Reference completions that the file had before."""
    unfilled: tuple[Unfilled, ...]


@dataclass(frozen=True, slots=True)
class _Gap:
    """A missing reference completion: where it belongs and what to ask for it."""

    example_id: str
    question_index: int
    item: TeacherItem


def prepare(
    path: Path,
    ask: Ask,
    *,
    output: Path | None = None,
    batch_size: int = 64,
    batches_per_save: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> Preparation:
    """Asks for every missing reference completion of a data file.

    Args:
        path: The data file.
        ask: Answers items, in their order.
        output: Where to write; None: the data file itself.
        batch_size: Items asked at a time.
        batches_per_save: How often the file is written meanwhile.
        on_progress: Called after each batch with (asked, to ask).

    Raises:
        DataError: The data file is bad, or the output cannot be written.
    """
    records = read_records(path)
    gaps, present = _find_gaps(records, path)
    if not gaps and output in (None, path):
        return Preparation(0, present, ())
    unfilled: list[Unfilled] = []
    asked = 0
    try:
        for number, batch in enumerate(_batches(gaps, batch_size), start=1):
            replies = ask([gap.item for gap in batch])
            for gap, reply in zip(batch, replies, strict=True):
                reason = _why_unusable(reply)
                if reason is None:
                    _fill(records[gap.example_id], gap.question_index, reply.text)
                else:
                    unfilled.append(Unfilled(gap.example_id, gap.item.question, reason))
            asked += len(batch)
            if on_progress:
                on_progress(asked, len(gaps))
            if number % batches_per_save == 0:
                write_records(output or path, records)
    finally:
        write_records(output or path, records)
    return Preparation(len(gaps) - len(unfilled), present, tuple(unfilled))


def _find_gaps(records: dict[str, Record], path: Path) -> tuple[list[_Gap], int]:
    """What is missing, and how many reference completions are there."""
    examples = to_examples(records, path, require_references=False)
    gaps = [
        _Gap(example.id, index, TeacherItem(example.original_prompt, question.question))
        for example in examples
        for index, question in enumerate(example.questions)
        if not question.reference_completion.strip()
    ]
    return gaps, sum(len(example.questions) for example in examples) - len(gaps)


def _batches(gaps: Sequence[_Gap], size: int) -> Iterator[Sequence[_Gap]]:
    return (gaps[start : start + size] for start in range(0, len(gaps), size))


def _why_unusable(reply: TeacherReply) -> str | None:
    if reply.outcome is not Outcome.SCORED:
        return f"{reply.outcome}: {reply.error}"
    return None if reply.text.strip() else "the answer is empty"


def _fill(record: Record, question_index: int, text: str) -> None:
    if isinstance(record.get("gpt_output"), list):
        record["gpt_output"][question_index] = text
    elif "questions" in record:
        record["questions"][question_index]["gpt_output"] = text
    else:
        record["gpt_output"] = text
