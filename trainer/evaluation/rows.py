"""Rows of a table: ways to compress the same examples, judged alike.

Every row's texts are answered by the teacher and scored against its answers on the originals.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.evaluation.metrics import Scores, score_pairs
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import ContextFilter, Target
from trainer.policy.cuts import Cut
from trainer.policy.inference import Compression, compress_many
from trainer.policy.words import Chunk, CompressionOptions, SegmentedPrompt, Segmenter
from trainer.rollouts.scores import load_metric
from trainer.tasks.rules import (
    clues_first,
    first_words,
    random_drop,
    rarest_first,
    stop_word_drop,
)
from trainer.types import Ask, Example, TeacherItem

_WORD = re.compile(r"\w+")

WordRule = Callable[[Chunk, int], np.ndarray]
"""(chunk, budget in tokens) -> keep mask (W,)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way to compress, over all examples."""

    name: str
    scores: Scores
    """One value per example and question, in order."""
    achieved_rate: float
    """Tokens of all final texts / tokens of all originals."""
    tokens: tuple[int, ...]
    """Length of each example's final text."""

    @property
    def score(self) -> float:
        """Mean over the answered questions."""
        return self.scores.mean or 0.0


def uncompressed(examples: Sequence[Example], segmenter: Segmenter) -> list[Compression]:
    """The originals, as a row of their own."""
    lengths = [segmenter.count_tokens(example.contexts) for example in examples]
    return [
        Compression(example.original_prompt, (), tokens, tokens)
        for example, tokens in zip(examples, lengths, strict=True)
    ]


def by_policy(
    compressor: PromptCompressorReinforce,
    examples: Sequence[Example],
    options: CompressionOptions,
    target: Target,
    *,
    exact: bool,
    threshold: float | None = None,
    context_filter: ContextFilter | None = None,
) -> list[Compression]:
    """As deployed: by the stock package's cut, the exact one, or one threshold for all."""
    return compress_many(
        compressor,
        [example.contexts for example in examples],
        options,
        target,
        exact=exact,
        threshold=threshold,
        context_filter=context_filter,
    )


def by_rule(
    rule: WordRule, examples: Sequence[Example], segmenter: Segmenter, budgets: Sequence[int]
) -> list[Compression]:
    """By a rule over words, with a budget in tokens for each example; a chunk has its share."""

    def masks(prompt: SegmentedPrompt, budget: int) -> tuple[np.ndarray, ...]:
        return tuple(
            rule(chunk, round(budget * chunk.word_tokens.sum() / max(prompt.original_tokens, 1)))
            for chunk in prompt.chunks
        )

    return _masked(masks, examples, segmenter, budgets)


def by_beginning(
    examples: Sequence[Example], segmenter: Segmenter, budgets: Sequence[int]
) -> list[Compression]:
    """The prompt's first words, as many as its budget holds."""

    def masks(prompt: SegmentedPrompt, budget: int) -> tuple[np.ndarray, ...]:
        lengths = [len(chunk.words) for chunk in prompt.chunks]
        tokens = np.concatenate([np.empty(0, int), *(c.word_tokens for c in prompt.chunks)])
        return tuple(np.split(first_words(tokens, budget), np.cumsum(lengths)[:-1]))

    return _masked(masks, examples, segmenter, budgets)


def _masked(
    masks: Callable[[SegmentedPrompt, int], tuple[np.ndarray, ...]],
    examples: Sequence[Example],
    segmenter: Segmenter,
    budgets: Sequence[int],
) -> list[Compression]:
    prompts = segmenter.segment_many([example.contexts for example in examples])
    compressions = []
    for prompt, budget in zip(prompts, budgets, strict=True):
        keep = masks(prompt, budget) if prompt.chunks else ()
        texts = segmenter.join_contexts(prompt, keep)
        compressions.append(
            Compression(
                segmenter.join(prompt, keep),
                tuple(Cut(c.words, mask) for c, mask in zip(prompt.chunks, keep, strict=True)),
                prompt.original_tokens,
                segmenter.count_tokens(texts),
            )
        )
    return compressions


def rarest_words(frequencies: Mapping[str, int]) -> WordRule:
    """The best simple rule here: a text's rarest words, stop words never."""
    return lambda chunk, budget: rarest_first(chunk.words, chunk.word_tokens, budget, frequencies)


def oracle_words(example: Example) -> WordRule:
    """The ceiling: the names in the questions and the answers, which no compressor is shown."""
    clues = {
        clue
        for question in example.questions
        for clue in (
            *_WORD.findall(question.reference_completion),
            *(word for word in _WORD.findall(question.question or "")[1:] if word[0].isupper()),
        )
    }
    return lambda chunk, budget: clues_first(chunk.words, chunk.word_tokens, budget, clues)


def random_words(seed: int) -> WordRule:
    """The floor: words drawn at random."""
    rng = np.random.default_rng(seed)
    return lambda chunk, budget: random_drop(chunk.word_tokens, budget, rng)


def no_stop_words(seed: int) -> WordRule:
    """Stop words go first, then words drawn at random."""
    rng = np.random.default_rng(seed)
    return lambda chunk, budget: stop_word_drop(chunk.words, chunk.word_tokens, budget, rng)


def judge(
    name: str,
    compressions: Sequence[Compression],
    examples: Sequence[Example],
    ask: Ask,
    metric_name: str,
) -> Row:
    """Ask the teacher every question on the compressed texts, and score the answers."""
    replies = ask(items_of(compressions, examples))
    references = [q.reference_completion for example in examples for q in example.questions]
    return Row(
        name=name,
        scores=score_pairs(load_metric(metric_name), list(zip(replies, references, strict=True))),
        achieved_rate=achieved_rate(compressions),
        tokens=tuple(compression.compressed_tokens for compression in compressions),
    )


def achieved_rate(compressions: Sequence[Compression]) -> float:
    """Tokens of all final texts / tokens of all originals."""
    original = sum(compression.original_tokens for compression in compressions)
    return sum(compression.compressed_tokens for compression in compressions) / max(original, 1)


def items_of(compressions: Sequence[Compression], examples: Sequence[Example]) -> list[TeacherItem]:
    """What to ask: every question of every example, in order, on its compressed text."""
    return [
        TeacherItem(compression.text, question.question)
        for compression, example in zip(compressions, examples, strict=True)
        for question in example.questions
    ]
