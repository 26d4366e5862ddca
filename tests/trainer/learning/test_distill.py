"""Stage 1: labels from a teacher that deletes words, and what a compressor learns from them."""

import pytest

from trainer.errors import DataError, TooManyFailures
from trainer.learning.distill import Schedule, agreement, distill
from trainer.learning.extracts import ask_for_extracts, label, texts_to_shorten
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.words import CompressionOptions
from trainer.tasks.data import load_examples
from trainer.types import Example, Outcome, TeacherReply


def keep_capitals(items):
    """A teacher that keeps the capitalised words."""
    return [
        TeacherReply(
            Outcome.SCORED, " ".join(word for word in item.text.split() if word[0].isupper())
        )
        for item in items
    ]


@pytest.fixture
def compressor(base):
    """The tests' base, anew."""
    return PromptCompressorReinforce(str(base), "cpu", length_tokenizer="policy")


@pytest.fixture(scope="module")
def examples(meetings):
    """The tests' meetings."""
    return load_examples(meetings)


def _silent(_line):
    pass


def test_the_compressor_learns_what_the_teacher_keeps(compressor, examples):
    """Also of texts that it was not trained on; nothing was aligned badly."""
    many = [Example(f"{n}", (f"{e.contexts[0]} {n}",), ()) for n in range(6) for e in examples]
    schedule = Schedule(epochs=4, batch_size=8, lr=5e-3)
    distilled = distill(compressor, many, keep_capitals, schedule, report=_silent)
    assert distilled.agreement_after > max(0.9, distilled.agreement_before)
    assert agreement(compressor, distilled.extracts) > 0.9
    assert distilled.unanswered == distilled.left_out == 0
    assert len(distilled.extracts) < distilled.texts == len(many)
    assert 0.1 < distilled.kept_share < 0.5


def test_a_label_is_where_its_word_is(compressor):
    """Words of the text, kept where the extract has them."""
    segmenter = compressor.segmenter(CompressionOptions())
    extract = label("Anna leads the project until Friday.", "Anna project Friday", segmenter)
    [(chunk, kept)] = extract.labelled
    words = [word for word, keep in zip(chunk.words, kept, strict=True) if keep]
    assert words == ["Anna", "project", "Friday"]


def test_a_long_text_is_shortened_in_pieces(compressor, examples):
    """No text is longer than what the model reads at once, and none is asked for twice."""
    long = Example("long", (" ".join(e.contexts[0] for e in examples),), ())
    segmenter = compressor.segmenter(CompressionOptions(), 64)
    texts = texts_to_shorten([long, long], segmenter)
    assert len(texts) == len(set(texts)) > 3
    for text in texts:
        [chunk] = segmenter.segment([text]).chunks
        assert len(chunk.piece_ids) <= 64


def test_a_refused_text_is_left_out(compressor, examples):
    """The others are learnt from."""

    def refuse_first(items):
        return [TeacherReply(Outcome.REFUSED, error="content_filter"), *keep_capitals(items)[1:]]

    schedule = Schedule(epochs=1, lr=1e-4)
    assert distill(compressor, examples, refuse_first, schedule, report=_silent).unanswered == 1


def test_too_many_failures_train_nothing():
    """The reason is said, and that asking again costs less."""

    def fail(items):
        return [TeacherReply(Outcome.FAILED, error="upstream_error: away") for _ in items]

    with pytest.raises(TooManyFailures, match=r"2 of 2 .*upstream_error: away.*is stored"):
        ask_for_extracts(["a", "b"], fail, max_failed_share=0.2)


def test_an_answer_that_is_no_extract_is_refused(compressor, examples):
    """Nothing of it is in the text: there is nothing to learn."""

    def chat(items):
        return [TeacherReply(Outcome.SCORED, "Zounds!") for _ in items]

    with pytest.raises(DataError, match="look at the instruction"):
        distill(compressor, examples, chat, Schedule(), report=_silent)


def test_no_text_is_an_error(compressor):
    """A file of empty records has nothing to shorten."""
    with pytest.raises(DataError, match="no record has a word"):
        distill(compressor, [Example("0", (" ",), ())], keep_capitals, Schedule())
