"""Held-out texts that are trained on, too, are named."""

from trainer.tasks.data import shared_texts
from trainer.types import Example, Question


def _examples(**texts):
    question = Question(None, "", ())
    return [Example(id_, (text,), (question,)) for id_, text in texts.items()]


def test_what_is_also_trained_on_is_named():
    """With how many there are, and nothing where there is none."""
    train = _examples(a="Ada leads.", b="Bo eats.")
    assert shared_texts(train, _examples(c="Cleo sings."), "test.json") is None
    warning = shared_texts(train, _examples(c="Bo eats.", d="Dan runs."), "test.json")
    assert warning is not None
    assert warning.startswith("test.json: 1 of its 2 texts are training texts, too (c): ")
