"""Records of a user's own: what is good is split, what is bad is named."""

import json

import pytest

from trainer.errors import DataError
from trainer.tasks.assembling import Draft, assemble
from trainer.tasks.own_records import own_records
from trainer.tasks.registry import Order, find_task

GOOD = {"original_prompt": "Ada leads Falcon.", "answer": "Ada"}


def write(path, text):
    """A file of records."""
    path.write_text(text, encoding="utf-8")
    return path


def test_json_lines_are_named_by_their_line(tmp_path):
    """Empty lines are none; one that is no JSON is a bad record, not the end."""
    lines = [json.dumps(GOOD), "", '{"original_prompt": ', json.dumps("text"), "[" * 100_000]
    drafts = list(own_records(write(tmp_path / "mine.jsonl", "\n".join(lines))))
    assert [draft.name for draft in drafts] == ["1", "3", "4", "5"]
    assert drafts[0] == Draft("1", GOOD)
    assembled = assemble(drafts)
    assert [each.name for each in assembled.left_out] == ["3", "4", "5"]
    reasons = [each.reason for each in assembled.left_out]
    assert reasons[0].startswith("not valid JSON: Expecting value")
    assert reasons[1] == "expected an object with original_prompt, got a string"
    assert reasons[2].startswith("not valid JSON")


def test_line_separators_of_unicode_are_text(tmp_path):
    """JSON lets them stand in a string; only a line feed ends a line."""
    text = "Ada leads.\u2028Bo eats.\x85"
    line = json.dumps({"original_prompt": text}, ensure_ascii=False)
    (draft,) = own_records(write(tmp_path / "mine.jsonl", line))
    assert draft.record["original_prompt"] == text


def test_a_json_object_of_records_keeps_its_names(tmp_path):
    """Bad ones are told with them."""
    path = write(tmp_path / "mine.json", json.dumps({"a": GOOD, "b": {"original_prompt": " "}}))
    assembled = assemble(own_records(path))
    assert [dict(records) for records in assembled.splits.values() if records] == [{"a": GOOD}]
    assert [(each.name, each.reason) for each in assembled.left_out] == [
        ("b", "original_prompt is empty")
    ]


def test_a_file_of_one_s_own_is_a_task(tmp_path):
    """By its path; what is neither a task nor a file is an error that names both."""
    path = write(tmp_path / "mine.jsonl", json.dumps(GOOD))
    assert list(find_task(str(path)).drafts(Order(None, 1, 0))) == [Draft("1", GOOD)]
    with pytest.raises(DataError, match="squad, codesearchnet, or a file of records of your own"):
        find_task(str(tmp_path / "none.jsonl"))
