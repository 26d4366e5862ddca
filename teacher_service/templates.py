"""Prompt templates: `{transcript}` and `{question}` are replaced, every other brace is text."""

import re

from teacher_service.errors import BadRequest

_FIELD = re.compile(r"(\{transcript\}|\{question\})")


class PromptTemplate:
    """A template, cut once and filled many times.

    One pass: a text that itself contains `{question}` is left alone.

    Raises:
        BadRequest: The template has no `{transcript}`, so no text could reach the teacher.
    """

    def __init__(self, template: str) -> None:
        self._pieces = _FIELD.split(template)
        if "{transcript}" not in self._pieces:
            raise BadRequest(
                "prompt_template has no {transcript}: say where the text goes",
                param="prompt_template",
            )

    def render(self, text: str, question: str | None) -> str:
        """The prompt for one text; without a question, its place stays empty."""
        values = {"{transcript}": text, "{question}": question or ""}
        return "".join([values.get(piece, piece) for piece in self._pieces])
