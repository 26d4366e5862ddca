import pytest

from teacher_service.errors import BadRequest
from teacher_service.templates import PromptTemplate


@pytest.mark.parametrize(
    ("template", "text", "question", "expected"),
    [
        ("{transcript}", "a", None, "a"),
        ("T: {transcript} Q: {question}", "a", "b", "T: a Q: b"),
        ("{transcript}{question}", "{question}", "b", "{question}b"),
        ("{transcript}", "{transcript}", None, "{transcript}"),
        ("{transcript} {transcript}", "a", None, "a a"),
        ('{"json": {transcript}, {} {0} {x}}', "a", None, '{"json": a, {} {0} {x}}'),
        ("{transcript} Q: {question}", "a", None, "a Q: "),
        ("{transcript}", "", "unused", ""),
    ],
)
def test_fields_are_replaced_once_and_other_braces_are_text(template, text, question, expected):
    """What is filled in is never searched again."""
    assert PromptTemplate(template).render(text, question) == expected


def test_a_template_without_transcript_is_refused():
    """No text would reach the teacher."""
    with pytest.raises(BadRequest, match=r"\{transcript\}"):
        PromptTemplate("Summarise {this}.")
