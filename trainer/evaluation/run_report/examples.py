"""Examples as the page shows them: words kept and dropped at each rate, answers, rewards."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.rollouts.judge import Comparison
from trainer.types import Example, TeacherItem, TeacherReply
from trainer.visible import clipped, visible

if TYPE_CHECKING:
    from trainer.evaluation.run_report.compressed import Compressed
    from trainer.policy.inference import Compression

MOST_WORDS = 1_500
LONGEST_ANSWER = 2_000
NO_ANSWER = "no stored answer"

_CLOSING = frozenset(".,;:!?)]}%'\u2019\u201d")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the teacher said to one question."""

    text: str
    score: str | None
    """None: it is no answer, but a refusal or a failure."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One side of an example at one rate."""

    keep: str
    """A bit for each word shown, packed with the most significant one first, in base64."""
    lengths: str
    answers: tuple[Answer | None, ...]
    """One for each question; None where none is stored."""
    reward: str


@dataclass(frozen=True, slots=True)
class Side:
    """What one compressor makes of an example."""

    label: str
    words: tuple[str, ...]
    """With the space before each."""
    at: tuple[Moment, ...]
    """One for each rate."""

    def runs(self, rate: int) -> list[tuple[bool, str, str]]:
        """Neighbours that are kept, or dropped, together: (kept, space before, text)."""
        packed = np.frombuffer(base64.b64decode(self.at[rate].keep), np.uint8)
        keep = np.unpackbits(packed, count=len(self.words)).astype(bool).tolist()
        pairs = zip(keep, self.words, strict=True)
        texts = [
            (kept, "".join(word for _, word in run)) for kept, run in groupby(pairs, lambda p: p[0])
        ]
        return [
            (kept, text[: len(text) - len(text.lstrip())], text.lstrip()) for kept, text in texts
        ]


@dataclass(frozen=True, slots=True)
class ShownExample:
    """One example."""

    name: str
    questions: tuple[str, ...]
    """"" where the task asks none."""
    references: tuple[str, ...]
    """The teacher's answers on the original."""
    sides: tuple[Side, ...]
    left_out: int
    """Words beyond those shown."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """All that is shown of examples."""

    rates: tuple[str, ...]
    start: int
    """Which of them is shown first."""
    metric: str
    examples: tuple[ShownExample, ...]

    def as_data(self) -> dict[str, Any]:
        """What the page's script needs."""
        return {
            "rates": self.rates,
            "unanswered": NO_ANSWER,
            "examples": [
                {
                    "words": example.sides[0].words,
                    "sides": [_side_data(side, example.sides[0]) for side in example.sides],
                }
                for example in self.examples
            ],
        }


def items_of(sides: Sequence["Compressed"], examples: Sequence[Example]) -> list[TeacherItem]:
    """What is to be asked: every question on every side's text at every rate."""
    return [
        TeacherItem(compression.text, question.question)
        for side in sides
        for at_rate in side.at
        for example, compression in zip(examples, at_rate, strict=True)
        for question in example.questions
    ]


def comparisons_of(
    sides: Sequence["Compressed"], examples: Sequence[Example], replies: Sequence[TeacherReply]
) -> list[Comparison]:
    """What is to be scored: replies to `items_of` beside the reference completions."""
    asked = [
        (question, example)
        for side in sides
        for _ in side.at
        for example in examples
        for question in example.questions
    ]
    return [
        Comparison(
            reply.text, question.reference_completion, question.question, example.original_prompt
        )
        for reply, (question, example) in zip(replies, asked, strict=True)
    ]


def arrange(
    sides: Sequence["Compressed"],
    examples: Sequence[Example],
    rates: Sequence[float],
    start: float,
    heard: Sequence[tuple[TeacherReply, float | None]] | None,
    metric: str,
) -> Gallery:
    """Put everything in its place.

    Args:
        sides: by compressor.
        examples: what they compressed.
        rates: at which rates.
        start: the rate to begin with.
        heard: replies to `items_of`, in its order, each with its score, if it has one; None: there
            is no teacher to look them up at.
        metric: of the reward, by its name in the config.
    """
    left = None if heard is None else iter(heard)
    moments = {
        (column, index, number): _moment(compression, example, left)
        for column, side in enumerate(sides)
        for index, at_rate in enumerate(side.at)
        for number, (example, compression) in enumerate(zip(examples, at_rate, strict=True))
    }
    shown = tuple(
        ShownExample(
            name=visible(example.id),
            questions=tuple(clipped(q.question or "", LONGEST_ANSWER) for q in example.questions),
            references=tuple(
                clipped(q.reference_completion, LONGEST_ANSWER) for q in example.questions
            ),
            sides=tuple(
                Side(
                    visible(side.label),
                    _words(side.at[0][number])[:MOST_WORDS],
                    tuple(moments[column, index, number] for index in range(len(rates))),
                )
                for column, side in enumerate(sides)
            ),
            left_out=max(0, len(_words(sides[0].at[0][number])) - MOST_WORDS),
        )
        for number, example in enumerate(examples)
    )
    nearest = min(range(len(rates)), key=lambda index: abs(rates[index] - start))
    return Gallery(tuple(f"{rate:.3g}" for rate in rates), nearest, metric, shown)


def _moment(
    compression: "Compression",
    example: Example,
    replies: Iterator[tuple[TeacherReply, float | None]] | None,
) -> Moment:
    keep = np.concatenate([np.empty(0, bool), *compression.keep])[:MOST_WORDS]
    answered = list(islice(replies, len(example.questions))) if replies else []
    scores = [score for _, score in answered if score is not None]
    whole = len(scores) == len(example.questions)
    return Moment(
        keep=base64.b64encode(np.packbits(keep).tobytes()).decode(),
        lengths=f"{compression.compressed_tokens:,} of {compression.original_tokens:,} tokens, "
        f"rate {compression.rate:.3f}",
        answers=tuple(_answer(*each) for each in answered) or (None,) * len(example.questions),
        reward=f"reward {fmean(scores):.3f}" if whole and scores else "",
    )


def _answer(reply: TeacherReply, score: float | None) -> Answer | None:
    if score is not None:
        return Answer(clipped(reply.text, LONGEST_ANSWER) or "(empty)", f"{score:.2f}")
    error = reply.error or reply.outcome
    return None if "cache_miss" in error else Answer(clipped(error, LONGEST_ANSWER), None)


def _words(compression: "Compression") -> tuple[str, ...]:
    """Every word, kept or not, with the space that stood before it, as far as the pieces tell."""
    words = [word for cut in compression.cuts for word in cut.words]
    if any(word.startswith("▁") for word in words):
        return tuple(visible(word.replace("▁", " ")) for word in words)
    return tuple(
        visible(word if word in _CLOSING or index == 0 else f" {word}")
        for index, word in enumerate(words)
    )


def _side_data(side: Side, first: Side) -> dict[str, Any]:
    return {
        "words": None if side.words == first.words else side.words,
        "at": [
            {
                "keep": moment.keep,
                "lengths": moment.lengths,
                "answers": [
                    answer and {"text": answer.text, "score": answer.score}
                    for answer in moment.answers
                ],
                "reward": moment.reward,
            }
            for moment in side.at
        ],
    }
