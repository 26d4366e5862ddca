"""What was drawn for a batch: masks, their probabilities, and the texts that they leave."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.rollouts.collect import CompressedText


@dataclass(frozen=True, slots=True)
class SampledBatch:
    """What was drawn for a batch."""

    texts: list[CompressedText]
    """B * S of them, in the order of example and sample."""
    keep_mask_SCW: Tensor
    """The actions, forced words included; bool."""
    behaviour_SCW: Tensor
    """Log-probability of each action under the policy that drew it; without a gradient."""
    log_odds_CW: Tensor
    """Of keeping each word, of what drew it; 0 where words are not drawn independently."""
    example_C: Tensor
    """Which example each chunk belongs to, 0 to B - 1."""
    examples: int
    """B."""
    stale: bool = False
    """Whether they were drawn before the last update of the weights."""

    @property
    def is_off_policy(self) -> bool:
        """Whether another policy than the step's drew some of them."""
        return self.stale or any(self.recorded)

    @property
    def recorded(self) -> list[bool]:
        """Which examples have the rollouts of another run; B of them."""
        return [text.source is not None for text in self.texts[:: self.samples]]

    @property
    def samples(self) -> int:
        """Rollouts per example (S)."""
        return len(self.keep_mask_SCW)

    def per_example(self, value_XC: Tensor) -> Tensor:
        """Values of chunks, (..., C), added up by example: (..., B)."""
        total_XB = value_XC.new_zeros((*value_XC.shape[:-1], self.examples))
        return total_XB.index_add(-1, self.example_C, value_XC)

    def part(self, start: int, stop: int) -> "SampledBatch":
        """What was drawn for the examples from `start` up to `stop`."""
        row_C = (self.example_C >= start) & (self.example_C < stop)
        return SampledBatch(
            texts=self.texts[start * self.samples : stop * self.samples],
            keep_mask_SCW=self.keep_mask_SCW[:, row_C],
            behaviour_SCW=self.behaviour_SCW[:, row_C],
            log_odds_CW=self.log_odds_CW[row_C],
            example_C=self.example_C[row_C] - start,
            examples=stop - start,
            stale=self.stale,
        )


def joined(parts: Sequence[SampledBatch]) -> SampledBatch:
    """Several micro-batches as one, in their order."""
    width = max(part.keep_mask_SCW.shape[-1] for part in parts)
    starts = np.cumsum([0, *(part.examples for part in parts)]).tolist()
    return SampledBatch(
        texts=[text for part in parts for text in part.texts],
        keep_mask_SCW=torch.cat([widened(part.keep_mask_SCW, width) for part in parts], dim=1),
        behaviour_SCW=torch.cat([widened(part.behaviour_SCW, width) for part in parts], dim=1),
        log_odds_CW=torch.cat([widened(part.log_odds_CW, width) for part in parts]),
        example_C=torch.cat(
            [part.example_C + start for part, start in zip(parts, starts, strict=False)]
        ),
        examples=starts[-1],
    )


def widened(value_XW: Tensor, width: int) -> Tensor:
    """The same with zeros up to a width, or without what stands beyond it."""
    return F.pad(value_XW, (0, width - value_XW.shape[-1]))


def describe_draws(sampled: SampledBatch) -> Iterator[dict[str, object]]:
    """What `PromptCompressorReinforce.get_rl_info` tells of each rollout, as `sampled.texts`."""
    log_probs = sampled.per_example(sampled.behaviour_SCW.sum(-1)).T.flatten().tolist()
    for text, log_prob in zip(sampled.texts, log_probs, strict=True):
        yield {
            "example_id": text.example.id,
            "sample_index": text.sample_index,
            "keep_mask": text.keep_mask,
            "log_prob": log_prob,
            "compressed_prompt": text.text,
        }
