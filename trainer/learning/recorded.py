"""A group of rollouts that another run drew, and its place in a batch."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trainer.errors import ReplayError
from trainer.policy.sampling import IndependentWords
from trainer.rollouts.collect import CompressedText
from trainer.types import Source, TeacherReply

KeepMask = tuple[np.ndarray, ...]
"""One bool (W,) per chunk."""


@dataclass(frozen=True, slots=True)
class RecordedGroup:
    """One example's S rollouts of one step, as they were drawn and answered."""

    source: Source
    target_rate: float
    """That its masks aimed at."""
    log_odds: tuple[bytes, ...]
    """As in `Rollout`: by what all of its masks were drawn."""
    masks: tuple[KeepMask, ...]
    """One for each rollout."""
    replies: tuple[tuple[TeacherReply, ...], ...]
    """Of each rollout, with their texts; empty where the teacher was not asked."""
    texts_digest: str
    """As `digest_of` gives it for the texts that were judged."""

    @property
    def sizes(self) -> list[int]:
        """Words of each chunk."""
        return [len(row) // np.dtype(np.float32).itemsize for row in self.log_odds]

    def answered(self, texts: Sequence[CompressedText]) -> list[CompressedText]:
        """The texts that its masks leave, with where they come from and what was said of them.

        Raises:
            ReplayError: they are not the texts that were judged.
        """
        if digest_of(text.text for text in texts) != self.texts_digest:
            raise ReplayError(
                f"example {texts[0].example.id!r}: its recorded masks leave other texts here than "
                f"in run {self.source.run} of reuse.runs, step {self.source.step}; reuse runs "
                "whose base has the same tokenizer, with the recorded version of tokenizers"
            )
        return [
            replace(text, source=self.source, replies=replies)
            for text, replies in zip(texts, self.replies, strict=True)
        ]


def digest_of(texts: Iterable[str]) -> str:
    """SHA-256 of texts in their order, 64 hex digits."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def put_recorded(
    drew: IndependentWords,
    keep_mask_SCW: Tensor,
    chunks_B: Sequence[int],
    groups: Sequence[RecordedGroup | None],
) -> tuple[IndependentWords, Tensor]:
    """Put recorded groups into a batch, in the place of what was drawn for their examples.

    Args:
        drew: the policy that drew the batch.
        keep_mask_SCW: what it drew.
        chunks_B: how many chunks each example has.
        groups: of each example; None leaves it as it is.

    Returns:
        Which policy drew each chunk, and the masks.
    """
    logits_CW, keep_mask_SCW = drew.logits_CW.clone(), keep_mask_SCW.clone()
    device, row = logits_CW.device, 0
    for chunks, group in zip(chunks_B, groups, strict=True):
        for index in range(chunks if group else 0):
            assert group
            odds = np.frombuffer(group.log_odds[index], np.float32).copy()
            masks = np.stack([mask[index] for mask in group.masks])
            logits_CW[row + index, : len(odds)] = torch.from_numpy(odds).to(device)
            keep_mask_SCW[:, row + index, : len(odds)] = torch.from_numpy(masks).to(device)
        row += chunks
    return replace(drew, logits_CW=logits_CW), keep_mask_SCW
