"""Texts of strangers, made safe to look at."""

import pytest

from trainer.visible import clipped, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer, 中文, 👩‍🚀\n\tnext", "plain, größer, 中文, 👩‍🚀\n\tnext"),
        ("\x1b[31mred\x07", "⟨U+001B⟩[31mred⟨U+0007⟩"),
        ("a\r\nb\rc", "a\nb⟨U+000D⟩c"),
        ("\u202egnorts\u202c", "⟨U+202E⟩gnorts⟨U+202C⟩"),
        ("\x9b\x7f\ufeff\u2028", "⟨U+009B⟩⟨U+007F⟩⟨U+FEFF⟩⟨U+2028⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("<script>", "<script>"),
    ],
)
def test_what_acts_unseen_is_spelt_out(text, shown):
    """And what people write in their languages is left alone; markup is HTML's affair."""
    assert visible(text) == shown


def test_a_long_text_is_cut_and_says_so():
    """A megabyte is no sight."""
    assert clipped("ab\x00" + "x" * 1_000_000, 4) == "ab⟨U+0000⟩x … (999,999 more characters)"
    assert clipped("short", 5) == "short"
