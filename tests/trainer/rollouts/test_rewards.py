import pytest

from trainer.rollouts.rewards import RewardConstants, calculate_rewards, length_case

OVER, OUT = "over_compressed", "out_of_tolerance"


@pytest.mark.parametrize(
    ("original", "compressed", "rate", "tolerance", "case"),
    [
        # Target 50 of 100, 30 either way: 20 to 80 are right.
        (100, 50, 0.5, 30, None),
        (100, 20, 0.5, 30, None),
        (100, 80, 0.5, 30, None),
        (100, 19, 0.5, 30, OUT),
        (100, 81, 0.5, 30, OUT),
        (100, 11, 0.5, 30, OUT),
        (100, 10, 0.5, 30, OVER),
        (100, 0, 0.5, 30, OVER),
        # The limit is a tenth at most: at a rate of 0.1 it is half of the target.
        (100, 6, 0.1, 4, None),
        (100, 5, 0.1, 5, OVER),
        (100, 10, 0.1, 0, None),
        # Over-compression comes first, also within the tolerance.
        (50, 5, 0.5, 30, OVER),
        # On the limit but for a rounding: 68 - 0.7 * 85 is 8.500000000000007.
        (85, 68, 0.7, 8.5, None),
        (85, 69, 0.7, 8.5, OUT),
        (40, 3, 0.15, 100, OVER),
        (0, 0, 0.5, 30, OVER),
    ],
)
def test_length_cases(original, compressed, rate, tolerance, case):
    """Lengths are judged as in the paper; a length on the limit obeys it."""
    assert length_case(original, compressed, rate, tolerance) == case


def test_constants_are_the_references():
    """Over-compressed -0.4, out of tolerance -0.1, and 0.4 for a refusal."""
    constants = RewardConstants()
    assert constants.for_case(OVER) == -0.4
    assert constants.for_case(OUT) == -0.1
    assert constants.refused == 0.4


def reward(compressed, answers, references, **settings):
    """Reward a text made of 100 tokens at a target of 50, 30 either way."""
    return calculate_rewards(
        original_tokens=100,
        compressed_tokens=compressed,
        rate=0.5,
        answers=answers,
        references=references,
        **settings,
    )


def test_a_text_of_the_right_length_earns_its_mean_score():
    """The reward is the metric's mean over the questions."""
    assert reward(50, ["Ann", "Bob"], ["Ann Lee", "Bob"], metric="f1") == {
        "comp_ratio": 2.0,
        "reward": pytest.approx((2 / 3 + 1) / 2),
    }


def test_a_text_of_the_wrong_length_earns_a_constant_without_answers():
    """Neither answers nor metric are looked at."""
    assert reward(90, [], ["Ann"], metric="f1") == {"comp_ratio": 100 / 90, "reward": -0.1}
    assert reward(8, [], ["Ann"], constants=RewardConstants(over_compressed=-1.0)) == {
        "comp_ratio": 12.5,
        "reward": -1.0,
    }


def test_an_empty_text_does_not_divide_by_zero():
    """Nothing left is the worst over-compression, and counts as one token in the ratio."""
    assert reward(0, [], ["Ann"]) == {"comp_ratio": 100.0, "reward": -0.4}


def test_an_empty_answer_scores_zero():
    """An empty completion is an answer, and a bad one."""
    assert reward(50, [""], ["Ann"])["reward"] == 0.0


@pytest.mark.parametrize(("answers", "references"), [(["Ann"], ["Ann", "Bob"]), ([], [])])
def test_answers_and_references_belong_together(answers, references):
    """A missing answer is an error, not a score."""
    with pytest.raises(ValueError, match="one answer for each reference"):
        reward(50, answers, references)
