"""What a run may ask of its teacher, counted before anything is asked: upper bounds.

A text of the wrong length never reaches the teacher, equal texts share one answer, and an answer
that the store holds is free. None of this is known before the masks are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config import Config
from trainer.policy.contexts import Target
from trainer.policy.lengths import LengthTokenizer
from trainer.rollouts.collect import LengthRule
from trainer.rollouts.judge import Comparison
from trainer.rollouts.prompts import render
from trainer.rollouts.scoring import judge_of
from trainer.types import Example, Question

_TOKENS_PER_MESSAGE = 4
_TOKENS_OF_REPLY = 3
"""What a chat adds around a request's messages, as OpenAI counts."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests and their tokens, at most."""

    calls: int = 0
    prompt_tokens: int = 0

    def __add__(self, other: "Asked") -> "Asked":
        return Asked(self.calls + other.calls, self.prompt_tokens + other.prompt_tokens)

    def __mul__(self, times: int) -> "Asked":
        return Asked(self.calls * times, self.prompt_tokens * times)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a whole run asks, at most."""

    steps: int
    training: Asked
    validations: int
    validation: Asked
    """All of them together."""
    judging: Asked
    """Every answer of both, judged once."""
    references_filled: int
    references: Asked
    """Those that are missing, which `taco prepare` asks for."""
    max_tokens: int
    """Of each completion."""
    judge_tokens: int
    """Of each judgement."""
    tokenizer: str
    """What prompt tokens are counted with."""

    @property
    def total(self) -> Asked:
        """Everything that is asked."""
        return self.training + self.validation + self.judging + self.references

    @property
    def completion_tokens(self) -> int:
        """Of all completions and judgements, at most."""
        judgements = self.judging.calls
        answers = self.total.calls - judgements
        return answers * self.max_tokens + judgements * self.judge_tokens


def forecast(
    config: Config,
    train: Sequence[Example],
    validation: Sequence[Example],
    tokenizer: LengthTokenizer,
) -> Forecast:
    """Count what a run may ask.

    Args:
        config: of the run.
        train: examples to train on; a missing reference completion is empty.
        validation: likewise.
        tokenizer: the run's length tokenizer, which need not be the teacher's.
    """
    epochs, interval = config.hyperparams.epochs, config.evaluation.val_interval
    steps = epochs * -(-len(train) // config.hyperparams.train_batch_size)
    validations = (-(-steps // interval) if interval else 1) if validation else 0
    counter = _Counter(config, tokenizer)
    every, drawn = [*train, *validation], epochs * config.policy.samples
    return Forecast(
        steps=steps,
        training=sum(map(counter.compressed, train), Asked()) * drawn,
        validations=validations,
        validation=sum(map(counter.compressed, validation), Asked()) * validations,
        judging=sum(map(counter.judged, train), Asked()) * drawn
        + sum(map(counter.judged, validation), Asked()) * validations,
        references_filled=sum(map(_is_filled, _questions(every))),
        references=sum(map(counter.missing_references, every), Asked()),
        max_tokens=config.task.max_tokens,
        judge_tokens=config.judge.max_tokens,
        tokenizer=tokenizer.name,
    )


class _Counter:
    """Counts the longest requests that an example can cause."""

    def __init__(self, config: Config, tokenizer: LengthTokenizer) -> None:
        hyperparams = config.hyperparams
        self._template = config.task.prompt
        self._count = tokenizer.count
        first = config.policy.start_rate or hyperparams.compression_rate
        self._rates = config.policy.rates or (first, hyperparams.compression_rate)
        self._target_token = hyperparams.target_token
        self._lengths = LengthRule(
            hyperparams.compression_relaxation_tokens,
            config.reward.compression_tolerance,
            config.reward.length_penalty,
        )
        self._judge = judge_of(config, config.reward.metric)
        self._longest_answer = config.task.max_tokens
        system = config.task.system_message
        self._around = _TOKENS_OF_REPLY + _TOKENS_PER_MESSAGE
        if system is not None:
            self._around += _TOKENS_PER_MESSAGE + self._count(system)

    def compressed(self, example: Example) -> Asked:
        """One compression of an example, asked about with all its questions."""
        tokens = sum(map(self._count, example.contexts))
        longest = max(
            self._lengths.longest(tokens, Target(rate, self._target_token).rate_for(tokens))
            for rate in self._rates
        )
        return self._asked(example.questions, int(longest))

    def judged(self, example: Example) -> Asked:
        """The answers to one compression of an example, judged; none where there is no judge."""
        if self._judge is None:
            return Asked()
        shown = [
            self._judge.render(
                Comparison("", each.reference_completion, each.question, example.original_prompt)
            )
            for each in example.questions
        ]
        around = self._around + self._longest_answer
        return Asked(len(shown), sum(around + self._count(prompt) for prompt in shown))

    def missing_references(self, example: Example) -> Asked:
        """The original, asked about with each question whose reference completion is missing."""
        missing = [question for question in example.questions if not _is_filled(question)]
        return self._asked(missing, self._count(example.original_prompt))

    def _asked(self, questions: Sequence[Question], text_tokens: int) -> Asked:
        around = [
            self._around + self._count(render(self._template, "", question.question))
            for question in questions
        ]
        return Asked(len(around), sum(around) + len(around) * text_tokens)


def _questions(examples: Sequence[Example]) -> list[Question]:
    return [question for example in examples for question in example.questions]


def _is_filled(question: Question) -> bool:
    return bool(question.reference_completion.strip())
