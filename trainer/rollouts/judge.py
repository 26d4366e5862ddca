"""The teacher as a judge: a second prompt asks it what an answer is worth beside its reference.

What it says is read generously, and never guessed: a verdict that is not there, or that could be
two, is no score of zero but none at all.
"""

import hashlib
import json
import re
from dataclasses import dataclass

from trainer.config_sections.scoring import Judge as JudgeSettings
from trainer.rollouts.prompts import fill
from trainer.types import TeacherItem

PROMPT_AS_IT_IS = "{transcript}"
"""The template for the teacher client: a judge's prompts come filled in."""

_QUESTION = "Question: {question}\n\n"
_TO_COMPARE = """\
Reference answer:
{reference}

Answer to grade:
{completion}

"""
_ASKED = {
    "1-5": """\
How much of what the reference answer says does the answer say, and nothing that contradicts it?
Reply with one number, from 1 (none of it) to 5 (all of it), and nothing else.
Score:""",
    "yes-no": """\
Does the answer say what the reference answer says, and nothing that contradicts it?
Reply with yes or no, and nothing else.
Verdict:""",
}

_RANGE = re.compile(r"\b1\s*(?:-|to)\s*5\b")
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_NUMBER = r"(?<![\d.,/-])(\d+(?:\.\d+)?)(?![\d%]|[.,/-]\d)"
_LABELLED = re.compile(rf"(?i:score|rating|grade|verdict)\W*(?:is|of)?\W*{_NUMBER}")
_OUT_OF_FIVE = re.compile(r"(?<![\d.,])(\d+(?:\.\d+)?)\s*(?:/|out of)\s*5(?!\d|\.\d)")
_ANY_NUMBER = re.compile(_NUMBER)
_YES_OR_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_VERSION = 1
"""Of the rules by which a judgement is read, in signatures."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A completion, and what it is scored by."""

    completion: str
    reference: str
    question: str | None
    original: str
    """The whole text that was compressed."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Knows what to ask about an answer, and how to read what comes back."""

    prompt: str
    """With `{completion}` and `{reference}`, and perhaps `{question}` and `{transcript}`."""
    scale: str
    max_tokens: int
    """Of a judgement."""

    @property
    def signature(self) -> str:
        """What reproduces its figures, but for the teacher."""
        template = hashlib.sha256(json.dumps(self.prompt).encode()).hexdigest()[:16]
        options = f"scale:{self.scale}|template:{template}|max_tokens:{self.max_tokens}"
        return f"judge|{options}|version:{_VERSION}"

    def item(self, answer: Comparison, content_digest: str | None = None) -> TeacherItem:
        """What to ask about an answer; the digest is of the judgement that a replay wants."""
        return TeacherItem(self.render(answer), content_digest=content_digest)

    def render(self, answer: Comparison) -> str:
        """The prompt, filled in."""
        return fill(
            self.prompt,
            {
                "completion": answer.completion,
                "reference": answer.reference,
                "question": answer.question or "",
                "transcript": answer.original,
            },
        )

    def read(self, text: str) -> float | None:
        """A judgement as a score from 0 to 1; None where it says none, or could mean two."""
        text = _THOUGHTS.sub("", text)
        return _yes_or_no(text) if self.scale == "yes-no" else _one_to_five(text)


def make_judge(settings: JudgeSettings, *, asks_questions: bool) -> Judge:
    """The judge that a config describes.

    Args:
        settings: of the config.
        asks_questions: whether the task has a question to show.
    """
    question = _QUESTION if asks_questions else ""
    prompt = settings.prompt or question + _TO_COMPARE + _ASKED[settings.scale]
    return Judge(prompt, settings.scale, settings.max_tokens)


def _one_to_five(text: str) -> float | None:
    """A labelled number, else one out of five, else the only number; the last of its kind."""
    text = _RANGE.sub("", text)
    for pattern in (_OUT_OF_FIVE, _LABELLED, _ANY_NUMBER):
        if found := pattern.findall(text):
            break
    else:
        return None
    if pattern is _ANY_NUMBER and len(set(found)) > 1:
        return None
    score = float(found[-1])
    return (score - 1) / 4 if 1 <= score <= 5 else None


def _yes_or_no(text: str) -> float | None:
    """The first word where it is one of them, else the only one that is there."""
    found = [word.lower() for word in _YES_OR_NO.findall(text)]
    first = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE)
    if first:
        found = [first[1].lower()]
    return float(found[0] == "yes") if len(set(found)) == 1 else None
