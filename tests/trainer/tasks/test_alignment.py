"""What an extractive compression kept, though the teacher changed, moved and added words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.tasks.alignment import Alignment, align, same_word, well_aligned


def kept_words(text, compression):
    """The text's words that the alignment says were kept."""
    words = text.split()
    kept = align(words, compression.split()).kept
    return [word for word, keep in zip(words, kept, strict=True) if keep]


@given(st.lists(st.sampled_from("abcdefg"), max_size=30), st.data())
def test_what_was_only_deleted_is_found_whole(words, data):
    """As many words as the compression has, and the same ones in the same order."""
    keep = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    compression = [word for word, kept in zip(words, keep, strict=True) if kept]
    aligned = align(words, compression)
    assert aligned.variation_rate == 0
    assert aligned.alignment_gap == 0
    assert sorted(np.array(words)[aligned.kept]) == sorted(compression)


def test_case_punctuation_and_endings_do_not_matter():
    """Nor XLM-R's mark of a word's beginning."""
    assert kept_words("The ▁Projects, led by Anna.", "project lead anna") == [
        "▁Projects,",
        "Anna.",
    ]
    assert kept_words("She leads it", "she lead") == ["She", "leads"]


def test_the_same_word_comes_before_another_form_of_it():
    """Though the other form is nearer."""
    assert kept_words("meetings about the meeting", "meeting") == ["meeting"]


def test_a_word_that_was_moved_is_found_behind():
    """The search goes both ways from the last word found."""
    assert kept_words("budget is due on friday", "friday budget") == ["budget", "friday"]


def test_a_word_that_occurs_twice_is_kept_once_for_each_time():
    """The nearest one first."""
    words = ["a", "b", "a", "b", "a"]
    assert align(words, ["b", "a"]).kept.tolist() == [False, True, True, False, False]


def test_added_words_are_variation():
    """Half of the compression's words are not in the text."""
    aligned = align(["anna", "leads", "atlas"], ["anna", "heads", "atlas", "team"])
    assert aligned.variation_rate == 0.5
    assert aligned.kept.tolist() == [True, False, True]


def test_repeated_words_are_a_gap():
    """Three times in the compression, once in the text: two hits too many of three words."""
    aligned = align(["anna", "leads", "atlas"], ["atlas", "atlas", "atlas"])
    assert aligned.variation_rate == 0
    assert aligned.alignment_gap == pytest.approx(2 / 3)


def test_a_word_beyond_the_window_is_not_found():
    """It is more likely another one."""
    words = ["x"] * 20 + ["anna"]
    assert not align(words, ["anna"], window=10).kept.any()
    assert align(words, ["anna"], window=21).kept.any()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("expectation", "expectations", True),
        ("project", "projected", True),
        ("lead", "leads", True),
        ("led", "leds", False),
        ("budget", "budapest", False),
    ],
)
def test_forms_of_a_word(one, other, same):
    """A stem of four letters, and an ending of three at most."""
    assert same_word(one, other) is same
    assert same_word(other, one) is same


def test_nothing_was_kept_of_nothing():
    """Neither an empty text nor an empty compression divides by zero."""
    assert align([], ["anna"]).alignment_gap == 0
    assert align(["anna"], []).variation_rate == 0
    assert not align(["anna"], []).kept.any()


def aligned(variation, gap):
    """One with these rates."""
    return Alignment(np.zeros(1, bool), variation, gap)


def test_the_worst_are_left_out():
    """First by variation, then, of the rest, by gap."""
    good = [aligned(0.0, 0.0)] * 17
    bad = [aligned(0.9, 0.0), aligned(0.0, 0.9), aligned(0.0, 0.8)]
    keep = well_aligned([*good, *bad], variation_share=0.05, gap_share=0.1)
    assert keep.tolist() == [True] * 17 + [False] * 3


def test_perfect_alignments_all_stay():
    """A share is left out of what is bad, never of what is not."""
    assert well_aligned([aligned(0.0, 0.0)] * 10).all()
    assert len(well_aligned([])) == 0
