"""Hostile text as a page shows it."""

import pytest

from teacher_service.page.visible import SHORT, excerpt, shown, visible


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        ("<script>alert('1')</script>", "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"),
        ("two\n\tlines", "two\n\tlines"),
        ("\x1b[31mred\x00", "<i>U+001B</i>[31mred<i>U+0000</i>"),
        ("\u202egpj.exe", "<i>U+202E</i>gpj.exe"),
        (
            "a\u2066b\u2069\u200f\ufeff\u2028",
            "a<i>U+2066</i>b<i>U+2069</i><i>U+200F</i><i>U+FEFF</i><i>U+2028</i>",
        ),
        ("half \ud83d", "half <i>U+D83D</i>"),
        ("\U000e0041", "<i>U+E0041</i>"),
        ("\x9b\x7f\r", "<i>U+009B</i><i>U+007F</i><i>U+000D</i>"),
    ],
)
def test_what_cannot_be_seen_is_named(text, html):
    """Controls, marks of direction, halves of characters; and no character is markup."""
    assert visible(text) == html


@pytest.mark.parametrize(
    "text", ["Grüße, 日本語, שלום", "👩\u200d💻", "\u0646\u0645\u06cc\u200c\u062e"]
)
def test_scripts_of_the_world_are_left_alone(text):
    """With the joiners that some of them need."""
    assert visible(text) == text


def test_a_long_text_is_cut_before_anything_is_done_with_it():
    """What is shown is bounded, whatever it is made of."""
    text = shown("\x00" * 1_000_000, SHORT)
    assert (text.characters, text.of, text.cut) == (SHORT, 1_000_000, True)
    assert text.html.count("<i>") == SHORT
    assert not shown("x" * SHORT, SHORT).cut


def test_an_excerpt_is_one_line():
    """Of a text of any length."""
    assert excerpt("a\n\n  b", 10) == "a b"
    assert excerpt("<b>" * 1_000_000, 4) == "&lt;b&gt;&lt;…"
    assert excerpt(" " * 1000 + "b", 10) == "…"


def test_an_excerpt_shows_what_was_looked_for():
    """Marked, and as markup nothing but the mark."""
    text = "<b>" + "x" * 200 + " Anna leads <i>"
    assert excerpt(text, 60, ["anna", "<i>"]).endswith(
        "x <mark>Anna</mark> leads <mark>&lt;i&gt;</mark>"
    )
    assert excerpt("Anna", 60, ["anna"]) == "<mark>Anna</mark>"
    assert excerpt(text, 10, ["nowhere"]) == "&lt;b&gt;xxxxxxx…"
