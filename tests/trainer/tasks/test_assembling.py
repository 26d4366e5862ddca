"""From raw records to data files: nothing bad ends the work, everything left out is named."""

import json

import pytest

from trainer.errors import DataError
from trainer.tasks.assembling import Draft, LeftOut, assemble, split_of, write_task
from trainer.tasks.data import load_examples


def draft(name, text, split="train", **fields):
    """A record with this text."""
    return Draft(name, {"original_prompt": text, **fields}, split)


def test_every_bad_record_is_left_out_with_its_reason():
    """Empty, no text, missing, an empty list of answers, 1 MB, and a text that came before."""
    long = "word " * 250_000
    assembled = assemble(
        [
            draft("good", "Ada leads."),
            draft("empty", " "),
            draft("number", 7),
            Draft("missing", {}),
            draft("unanswered", "Bo leads.", answer=[]),
            draft("long", long),
            draft("again", "Ada leads.", split="test"),
            draft("other language", "阿达领导这个项目。"),
        ]
    )
    assert list(assembled.splits["train"]) == ["good", "other language"]
    assert assembled.left_out == (
        LeftOut("empty", "original_prompt is empty"),
        LeftOut("number", "original_prompt: expected a string, got a number"),
        LeftOut("missing", "original_prompt is missing"),
        LeftOut("unanswered", "answer is an empty list"),
        LeftOut("long", "original_prompt has 1,250,000 characters, more than 1,000,000"),
        LeftOut("again", "the same text as good"),
    )


def test_a_texts_split_is_fixed_by_its_hash():
    """About 80, 5 and 15 in a hundred, the same on every machine and in every order."""
    texts = [f"text {number}" for number in range(4000)]
    counts = dict.fromkeys(("train", "validation", "test"), 0)
    for text in texts:
        counts[split_of(text)] += 1
    assert counts == {"train": 3211, "validation": 218, "test": 571}
    drafts = [draft(text, text, None) for text in texts[:50]]
    forwards, backwards = assemble(drafts), assemble(drafts[::-1])
    for split, records in forwards.splits.items():
        assert dict(records) == dict(backwards.splits[split])


def test_files_are_described_by_size_and_checksum(tmp_path):
    """An empty split has no file; what is written loads."""
    assembled = assemble([draft("a", "Ada leads."), draft("b", "Bo eats.", "test")])
    files = write_task(tmp_path / "task", assembled)
    assert {name: entry["records"] for name, entry in files.items()} == {"train": 1, "test": 1}
    examples = load_examples(tmp_path / "task/train.json", require_references=False)
    assert [example.id for example in examples] == ["a"]
    again = write_task(tmp_path / "again", assembled)
    assert [entry["sha256"] for entry in files.values()] == [
        entry["sha256"] for entry in again.values()
    ]
    assert json.loads((tmp_path / "task/test.json").read_text()) == {
        "b": {"original_prompt": "Bo eats."}
    }


def test_nothing_good_is_an_error_with_the_reasons(tmp_path):
    """And no folder is left behind."""
    with pytest.raises(
        DataError, match=r"no good record is left(.|\n)*bad: original_prompt is emp"
    ):
        write_task(tmp_path / "task", assemble([draft("bad", "")]))
    assert not (tmp_path / "task").exists()
