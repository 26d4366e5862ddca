"""The built-in teacher as a judge of answers."""

import pytest

from teacher_service.backends.builtin_rules import answer
from trainer.config_sections.scoring import Judge as JudgeSettings
from trainer.rollouts.judge import Comparison, make_judge


def said_by(scale, completion, reference, question=None):
    """What the built-in teacher says to the trainer's own prompt."""
    judge = make_judge(JudgeSettings(scale=scale), asks_questions=question is not None)
    prompt = judge.render(Comparison(completion, reference, question, "a text"))
    return answer([{"role": "user", "content": prompt}])


@pytest.mark.parametrize(
    ("completion", "reference", "score"),
    [
        ("Ann Lee", "Ann Lee", "5"),
        ("ann, LEE!", "Ann Lee", "5"),
        ("Ann", "Ann Lee", "4"),  # F1 2/3.
        ("Ann met Bob on Monday", "Ann Lee", "2"),  # F1 2/7.
        ("Bob", "Ann Lee", "1"),
        ("", "Ann Lee", "1"),
        ("lead: Ann\n\ndue: Monday", "lead: Ann\n\ndue: Monday", "5"),  # Over blank lines, too.
        ("Question: who?\nAnn", "Ann", "3"),  # An answer's own markers are its words.
    ],
)
def test_it_counts_common_words(completion, reference, score):
    """From 1 to 5, with a question and without."""
    assert said_by("1-5", completion, reference) == score
    assert said_by("1-5", completion, reference, "Who leads it?") == score


def test_yes_from_half_of_the_words_on():
    """By the same count."""
    assert said_by("yes-no", "Ann", "Ann Lee") == "yes"
    assert said_by("yes-no", "Bob met Ann on a Monday", "Ann Lee") == "no"


def test_other_prompts_are_no_judge_s():
    """An answer that is asked about as a text is a text."""
    prompt = "Transcript:\nReference answer: Ann leads it.\n\nQuestion: Who leads it?\nAnswer:"
    assert answer([{"role": "user", "content": prompt}]) == "Ann"
