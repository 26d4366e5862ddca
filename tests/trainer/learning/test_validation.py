"""What a validation is worth."""

from trainer.learning.standing import Standing
from trainer.learning.validation import validation_scores
from trainer.rollouts.scores import load_metric
from trainer.types import Example, Outcome, Question, TeacherReply

EXACT = load_metric("exact_match")


def test_peoples_answers_are_scored_by_the_nearest(make_rollout):
    """A question without any does not count, nor does a rollout that failed."""
    examples = [
        Example("a", ("text",), (Question("When?", "Monday", ("Tuesday", "on Monday")),)),
        Example("b", ("text",), (Question("Who?", "Ada"), Question("Why?", "x", ("no", "yes")))),
        Example("c", ("text",), (Question("Who?", "Ada", ("Ada",)),)),
    ]
    said = [TeacherReply(Outcome.SCORED, text) for text in ("on Monday", "Ada", "maybe")]
    rollouts = [
        make_rollout(replies=(said[0],), reward=0.2),
        make_rollout(replies=tuple(said[1:]), reward=1.0),
        make_rollout(outcome=Outcome.FAILED, reward=None, replies=()),
    ]
    scores = validation_scores(rollouts, examples, EXACT)
    assert scores == {"reward": 0.6, "answers": 0.5, "rate": 0.2}
    bare = [Example("a", ("text",), (Question("When?", "Monday"),))]
    assert "answers" not in validation_scores(rollouts[:1], bare, EXACT)


def test_the_first_of_equals_is_the_best():
    """And each that is no better brings the end nearer; patience 0 never ends."""
    standing = Standing().after(1, 0.5).after(2, 0.6).after(3, 0.6).after(4, 0.1)
    assert standing == Standing(2, 0.6, 2)
    assert [standing.is_over(patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]
