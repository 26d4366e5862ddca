"""What of a text's hard facts is still there."""

import pytest

from trainer.evaluation.retention import entities, kept_share, numbers

TEXT = "The review costs 4,500 euros. Ann Lee meets Bob in Denver at 10:30, The end."


def test_numbers_are_taken_as_they_are_written():
    """Separators within one belong to it, what ends a sentence does not."""
    assert numbers(TEXT + " In 2026.") == {"4,500", "10:30", "2026"}


def test_entities_are_capitalised_words_that_begin_no_sentence():
    """`Ann` begins one, and a stop word is no name."""
    assert entities(TEXT) == {"Lee", "Bob", "Denver"}


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Bob met, 4,500 paid", 2 / 4),
        ("Bobby Lee 4 500", 1 / 4),
        ("4 , 500 at 10 : 30", 2 / 4),  # As BERT's word pieces are joined.
        ("4 , at 10 30", 0.0),
        ("", 0.0),
    ],
)
def test_what_is_kept_must_stand_there_whole(text, share):
    """`Bobby` is no `Bob`, and a number that lost its separator is another."""
    assert kept_share({"Bob", "Lee", "10:30", "4,500"}, text) == share


def test_nothing_to_keep_is_no_share():
    """There is no number for nothing."""
    assert kept_share(set(), TEXT) is None
