"""A batch's examples cut into the chunks and words that the policy decides about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import ContextFilter, Target, filter_contexts
from trainer.policy.words import Chunk, SegmentedPrompt, Segmenter
from trainer.types import Example

_NO_WORDS = Chunk(
    piece_ids=np.array([0]),
    word_of_piece=np.array([0]),
    piece_forced=np.array([True]),
    words=("",),
    word_forced=np.array([True]),
    word_in_force_tokens=np.array([False]),
    word_tokens=np.array([0]),
)
"""Stands for a text of unknown pieces alone: it has no action, and what is left of it is empty."""


@dataclass(frozen=True, slots=True)
class PreparedExample:
    """An example and how the stock package cuts it into chunks and words."""

    example: Example
    prompt: SegmentedPrompt
    target_rate: float
    """Compressed / original tokens."""


def prepare_batch(
    examples: Sequence[Example],
    compressor: PromptCompressorReinforce,
    segmenter: Segmenter,
    targets: Sequence[Target],
    context_filter: ContextFilter | None,
) -> list[PreparedExample]:
    """Cut examples up, and drop whole contexts first if there is a filter.

    Every prepared example has a chunk, so that whatever a batch holds, there is a forward pass with
    a gradient. Each example has a target of its own.
    """
    if context_filter is not None:
        return [
            _filtered(example, compressor, segmenter, target, context_filter)
            for example, target in zip(examples, targets, strict=True)
        ]
    segmented = segmenter.segment_many([example.contexts for example in examples])
    prompts = list(map(_with_a_chunk, segmented))
    rates = [
        target.rate_for(prompt.original_tokens)
        for target, prompt in zip(targets, prompts, strict=True)
    ]
    return list(map(PreparedExample, examples, prompts, rates))


def _filtered(
    example: Example,
    compressor: PromptCompressorReinforce,
    segmenter: Segmenter,
    target: Target,
    context_filter: ContextFilter,
) -> PreparedExample:
    """Drop contexts by the policy of the moment.

    That is no action: what is left is the prompt of which the rate and the length rules speak.
    """
    contexts, prompt, rate = filter_contexts(
        compressor, segmenter, example.contexts, context_filter, target
    )
    prompt = replace(prompt, original_tokens=segmenter.count_tokens(contexts))
    return PreparedExample(example, _with_a_chunk(prompt), rate)


def _with_a_chunk(prompt: SegmentedPrompt) -> SegmentedPrompt:
    return prompt if prompt.chunks else replace(prompt, contexts=((_NO_WORDS,),))


def pieces_of_longest(prepared: PreparedExample) -> int:
    """Pieces of its longest chunk: to how many its micro-batch is padded at least."""
    return max(len(chunk.piece_ids) for chunk in prepared.prompt.chunks)


def chunks_of(batch: Sequence[PreparedExample]) -> list[Chunk]:
    """The C chunks of all examples, in order: what one forward pass is over."""
    return [chunk for prepared in batch for chunk in prepared.prompt.chunks]


def chunk_counts(batch: Sequence[PreparedExample]) -> list[int]:
    """How many chunks each example has."""
    return [len(prepared.prompt.chunks) for prepared in batch]


def chunk_owners(batch: Sequence[PreparedExample]) -> list[int]:
    """For each chunk, the index of its example."""
    return [index for index, prepared in enumerate(batch) for _ in prepared.prompt.chunks]
