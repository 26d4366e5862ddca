"""The teacher as a judge: what it is asked, how it is read, and what becomes of its silence."""

import numpy as np
import pytest

from tests.tiny_runs import tiny_config
from trainer.config_sections.scoring import Judge as JudgeSettings
from trainer.errors import ConfigError, TooManyFailures
from trainer.rollouts.collect import (
    CompressedText,
    LengthRule,
    Recorded,
    check_failures,
    collect,
)
from trainer.rollouts.judge import Comparison, make_judge
from trainer.rollouts.rewards import RewardConstants
from trainer.rollouts.scores import load_metric
from trainer.rollouts.scoring import load_scorer, without_judge
from trainer.types import Example, Outcome, Question, TeacherItem, TeacherReply

LENGTHS = LengthRule(relaxation_tokens=5, tolerance=None)
WHO = Question("Who?", "Ann")
SEEN = Comparison("Ann", "Ann Lee", "Who?", "Ann Lee leads it.")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("1", 0.0),
        ("5", 1.0),
        (" 4\n", 0.75),
        ("4.", 0.75),
        ("4.5", 0.875),
        ("**3**", 0.5),
        ("Score: 2", 0.25),
        ("score is 2, for it names 3 of 7 people", 0.25),
        ("Rating = 4/5", 0.75),
        ("3 out of 5", 0.5),
        ("On a scale of 1 to 5, I give it a 4", 0.75),
        ("On a 1-5 scale: 4", 0.75),
        ("At first a score of 2. But the final score: 4", 0.75),
        ("<think>2 or 3? Score: 1</think>\n5", 1.0),
        ("2 and again 2", 0.25),
        ("", None),
        ("good", None),
        ("2 or 3", None),
        ("7", None),
        ("0", None),
        ("10", None),
        ("-1", None),
        ("80%", None),
        ("4/10", None),
        ("2026-11-25", None),
    ],
)
def test_a_score_from_one_to_five_is_read_generously(text, score):
    """With a label, out of five, or alone; what may mean two things means none."""
    judge = make_judge(JudgeSettings(), asks_questions=True)
    assert judge.read(text) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("yes", 1.0),
        ("No.", 0.0),
        ("**Yes**, it does", 1.0),
        ("Yes: there is no contradiction", 1.0),
        ("The answer is no", 0.0),
        ("<think>yes yes</think>no", 0.0),
        ("It could be yes or no", None),
        ("nothing of it, know that", None),
        ("", None),
    ],
)
def test_yes_or_no(text, score):
    """The first word decides, else the only one of the two."""
    judge = make_judge(JudgeSettings(scale="yes-no"), asks_questions=True)
    assert judge.read(text) == score


def test_the_judge_sees_both_answers_and_the_question():
    """And the original only where the template wants it; nothing that is filled in is searched."""
    judge = make_judge(JudgeSettings(), asks_questions=True)
    prompt = judge.render(SEEN)
    assert "Question: Who?\n" in prompt
    assert "Reference answer:\nAnn Lee\n" in prompt
    assert "Answer to grade:\nAnn\n" in prompt
    assert prompt.endswith("\nScore:")
    assert SEEN.original not in prompt
    assert "Question" not in make_judge(JudgeSettings(), asks_questions=False).render(SEEN)
    own = JudgeSettings(prompt="{transcript}|{completion}|{reference}|{other}")
    tricky = Comparison("{reference}", "{completion}", None, "{question}")
    assert make_judge(own, asks_questions=False).render(tricky) == (
        "{question}|{reference}|{completion}|{other}"
    )


@pytest.mark.parametrize("prompt", ["{completion}", "{reference} {transcript}", "grade it"])
def test_a_template_shows_both_texts(prompt):
    """Else there is nothing to compare."""
    with pytest.raises(ValueError, match=r"it has no \{"):
        JudgeSettings(prompt=prompt)


def test_a_metric_is_split_into_what_needs_nobody_and_the_judge():
    """Weights stay what they are."""
    assert without_judge("f1") == ("f1", 0.0)
    assert without_judge("judge") == (None, 1.0)
    assert without_judge("0.5*judge + 0.25*f1 + 0.25*rougeL") == ("0.25*f1 + 0.25*rougeL", 0.5)
    assert without_judge("2*judge") == (None, 2.0)
    with pytest.raises(ConfigError, match="what only a run or an evaluation has"):
        load_metric("judge")


@pytest.fixture
def scorer(tmp_path):
    """A scorer by a metric's name, and the config's judge."""

    def make(name="0.5*judge + 0.5*exact_match", **judge):
        config = tiny_config(tmp_path, tmp_path, judge=judge)
        return load_scorer(config, name, teacher="ab" * 32)

    return make


def test_the_signature_names_template_scale_and_teacher(scorer):
    """Another template is another signature."""
    signature = scorer().signature
    assert signature.startswith("0.5*[exact_match|norm:squad|version:2.0] + 0.5*[judge|scale:1-5|")
    assert signature.endswith("|max_tokens:16|version:1|teacher:abababababababab]")
    other = scorer(prompt="{completion} {reference} Score:").signature
    assert other != signature
    assert scorer("judge").signature.startswith("1*[judge|")


