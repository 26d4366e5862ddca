"""The paper's public data sets, from the hub or a local folder, as records.

Loaded by `datasets` (the extra `data`): a folder holds its Parquet, JSON lines or CSV files under
the names that `datasets` gives splits (`train.parquet`, `test.jsonl`, ...).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trainer.errors import DataError
from trainer.tasks.assembling import SPLITS, Draft, train_or_validation
from trainer.tasks.stdlib_code import without_docstring

Row = Mapping[str, Any]
Rows = Iterator[tuple[str, str | None, Row]]
"""(name, split or None, row)."""


def meetingbank(source: str) -> Iterator[Draft]:
    """Transcripts; the minutes that people wrote stand beside them as answers."""
    for name, split, row in _rows(source, needed=("transcript", "summary")):
        yield Draft(name, {"original_prompt": row["transcript"], "answer": row["summary"]}, split)


def codesearchnet(source: str) -> Iterator[Draft]:
    """Python functions without their docstrings; their first paragraphs are the answers."""
    needed = ("func_code_string", "func_documentation_string")
    for name, split, row in _rows(source, needed=needed, config="python"):
        code, documentation = (row[field] or "" for field in needed)
        summary = " ".join(documentation.split("\n\n")[0].split())
        # Code of another Python leaves nothing, which is reported as an empty original_prompt.
        yield Draft(name, {"original_prompt": without_docstring(code), "answer": summary}, split)


def squad(source: str) -> Iterator[Draft]:
    """Paragraphs, each with all its questions and every answer that a human gave.

    The publisher's validation split is the test data, as in publications: the test split of SQuAD
    has never been published. Validation is a part of its training split, by hash.
    """
    records: dict[str, dict[str, Any]] = {}
    splits: dict[str, str] = {}
    for name, split, row in _rows(source, needed=("context", "question", "answers")):
        context = row["context"] or ""
        answers = list(dict.fromkeys((row["answers"] or {}).get("text") or ()))
        question = {"question": row["question"]} | ({"answer": answers} if answers else {})
        if context not in records:
            records[context] = {"name": name, "original_prompt": context, "questions": []}
            splits[context] = "test" if split != "train" else train_or_validation(context)
        records[context]["questions"].append(question)
    for context, record in records.items():
        yield Draft(record.pop("name"), record, splits[context])


CONVERTERS: dict[str, tuple[Callable[[str], Iterator[Draft]], str, str]] = {
    "meetingbank": (
        meetingbank,
        "huuuyeah/meetingbank",
        "MeetingBank's own (LICENSE.txt of its release): read it before you publish a model",
    ),
    "squad": (squad, "rajpurkar/squad", "CC BY-SA 4.0"),
    "codesearchnet": (
        codesearchnet,
        "code-search-net/code_search_net",
        "each function under the licence of the repository that it comes from",
    ),
}
"""Task -> (converter, its name on the hub, a note on its licence)."""


def _rows(source: str, *, needed: tuple[str, ...], config: str | None = None) -> Rows:
    """Every row of every split, named `split/number`.

    Raises:
        DataError: there is nothing to load, or it lacks a field.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            source, ["public data sets need the extra `data`: pip install 'taco-rewards[data]'"]
        ) from error
    from_hub = source in {hub for _, hub, _ in CONVERTERS.values()}
    try:
        loaded = load_dataset(source, config if from_hub else None)
    except Exception as error:  # `datasets` lets through whatever its readers raise.
        raise DataError(
            source,
            [f"expected a data set's folder, or a name on the hub that can be reached: {error}"],
        ) from error
    for split, rows in loaded.items():
        if missing := [field for field in needed if field not in rows.column_names]:
            raise DataError(
                source,
                [f"{split}: expected the fields {', '.join(needed)}; {', '.join(missing)} missing"],
            )
        for number, row in enumerate(rows):
            yield f"{split}/{number}", split if split in SPLITS else None, row
