"""Examples as the page shows them, from compressions and replies made by hand."""

import numpy as np

from tests.run_folders import HOSTILE
from trainer.evaluation.metrics import score_replies
from trainer.evaluation.run_report.compressed import Compressed
from trainer.evaluation.run_report.examples import (
    MOST_WORDS,
    arrange,
    comparisons_of,
    items_of,
)
from trainer.policy.cuts import Cut
from trainer.policy.inference import Compression
from trainer.rollouts.scores import load_metric
from trainer.rollouts.scoring import Scorer
from trainer.types import Example, Outcome, Question, TeacherReply
from trainer.visible import visible

F1 = load_metric("f1")
SCORER = Scorer("f1", F1.signature, F1)

ONE = Example(
    "7", ("Ann met Bob.",), (Question("Who?", "Bob"), Question("When?", "Monday", ("Monday",)))
)


def compression(keep: str, words: str = "Ann met Bob .") -> Compression:
    """Of one chunk; `keep` has a 1 for each word kept."""
    split = tuple(words.split(" "))
    mask = np.array([bit == "1" for bit in keep])
    kept = " ".join(word for word, stays in zip(split, mask, strict=True) if stays)
    return Compression(kept, (Cut(split, mask),), len(split), int(mask.sum()))


def answered(text: str) -> TeacherReply:
    """An answer from the store."""
    return TeacherReply(Outcome.SCORED, text)


MISS = TeacherReply(Outcome.FAILED, error="cache_miss: not in the store")


def gallery(replies, *compressions, example=ONE, rates=(0.3, 0.5)):
    """One side with a compression for each rate."""
    side = Compressed("trained", tuple((each,) for each in compressions))
    return shown([side], [example], rates, 0.45, replies)


def shown(sides, examples, rates, start, replies):
    """What is shown where the teacher said this; None: there is none to look it up at."""
    if replies is None:
        return arrange(sides, examples, rates, start, None, "f1")
    compared = [[each] for each in comparisons_of(sides, examples, replies)]
    scores = score_replies(SCORER, replies, compared).values
    return arrange(sides, examples, rates, start, list(zip(replies, scores, strict=True)), "f1")


def test_every_question_is_asked_on_every_text_in_order():
    """By side, rate, example, question: the order in which replies are taken back."""
    sides = [
        Compressed("base", ((compression("1000"),), (compression("1100"),))),
        Compressed("trained", ((compression("0010"),), (compression("0110"),))),
    ]
    asked = [(item.text, item.question) for item in items_of(sides, [ONE])]
    assert asked == [
        (text, question)
        for text in ("Ann", "Ann met", "Bob", "met Bob")
        for question in ("Who?", "When?")
    ]
    replies = [answered(f"{text} {question}") for text, question in asked]
    [example] = shown(sides, [ONE], (0.3, 0.5), 0.5, replies).examples
    found = [
        answer.text for side in example.sides for moment in side.at for answer in moment.answers
    ]
    assert found == [reply.text for reply in replies]


def test_a_rate_shows_its_words_lengths_answers_and_reward():
    """Neighbours of one kind run together, the space before them apart; the reward is the mean."""
    replies = [answered("Bob"), answered("Tuesday"), answered("Bob"), answered("Monday")]
    shown = gallery(replies, compression("1000"), compression("0110"))
    assert (shown.rates, shown.start, shown.metric) == (("0.3", "0.5"), 1, "f1")
    [side] = shown.examples[0].sides
    assert side.runs(0) == [(True, "", "Ann"), (False, " ", "met Bob.")]
    assert side.runs(1) == [(False, "", "Ann"), (True, " ", "met Bob"), (False, "", ".")]
    assert [moment.reward for moment in side.at] == ["reward 0.500", "reward 1.000"]
    assert side.at[0].lengths == "1 of 4 tokens, rate 0.250"
    assert [answer.score for answer in side.at[0].answers] == ["1.00", "0.00"]
    assert shown.examples[0].references == ("Bob", "Monday")


def test_what_is_not_answered_has_no_reward():
    """Not stored, refused, nobody to ask: none of it is a zero."""
    refused = TeacherReply(Outcome.REFUSED, error="content_filter: no")
    shown = gallery([answered("Bob"), MISS, answered("Bob"), refused], *[compression("1000")] * 2)
    first, second = shown.examples[0].sides[0].at
    assert (first.answers[1], first.reward) == (None, "")
    assert (second.answers[1].text, second.answers[1].score) == ("content_filter: no", None)
    assert second.reward == ""
    nobody = gallery(None, *[compression("1000")] * 2).examples[0].sides[0].at[0]
    assert (nobody.answers, nobody.reward) == ((None, None), "")


def test_a_huge_text_is_cut_and_a_hostile_one_spelt_out():
    """A megabyte of answer, more words than anyone reads, marks that turn the writing round."""
    words = " ".join([visible(HOSTILE).split(" ")[0], "\u202eturned", *["word"] * 20_000])
    example = Example("\x1b[1m", ("long",), (Question(HOSTILE, "x" * 1_000_000),))
    replies = [answered(HOSTILE + "y" * 1_000_000)]
    big = compression("10" * 10_001, words)
    [shown] = gallery(replies, big, example=example, rates=(0.5,)).examples
    assert (len(shown.sides[0].words), shown.left_out) == (MOST_WORDS, 20_002 - MOST_WORDS)
    assert len(shown.sides[0].runs(0)) == MOST_WORDS
    assert shown.sides[0].words[1] == " ⟨U+202E⟩turned"
    assert shown.name == "⟨U+001B⟩[1m"
    assert shown.questions == (visible(HOSTILE),)
    answer = shown.sides[0].at[0].answers[0].text
    assert answer.startswith(visible(HOSTILE))
    assert len(answer) < 2_200
    assert len(shown.references[0]) < 2_200


def test_words_of_xlm_roberta_bring_their_own_spaces():
    """Where a piece has none, there was none."""
    example = Example("a", ("x",), (Question(None, "Bob"),))
    made = compression("101", "▁Ann ▁met ,")
    [shown] = gallery(None, made, example=example, rates=(0.5,)).examples
    assert shown.sides[0].words == (" Ann", " met", ",")
    assert shown.questions == ("",)
