import ast
from pathlib import Path

import pytest

from trainer.tasks.data import load_examples

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("name", "records"), [("meeting_summary", 6), ("question_answering", 7), ("code_summary", 8)]
)
def test_every_shipped_example_trains_at_once(name, records):
    """Well-formed, with a reference completion for every question."""
    assert len(load_examples(EXAMPLES / f"{name}.json")) == records


def test_no_shipped_example_is_left_out_here():
    """A new file must be added to the list above."""
    assert len(list(EXAMPLES.glob("*.json"))) == 3


def test_the_questions_are_answered_in_the_words_of_the_text():
    """So that F1 against the reference means something."""
    for example in load_examples(EXAMPLES / "question_answering.json"):
        for question in example.questions:
            assert question.reference_completion in example.original_prompt


def test_the_code_is_code():
    """Newlines and indentation survived the JSON."""
    for example in load_examples(EXAMPLES / "code_summary.json"):
        assert ast.parse(example.original_prompt).body
