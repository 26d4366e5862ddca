"""From compressed texts to rollouts."""

from dataclasses import replace

import numpy as np
import pytest

from trainer.errors import TooManyFailures
from trainer.rollouts.collect import CompressedText, LengthRule, Recorded, check_failures, collect
from trainer.rollouts.rewards import RewardConstants
from trainer.rollouts.scores import load_metric
from trainer.rollouts.scoring import Scorer
from trainer.types import Example, Outcome, Question, TeacherItem, TeacherReply

CONSTANTS = RewardConstants()
LENGTHS = LengthRule(relaxation_tokens=5, tolerance=None)
F1 = load_metric("f1")
SCORER = Scorer("f1", F1.signature, F1)


class Teacher:
    """Answers in capitals; refuses or fails where a text says so, and remembers what it got."""

    def __init__(self):
        self.asked: list[TeacherItem] = []

    def __call__(self, items):
        self.asked += items
        return [self._reply(item) for item in items]

    def _reply(self, item):
        for outcome in (Outcome.REFUSED, Outcome.FAILED):
            if outcome in f"{item.text} {item.question}":
                return TeacherReply(outcome, error=f"{outcome} on purpose")
        return TeacherReply(Outcome.SCORED, item.text.upper(), fingerprint=item.text)


def compressed(text="on monday", sample=0, tokens=30, questions=None, id_="7"):
    """A text of 30 tokens, made from 100 at a target rate of 0.3."""
    questions = questions or (Question("When?", "ON MONDAY"),)
    return CompressedText(
        example=Example(id_, ("the original",), tuple(questions)),
        sample_index=sample,
        keep_mask=(np.array([True, False, True]), np.array([True] * 9)),
        text=text,
        original_tokens=100,
        compressed_tokens=tokens,
        target_rate=0.3,
    )


def judge(texts, teacher=None, lengths=LENGTHS, recorded=None, constants=CONSTANTS):
    """Collect with F1 and the reference's constants."""
    return collect(texts, teacher or Teacher(), SCORER, lengths, constants, recorded or {})


@pytest.mark.parametrize(
    ("tokens", "case", "reward"),
    [
        (0, "over_compressed", -0.4),
        (10, "over_compressed", -0.4),
        (11, "out_of_tolerance", -0.1),
        (24, "out_of_tolerance", -0.1),
        (25, None, 1.0),
        (35, None, 1.0),
        (36, "out_of_tolerance", -0.1),
        (100, "out_of_tolerance", -0.1),
    ],
)
def test_the_length_decides_before_the_teacher_is_asked(tokens, case, reward):
    """100 tokens at 0.3 with 5 to spare: 25 to 35 are asked about, 10 and less are worth -0.4."""
    teacher = Teacher()
    [rollout] = judge([compressed(tokens=tokens)], teacher)
    assert (rollout.length_case, rollout.reward) == (case, reward)
    assert len(teacher.asked) == len(rollout.replies) == (case is None)
    assert rollout.outcome is (Outcome.OUT_OF_RANGE if case else Outcome.SCORED)


def test_a_tolerance_is_a_share_of_the_original():
    """0.1 of 100 tokens is ten either way, whatever the relaxation says."""
    lengths = LengthRule(relaxation_tokens=5, tolerance=0.1)
    texts = [compressed(tokens=tokens) for tokens in (19, 20, 40, 41)]
    cases = [rollout.length_case for rollout in judge(texts, lengths=lengths)]
    assert cases == ["out_of_tolerance", None, None, "out_of_tolerance"]


def test_a_penalty_takes_the_place_of_the_length_rules():
    """Every text is asked about; ten of a hundred tokens too many, five of them allowed."""
    teacher = Teacher()
    rule = LengthRule(relaxation_tokens=5, tolerance=None, penalty=2.0)
    texts = [compressed(tokens=tokens) for tokens in (30, 35, 40, 20, 0)]
    rollouts = judge(texts, teacher, rule)
    assert [rollout.reward for rollout in rollouts] == pytest.approx([1.0, 1.0, 0.9, 0.9, 0.5])
    assert {rollout.outcome for rollout in rollouts} == {Outcome.SCORED}
    assert len(teacher.asked) == 5
    assert rule.longest(100, 0.3) == 100
    assert LENGTHS.longest(100, 0.3) == 35


def test_the_configs_rewards_are_paid():
    """Not the reference's, where others are set."""
    texts = [compressed(tokens=0), compressed(tokens=90)]
    rollouts = judge(texts, constants=RewardConstants(over_compressed=-2, out_of_tolerance=-1))
    assert [rollout.reward for rollout in rollouts] == [-2, -1]


