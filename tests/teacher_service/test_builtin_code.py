"""The built-in teacher's summary of code, by hand."""

import pytest

from teacher_service.backends.builtin_rules import answer

CODE = """def read_configFile(self, path, *, encoding=None):
    if not exists(path):
        raise FileNotFoundError(path)
    text = open(path, encoding=encoding).read()
    return parsed_text
"""


def summary(code):
    """What the teacher answers."""
    prompt = f"Say what this function does.\n\nCode:\n{code}\n\nSummary:"
    return answer([{"role": "user", "content": prompt}])


def test_a_function_is_summarised_by_its_names():
    """Name, parameters, raised, called and returned names, as words."""
    assert summary(CODE).splitlines() == [
        "read config file",
        "takes path, encoding",
        "raises file not found error",
        "calls exists, file not found error, open, read",
        "returns parsed text",
    ]


def test_spaces_around_punctuation_do_not_matter():
    """Joined word pieces: the same summary."""
    spaced = CODE
    for mark in "_(),.":
        spaced = spaced.replace(mark, f" {mark} ")
    assert summary(" ".join(spaced.split())) == summary(CODE)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("read_configFile path", "unknown"),  # No mark is left.
        ("def read raise ValueError", "read\nraises value error"),
        ("def read(path", "read\ntakes path"),
        ("return None", "unknown"),
        ("", "unknown"),
    ],
)
def test_what_lost_its_mark_is_not_found(code, expected):
    """What a compressor has to learn to keep."""
    assert summary(code) == expected


def test_other_prompts_are_read_as_before():
    """A question about code is a question, and a transcript with a line `Code:` is a transcript."""
    prompt = "Code:\nAnn leads Atlas.\nQuestion: Who leads Atlas?"
    assert answer([{"role": "user", "content": prompt}]) == "Ann"
    prompt = "Transcript:\nAnn leads Atlas.\nCode:\ndef x\n\nSummary:"
    assert answer([{"role": "user", "content": prompt}]).startswith("lead: Ann, Atlas")
