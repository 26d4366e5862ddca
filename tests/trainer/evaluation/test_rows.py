"""Rows of a table: ways to compress the same examples, judged alike."""

import re
from dataclasses import replace

import pytest

from trainer.evaluation import rows
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import Target
from trainer.policy.words import CompressionOptions
from trainer.tasks.data import load_examples
from trainer.tasks.rules import STOP_WORDS, document_frequencies
from trainer.types import Outcome, TeacherReply

OPTIONS = CompressionOptions()


@pytest.fixture(scope="module")
def compressor(base):
    """Loaded once; nothing here changes it."""
    return PromptCompressorReinforce(str(base), "cpu", length_tokenizer="policy")


@pytest.fixture(scope="module")
def examples(meetings):
    """Six meetings with two questions each."""
    return load_examples(meetings)[:6]


@pytest.fixture(scope="module")
def segmenter(compressor):
    """Without options."""
    return compressor.segmenter(OPTIONS)


def knows_what_it_sees(items):
    """Answers with the whole text."""
    return [TeacherReply(Outcome.SCORED, item.text) for item in items]


def test_no_compression_is_a_row_of_its_own(examples, segmenter, compressor):
    """The originals, at rate 1."""
    texts = rows.uncompressed(examples, segmenter)
    assert [text.text for text in texts] == [example.original_prompt for example in examples]
    row = rows.judge("none", texts, examples, knows_what_it_sees, "f1")
    assert (row.name, row.achieved_rate) == ("none", 1.0)
    assert row.tokens == tuple(
        compressor.length_tokenizer.count(example.original_prompt) for example in examples
    )


@pytest.mark.parametrize("rule", ["random", "rarest"])
def test_rules_keep_within_each_examples_budget(examples, segmenter, rule):
    """They fill it up to a few tokens."""
    texts = [example.original_prompt for example in examples]
    chosen = {
        "random": rows.random_words(0),
        "rarest": rows.rarest_words(document_frequencies(texts)),
    }[rule]
    budgets = [30, 40, 50, 30, 40, 50]
    compressions = rows.by_rule(chosen, examples, segmenter, budgets)
    for compression, budget, example in zip(compressions, budgets, examples, strict=True):
        assert budget - 8 <= compression.compressed_tokens <= budget + 2
        words = re.findall(r"\w+", compression.text)
        assert set(words) <= set(re.findall(r"\w+", example.original_prompt))


def test_random_words_are_the_same_for_the_same_seed(examples, segmenter):
    """And others for another."""
    drawn = [
        [c.text for c in rows.by_rule(rows.random_words(seed), examples, segmenter, [40] * 6)]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_policys_row_is_what_is_deployed(examples, compressor):
    """At the requested rate, exactly so where that is asked for."""
    target = Target(rate=0.3)
    stock, exact = (
        rows.by_policy(compressor, examples, OPTIONS, target, exact=exact)
        for exact in (False, True)
    )
    achieved = [
        rows.judge("x", texts, examples, knows_what_it_sees, "f1").achieved_rate
        for texts in (stock, exact)
    ]
    assert achieved[0] == pytest.approx(0.3, abs=0.05)
    assert achieved[1] == pytest.approx(0.3, abs=0.015)


def test_every_question_of_every_example_is_asked_on_the_compressed_text(examples, segmenter):
    """Scores are in that order; what was not answered has none and is not in the mean."""
    asked = []

    def teacher(items):
        asked.extend(items)
        good = [
            TeacherReply(Outcome.SCORED, question.reference_completion)
            for example in examples
            for question in example.questions
        ]
        return [TeacherReply(Outcome.FAILED), TeacherReply(Outcome.SCORED, ""), *good[2:]]

    texts = rows.uncompressed(examples, segmenter)
    row = rows.judge("x", texts, examples, teacher, "f1")
    assert [(item.text, item.question) for item in asked] == [
        (example.original_prompt, question.question)
        for example in examples
        for question in example.questions
    ]
    assert row.scores.values == (None, 0.0, *[1.0] * 10)
    assert row.score == pytest.approx(10 / 11)


def test_the_first_words_are_those_of_the_whole_prompt(examples, segmenter):
    """However many chunks it has, what is kept is where the prompt begins."""
    long = replace(examples[0], contexts=(" ".join([examples[0].original_prompt] * 12),))
    assert len(segmenter.segment(long.contexts).chunks) > 1
    (compression,) = rows.by_beginning([long], segmenter, [40])
    assert 30 <= compression.compressed_tokens <= 40
    words = re.findall(r"\w+", compression.text)
    assert words == re.findall(r"\w+", long.original_prompt)[: len(words)]


def test_stop_words_go_first(examples, segmenter):
    """None is kept while there is another word to drop."""
    (compression,) = rows.by_rule(rows.no_stop_words(0), examples[:1], segmenter, [20])
    words = re.findall(r"\w+", compression.text.lower())
    assert words
    assert not STOP_WORDS & set(words)
