"""Public data sets, as `datasets` reads them from local folders that the tests make."""

import json

import pytest

from trainer.errors import DataError
from trainer.tasks.assembling import assemble
from trainer.tasks.registry import TASKS, Order, find_task

pytest.importorskip("datasets", reason="the extra `data` is not installed")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def assembled(tmp_path):
    """Write rows as JSON lines, one file for each split, and convert them as a task."""

    def run(task, **splits):
        folder = tmp_path / task
        folder.mkdir()
        for split, rows in splits.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        return assemble(find_task(task).drafts(Order(str(folder), 0, 0)))

    return run


def question(context, text, *answers):
    """A row of SQuAD."""
    starts = [0] * len(answers)
    return {
        "context": context,
        "question": text,
        "answers": {"text": list(answers), "answer_start": starts},
    }


def test_squad_has_all_questions_of_a_paragraph_in_one_record(assembled):
    """With every distinct answer; the publisher's validation split is the test data."""
    made = assembled(
        "squad",
        train=[question("Ada leads.", "Who leads?", "Ada")],
        validation=[
            question("Bo eats soup.", "Who eats?", "Bo", "Bo", "bo"),
            question("Bo eats soup.", "What is eaten?", "soup"),
            question("Ada leads.", "Who?", "Ada"),
        ],
    )
    assert list(made.splits["test"].values()) == [
        {
            "original_prompt": "Bo eats soup.",
            "questions": [
                {"question": "Who eats?", "answer": ["Bo", "bo"]},
                {"question": "What is eaten?", "answer": ["soup"]},
            ],
        }
    ]
    (train,) = [*made.splits["train"].values(), *made.splits["validation"].values()]
    assert [part["question"] for part in train["questions"]] == ["Who leads?", "Who?"]


def test_meetingbank_keeps_its_splits_and_names_its_bad_rows(assembled):
    """An empty transcript and one that is in another split already are left out."""
    made = assembled(
        "meetingbank",
        train=[
            {"transcript": "We vote on the bill.", "summary": "A vote."},
            {"transcript": "", "summary": "Nothing."},
        ],
        test=[
            {"transcript": "We vote on the bill.", "summary": "A vote."},
            {"transcript": "We adjourn.", "summary": "The end."},
        ],
    )
    assert made.splits["train"] == {
        "train/0": {"original_prompt": "We vote on the bill.", "answer": "A vote."}
    }
    assert list(made.splits["test"]) == ["test/1"]
    assert [(each.name, each.reason) for each in made.left_out] == [
        ("train/1", "original_prompt is empty"),
        ("test/0", "the same text as train/0"),
    ]


def test_codesearchnet_loses_its_docstrings(assembled):
    """And what this Python cannot read is named."""
    made = assembled(
        "codesearchnet",
        train=[
            {
                "func_code_string": 'def f(x):\n    """Give x.\n\n    More."""\n    return x',
                "func_documentation_string": "Give x.\n\n    More.",
            },
            {"func_code_string": "def g(x): print x", "func_documentation_string": "Print x."},
        ],
    )
    assert made.splits["train"] == {
        "train/0": {"original_prompt": "def f(x):\n    return x", "answer": "Give x."}
    }
    assert [each.name for each in made.left_out] == ["train/1"]


def test_a_folder_without_the_fields_is_said(assembled):
    """With those that it should have."""
    with pytest.raises(DataError, match="expected the fields transcript, summary; summary missing"):
        assembled("meetingbank", train=[{"transcript": "x"}])


def test_a_source_that_is_none_is_said(tmp_path):
    """A folder with nothing in it."""
    with pytest.raises(DataError, match="expected a data set's folder, or a name on the hub"):
        assemble(find_task("squad").drafts(Order(str(tmp_path), 0, 0)))


def test_every_task_has_a_licence_note_and_a_description():
    """The paper's three and their stand-ins."""
    assert list(TASKS) == [
        "meeting-qa", "meeting-summary", "code-summary", "meetingbank", "squad", "codesearchnet",
    ]  # fmt: skip
    assert all(task.licence and task.description for task in TASKS.values())
    with pytest.raises(DataError, match="expected one of meeting-qa, "):
        find_task("meetings")
