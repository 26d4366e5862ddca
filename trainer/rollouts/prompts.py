"""The prompt template and its result."""

import re

_PLACEHOLDER = re.compile(r"\{(transcript|question)\}")


def render(template: str, text: str, question: str | None = None) -> str:
    """Fill `{transcript}` and `{question}`, literally and in one pass.

    What is filled in is never searched again, so that a text which itself contains "{question}"
    stays as it is. All other braces are text. Without a question its place stays empty.
    """
    values = {"transcript": text, "question": question or ""}
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], template)


def check_template(template: str) -> str | None:
    """Say what is wrong with a template; None when nothing is."""
    if "{transcript}" in template:
        return None
    return (
        f"expected a prompt template with {{transcript}}, where the text goes; got {template!r}; "
        "add {transcript} to it"
    )
