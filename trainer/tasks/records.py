"""What a record of a data file may be.

The reference's shape, and two more for questions:

    {"original_prompt": TEXT, "gpt_output": TEXT}                                 no question
    {"original_prompt": TEXT, "question": TEXT, "gpt_output": TEXT}               one question
    {"original_prompt": TEXT, "questions": [{"question": TEXT, "gpt_output": TEXT}, ...]}

`original_prompt` may be a list of contexts; `answer`, a human's or a list of equally good ones,
may stand beside any `gpt_output`; with `questions`, `gpt_output` may also be a list on the record
itself. Other fields are left alone.
"""

from collections.abc import Iterator
from typing import Any

from trainer.types import Example, Question

Record = dict[str, Any]


def record_problems(record: Any) -> Iterator[str]:
    """Everything that is wrong with a record, one sentence each."""
    if not isinstance(record, dict):
        yield f"expected an object with original_prompt, got {json_name(record)}"
        return
    yield from _prompt_problems(record)
    if "questions" in record:
        yield from _questions_problems(record)
    else:
        yield from _part_problems(record)


def _prompt_problems(record: Record) -> Iterator[str]:
    if "original_prompt" not in record:
        yield "original_prompt is missing"
        return
    prompt = record["original_prompt"]
    if isinstance(prompt, list):
        if not prompt:
            yield "original_prompt is an empty list"
        for number, context in enumerate(prompt):
            yield from _text_problems(f"original_prompt[{number}]", context)
    else:
        yield from _text_problems("original_prompt", prompt)


def _questions_problems(record: Record) -> Iterator[str]:
    questions = record["questions"]
    if not isinstance(questions, list) or not questions:
        yield f"questions: expected a list of objects, got {json_name(questions)}"
        return
    if not all(isinstance(part, dict) for part in questions):
        yield "questions: every one must be an object {question, gpt_output, answer}"
        return
    for field in ("question", "answer"):
        if field in record:
            yield f"{field} stands beside questions; put it into one of them"
    for number, part in enumerate(questions):
        if "question" not in part:
            yield f"questions[{number}].question is missing"
        yield from _part_problems(part, f"questions[{number}].")
    if record.get("gpt_output") is not None:
        yield from _reference_list_problems(record["gpt_output"], questions)


def _reference_list_problems(references: Any, questions: list[Record]) -> Iterator[str]:
    if not isinstance(references, list):
        yield f"gpt_output: with questions expected a list, got {json_name(references)}"
        return
    if len(references) != len(questions):
        yield f"gpt_output has {len(references)} entries for {len(questions)} questions"
    if any(part.get("gpt_output") is not None for part in questions):
        yield "gpt_output stands on the record and in its questions; keep one of them"
    for number, reference in enumerate(references):
        if reference is not None:
            yield from _text_problems(f"gpt_output[{number}]", reference, may_be_empty=True)


def _part_problems(part: Record, prefix: str = "") -> Iterator[str]:
    for field in ("question", "gpt_output"):
        if part.get(field) is not None:
            may_be_empty = field == "gpt_output"
            yield from _text_problems(prefix + field, part[field], may_be_empty=may_be_empty)
    answer = part.get("answer")
    if isinstance(answer, list):
        if not answer:
            yield f"{prefix}answer is an empty list"
        for number, text in enumerate(answer):
            yield from _text_problems(f"{prefix}answer[{number}]", text)
    elif answer is not None:
        yield from _text_problems(f"{prefix}answer", answer)


def _text_problems(name: str, value: Any, *, may_be_empty: bool = False) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{name}: expected a string, got {json_name(value)}"
    elif not value.strip() and not may_be_empty:
        yield f"{name} is empty"
    elif not _is_unicode(value):
        yield f"{name} contains half of a surrogate pair, which UTF-8 cannot carry"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_example(id_: str, record: Record) -> Example:
    """A record without problems as an example; a missing reference completion becomes empty."""
    prompt = record["original_prompt"]
    return Example(
        id=id_,
        contexts=tuple(prompt) if isinstance(prompt, list) else (prompt,),
        questions=tuple(
            Question(part.get("question"), part.get("gpt_output") or "", _answers(part))
            for part in _question_parts(record)
        ),
    )


def _answers(part: Record) -> tuple[str, ...]:
    answer = part.get("answer")
    if answer is None:
        return ()
    return tuple(answer) if isinstance(answer, list) else (answer,)


def _question_parts(record: Record) -> list[Record]:
    """The record's `{question, gpt_output, answer}`, one for each thing that is asked."""
    if "questions" not in record:
        return [record]
    if not isinstance(record.get("gpt_output"), list):
        return list(record["questions"])
    pairs = zip(record["questions"], record["gpt_output"], strict=True)
    return [{**part, "gpt_output": reference} for part, reference in pairs]


def json_name(value: Any) -> str:
    """What kind of value this is, in JSON's words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
