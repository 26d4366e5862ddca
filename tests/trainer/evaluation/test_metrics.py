import pytest

from trainer.evaluation.metrics import score_pairs, score_replies
from trainer.rollouts.judge import Comparison
from trainer.rollouts.scores import load_metric
from trainer.rollouts.scoring import Scorer
from trainer.types import Outcome, TeacherReply

F1 = load_metric("f1")


def answer(text):
    """A reply with this text."""
    return TeacherReply(Outcome.SCORED, text)


def test_mean_f1_over_pairs():
    """Each reply is scored against its own reference, and the mean carries the signature."""
    pairs = [(answer("Ann"), "Ann Lee"), (answer("Bob"), "Bob"), (answer(""), "Eve")]
    scores = score_pairs(F1, pairs)
    assert scores.values == (pytest.approx(2 / 3), 1.0, 0.0)
    assert scores.mean == pytest.approx(5 / 9)
    assert scores.signature == "f1|norm:squad|version:2.0"


def test_what_was_not_answered_is_no_score_of_zero():
    """Refused and failed replies keep their place, but do not enter the mean."""
    pairs = [
        (TeacherReply(Outcome.FAILED, error="upstream_error: gone"), "Ann"),
        (answer("Bob"), "Bob"),
        (TeacherReply(Outcome.REFUSED, error="content_filter"), "Eve"),
    ]
    scores = score_pairs(F1, pairs)
    assert scores.values == (None, 1.0, None)
    assert (scores.answered, scores.mean) == (1, 1.0)


def test_nothing_answered_has_no_mean():
    """There is no number for nothing."""
    assert score_pairs(F1, []).mean is None


def test_of_several_right_answers_the_nearest_counts():
    """As the official SQuAD script: the best of them; where there are none, there is no score."""
    replies = [answer("Denver"), answer("Ann"), answer("Bob")]
    references = [("Boulder", "Denver, Colorado"), ("Ann",), ()]
    compared = [
        [Comparison(reply.text, each, None, "") for each in its_own]
        for reply, its_own in zip(replies, references, strict=True)
    ]
    scores = score_replies(Scorer("f1", F1.signature, F1), replies, compared)
    assert scores.values == (pytest.approx(2 / 3), 1.0, None)