class Judge:
    """Says what its script has for a text in the prompt, and remembers what it was asked."""

    def __init__(self, **script: str | Outcome):
        self.script = script
        self.asked: list[TeacherItem] = []

    def __call__(self, items):
        self.asked += items
        return [self._reply(item) for item in items]

    def _reply(self, item):
        graded = item.text.partition("Answer to grade:\n")[2].partition("\n")[0]
        said = self.script[graded]
        if isinstance(said, Outcome):
            return TeacherReply(said, error="on purpose")
        return TeacherReply(Outcome.SCORED, said, graded, f"digest of {said}")


def texts_of(*answers: str, questions=(WHO,)):
    """Texts whose completions are these."""
    return [
        CompressedText(
            Example("7", ("the original",), tuple(questions)),
            sample,
            (np.array([True]),),
            answer,
            100,
            30,
            0.3,
        )
        for sample, answer in enumerate(answers)
    ]


def repeat(items):
    """A teacher that says what it reads."""
    return [TeacherReply(Outcome.SCORED, item.text) for item in items]


def judged(scorer, texts, judge, recorded=None, teacher=repeat):
    """Collect with a judge."""
    return collect(texts, teacher, scorer, LENGTHS, RewardConstants(), recorded or {}, judge)


def test_metric_and_judge_are_summed(scorer):
    """Half of each; equal answers are judged once, an empty one never."""
    judge = Judge(Ann="5", Bob="2")
    rollouts = judged(scorer(), texts_of("Ann", "Bob", " ", "Ann"), judge)
    assert [rollout.reward for rollout in rollouts] == [1.0, 0.125, 0.0, 1.0]
    assert len(judge.asked) == 2
    assert [len(rollout.judgements) for rollout in rollouts] == [1, 1, 0, 1]
    assert rollouts[1].judgements[0].content_digest == "digest of 2"


def test_no_score_is_not_a_score_of_zero(scorer):
    """Said unclearly, refused, or not at all: the rollout is masked, and says why."""
    judge = Judge(Ann="5", Bob="who knows", Eve=Outcome.REFUSED, Sam=Outcome.FAILED)
    rollouts = judged(scorer(), texts_of("Ann", "Bob", "Eve", "Sam"), judge)
    unjudged = Outcome.UNJUDGED
    assert [rollout.outcome for rollout in rollouts] == [
        Outcome.SCORED, unjudged, unjudged, Outcome.FAILED,
    ]  # fmt: skip
    assert [rollout.reward for rollout in rollouts] == [1.0, None, None, None]
    assert all(rollout.scores == () for rollout in rollouts[1:])
    for rollout, reason in zip(
        rollouts[1:],
        (r"gave no score that can be read \(judge.scale\): \['who knows'\]", "refused", "purpose"),
        strict=True,
    ):
        with pytest.raises(TooManyFailures, match=rf"1 of 2 rollouts .*{reason}"):
            check_failures([rollouts[0], rollout], 0.2)
    check_failures(rollouts, 0.75)


def test_one_question_without_a_score_makes_the_rollout_unjudged(scorer):
    """As with the teacher's own answers."""
    questions = (WHO, Question("When?", "Monday"))
    said = iter(["Ann", "Monday"])

    def teacher(items):
        return [TeacherReply(Outcome.SCORED, next(said)) for _ in items]

    [rollout] = judged(
        scorer(), texts_of("x", questions=questions), Judge(Ann="5", Monday="?"), teacher=teacher
    )
    assert (rollout.outcome, rollout.reward, len(rollout.judgements)) == (
        Outcome.UNJUDGED, None, 2,
    )  # fmt: skip


def test_what_the_teacher_did_not_answer_is_not_judged(scorer):
    """Nor what was never asked about."""

    def teacher(items):
        return [TeacherReply(Outcome.REFUSED, error="no") for _ in items]

    judge = Judge()
    [rollout] = judged(scorer(), texts_of("x"), judge, teacher=teacher)
    assert (rollout.outcome, rollout.judgements, judge.asked) == (Outcome.REFUSED, (), [])


def test_a_replay_wants_the_recorded_judgements(scorer):
    """By their digests; one that failed or was refused stands, whatever is known by now."""
    judge = Judge(Ann="5", Bob="2")
    answered = TeacherReply(Outcome.SCORED)
    refused = TeacherReply(Outcome.REFUSED, fingerprint="f", content_digest="d")
    recorded = {
        ("7", 0): Recorded([answered], [TeacherReply(Outcome.SCORED, content_digest="d0")]),
        ("7", 1): Recorded([answered], [refused]),
        ("7", 2): Recorded([answered], []),
    }
    rollouts = judged(scorer(), texts_of("Ann", "Bob", ""), judge, recorded)
    assert [item.content_digest for item in judge.asked] == ["d0"]
    assert [rollout.reward for rollout in rollouts] == [1.0, None, 0.0]
    assert rollouts[1].judgements == (refused,)
