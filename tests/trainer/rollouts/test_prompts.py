import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.rollouts.prompts import check_template, render


@pytest.mark.parametrize(
    ("template", "text", "question", "prompt"),
    [
        ("{transcript}", "Ann spoke.", None, "Ann spoke."),
        ("{transcript}\nQ: {question}", "Ann spoke.", "Who?", "Ann spoke.\nQ: Who?"),
        ("{question} {transcript} {question}", "t", "q", "q t q"),
        (
            "{transcript} / {question}",
            "say {question}",
            "{transcript}",
            "say {question} / {transcript}",
        ),
        (
            '{"a": {}, "b": "{transcript}"} {other} {0}',
            "t",
            None,
            '{"a": {}, "b": "t"} {other} {0}',
        ),
        ("{{transcript}}", "t", None, "{t}"),
        ("{Transcript}{ transcript }{transcript}", "t", None, "{Transcript}{ transcript }t"),
        ("{transcript} {question}!", "t", None, "t !"),
        (r"\1 \g<0> {transcript}", r"\1 \g<0>", None, r"\1 \g<0> \1 \g<0>"),
    ],
)
def test_placeholders_are_replaced_literally_and_all_else_is_text(template, text, question, prompt):
    """Placeholders are filled in one pass; other braces, and what was filled in, stay."""
    assert render(template, text, question) == prompt


@given(st.text().filter(lambda t: "{transcript}" not in t and "{question}" not in t), st.text())
def test_a_template_without_placeholders_is_its_own_prompt(template, text):
    """Whatever else a template holds, it comes out unchanged."""
    assert render(template, text, text) == template


@given(st.text(), st.text(), st.text())
def test_texts_are_never_searched_for_placeholders(before, text, question):
    """A text arrives whole, also when it contains a placeholder itself."""
    text = f"{before}{{question}}{text}{{transcript}}"
    assert render("<{transcript}|{question}>", text, question) == f"<{text}|{question}>"


def test_a_template_needs_a_place_for_the_text():
    """The problem with a template is named, and there is none with a good one."""
    assert check_template("Summarise: {transcript}") is None
    problem = check_template("Summarise {transcripts}")
    assert problem is not None
    assert "{transcript}" in problem
    assert "Summarise {transcripts}" in problem
