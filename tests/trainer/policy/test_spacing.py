"""Kept words with the white space that they had in their source."""

import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.policy.spacing import find_words

CODE = textwrap.dedent(
    """\
    def total(prices, tax=0.2):
        result = 0
        for price in prices:
            result += price * (1 + tax)
        return result
    """
)


def keep(text, words, *kept):
    """The text of the words with these numbers."""
    mask = np.zeros(len(words), bool)
    mask[list(kept)] = True
    return find_words(text, words).join(mask)


def test_code_keeps_lines_and_indentation():
    """Of each line that something is left of."""
    words = CODE.split()
    kept = [n for n, word in enumerate(words) if word in ("def", "for", "prices:", "return")]
    assert keep(CODE, words, *kept) == "def\n    for prices:\n    return"


def test_a_line_that_goes_on_begins_where_it_began():
    """Though its first words were dropped."""
    words = CODE.split()
    kept = [words.index("prices:"), words.index("tax)")]
    assert keep(CODE, words, *kept) == "    prices:\n        tax)"


def test_what_is_whole_is_as_it_was():
    """Two blanks, a tab, a blank line: nothing was dropped there."""
    text = "a  b\tc\n\n  d"
    assert keep(text, ["a", "b", "c", "d"], 0, 1, 2, 3) == text


def test_where_there_was_no_space_there_is_none():
    """Punctuation is a word of its own for BERT."""
    words = ["foo", "(", "bar", ",", "baz", ")"]
    assert keep("foo(bar, baz)", words, 0, 1, 4, 5) == "foo( baz)"
    assert keep("foo(bar, baz)", words, 0, 5) == "foo )"
    assert keep("foo(bar)", ["foo", "(", "bar", ")"], 0, 3) == "foo)"


def test_marks_and_normal_forms_do_not_hide_a_word():
    """XLM-R's words begin with a mark and are in NFKC; unknown pieces are no words at all."""
    text = "ﬁne  x² Straße 日本 end"
    assert keep(text, ["▁fine", "▁x2", "▁Straße", "▁end"], 0, 2, 3) == "ﬁne Straße end"


def test_a_line_break_that_is_forced_stands_once():
    """With `force_tokens` it is a word."""
    text = "a b\n    c d"
    assert keep(text, ["a", "b", "\n", "c", "d"], 0, 2, 4) == "a\n    d"
    assert keep(text, ["a", "b", "\n", "c", "d"], 0, 2, 3) == "a\n    c"
    assert keep(text, ["a", "b", "\n", "\n", "c", "d"], 0, 2, 3, 4) == "a\n    c"


def test_a_word_that_is_nowhere_adds_nothing():
    """The others are still found."""
    assert keep("a b c", ["a", "x", "c"], 0, 1, 2) == "a c"
    assert keep("a b c", ["a", "x", "c"], 1) == ""


@given(
    words=st.lists(st.text("ab(){}.é日", min_size=1, max_size=3), min_size=1, max_size=12),
    spaces=st.lists(st.sampled_from(["", " ", "\n", "\n  ", "\t"]), min_size=13, max_size=13),
    data=st.data(),
)
def test_words_survive_and_nothing_is_made_up(words, spaces, data):
    """All that is not white space is of the kept words, in order; keeping all gives the source."""
    text = "".join(word + space for word, space in zip(words, spaces, strict=False))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words))))
    source = find_words(text, words)
    kept = "".join(word for word, keep in zip(words, mask, strict=True) if keep)
    assert "".join(source.join(mask).split()) == kept
    assert source.join(np.ones(len(words), bool)) == text.rstrip()


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing_comes_of_nothing(text):
    """No words, no text."""
    assert find_words(text, []).join(np.zeros(0, bool)) == ""
