"""The prompt template and its result."""

import re
from collections.abc import Mapping


def render(template: str, text: str, question: str | None = None) -> str:
    """Fill `{transcript}` and `{question}`; without a question its place stays empty."""
    return fill(template, {"transcript": text, "question": question or ""})


def fill(template: str, values: Mapping[str, str]) -> str:
    """Fill the places of a template that have a value, literally and in one pass.

    What is filled in is never searched again, so that a text which itself contains "{question}"
    stays as it is. All other braces are text.
    """
    places = re.compile(rf"\{{({'|'.join(values)})\}}")
    return places.sub(lambda match: values[match.group(1)], template)


def check_template(template: str) -> str | None:
    """Say what is wrong with a template; None when nothing is."""
    if "{transcript}" in template:
        return None
    return (
        f"expected a prompt template with {{transcript}}, where the text goes; got {template!r}; "
        "add {transcript} to it"
    )