def test_every_reply_finds_its_text_whatever_lies_between():
    """The teacher sees the asked ones only, in order; results are in the order of the texts."""
    teacher = Teacher()
    texts = [
        compressed("a", 0),
        compressed("b", 1, tokens=99),
        compressed("c", 2),
        compressed("d", 3, tokens=1),
        compressed("e", 4),
    ]
    rollouts = judge(texts, teacher)
    assert [item.text for item in teacher.asked] == ["a", "c", "e"]
    assert [[reply.text for reply in rollout.replies] for rollout in rollouts] == [
        ["A"],
        [],
        ["C"],
        [],
        ["E"],
    ]
    assert [rollout.sample_index for rollout in rollouts] == [0, 1, 2, 3, 4]


def test_the_reward_is_the_mean_over_the_questions():
    """One mask is judged by all questions, none of which loses a word: F1 of 1 and 2/3 make 5/6."""
    questions = [Question("When does it meet?", "ON MONDAY"), Question("And?", "MONDAY")]
    teacher = Teacher()
    [rollout] = judge([compressed(questions=questions)], teacher)
    assert [(item.text, item.question) for item in teacher.asked] == [
        ("on monday", "When does it meet?"),
        ("on monday", "And?"),
    ]
    assert rollout.reward == pytest.approx(5 / 6)
    assert sum(rollout.scores) / len(rollout.scores) == rollout.reward


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILED])
def test_one_question_without_an_answer_leaves_the_rollout_without_a_reward(outcome):
    """A mean over the others would compare unlike things; the replies are kept."""
    questions = [Question("When?", "ON MONDAY"), Question(f"{outcome}?", "MONDAY")]
    [rollout] = judge([compressed(questions=questions)])
    assert (rollout.outcome, rollout.reward) == (outcome, None)
    assert [reply.outcome for reply in rollout.replies] == [Outcome.SCORED, outcome]


def test_a_failure_weighs_more_than_a_refusal():
    """It may be over the next time; a refusal will not."""
    questions = [Question(f"{Outcome.REFUSED}?", "x"), Question(f"{Outcome.FAILED}?", "x")]
    [rollout] = judge([compressed(questions=questions)])
    assert rollout.outcome is Outcome.FAILED


def test_an_empty_answer_is_scored_as_zero():
    """It is no refusal."""

    def silent(items):
        return [TeacherReply(Outcome.SCORED, "") for _ in items]

    [rollout] = judge([compressed()], silent)
    assert (rollout.outcome, rollout.reward) == (Outcome.SCORED, 0.0)


def test_masks_are_packed_chunk_by_chunk():
    """Bits from the most significant: 101 is 0xA0, nine ones are 0xFF80."""
    [rollout] = judge([compressed()])
    assert rollout.keep_mask == (b"\xa0", b"\xff\x80")


def test_recorded_failures_are_not_asked_for():
    """A replay's recorded failure stands, and the other texts get their own answers."""
    failed = TeacherReply(Outcome.FAILED, error="recorded")
    teacher = Teacher()
    texts = [compressed("a", 0), compressed("b", 1), compressed("c", 2)]
    rollouts = judge(texts, teacher, recorded={("7", 1): Recorded([failed])})
    assert [item.text for item in teacher.asked] == ["a", "c"]
    assert rollouts[1].outcome is Outcome.FAILED
    assert rollouts[1].replies == (failed,)
    assert rollouts[2].replies[0].text == "C"


def test_a_replays_answers_are_asked_for_by_their_digests():
    """Question by question; a text that was not asked about then wants no answer in particular."""
    questions = [Question("When?", "x"), Question("And?", "y")]
    replies = [TeacherReply(Outcome.SCORED, content_digest=digest) for digest in ("d1", "d2")]
    teacher = Teacher()
    texts = [compressed(text, n, questions=questions) for n, text in enumerate("ab")]
    judge(texts, teacher, recorded={("7", 0): Recorded(replies), ("7", 1): Recorded()})
    assert [(item.text, item.content_digest) for item in teacher.asked] == [
        ("a", "d1"),
        ("a", "d2"),
        ("b", None),
        ("b", None),
    ]


def test_a_length_that_is_wrong_now_stays_wrong_beside_recorded_replies():
    """Nothing is taken from the record that this text would not be asked for."""
    failed = TeacherReply(Outcome.FAILED)
    [rollout] = judge([compressed(tokens=90)], recorded={("7", 0): Recorded([failed])})
    assert (rollout.outcome, rollout.replies) == (Outcome.OUT_OF_RANGE, ())


def test_a_step_may_lose_its_allowed_share_and_no_more():
    """One of five is 0.2; two are refused, with numbers, bound and a reason."""
    texts = [compressed(Outcome.FAILED if n == 0 else "fine", n) for n in range(5)]
    rollouts = judge(texts)
    check_failures(rollouts, 0.2)
    with pytest.raises(TooManyFailures, match=r"1 of 5 .*\(0\.1\).*failed on purpose"):
        check_failures(rollouts, 0.1)
    check_failures([replace(rollout, outcome=Outcome.REFUSED) for rollout in rollouts], 0.0)
