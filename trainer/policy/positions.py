"""The reference implementation's policy, for comparison: positions are drawn, pads and all.

Every position of a chunk that is padded to full length is kept with the probability that the
classifier gives there, special tokens and pads included, and every one of them counts in the mean
log-probability and entropy. A word is kept if all of its pieces are, or where a rule keeps it;
what was drawn for its pieces counts as it was drawn.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.policy.sampling import IndependentWords, word_logits
from trainer.policy.words import Chunk, Mask


@dataclass(frozen=True, slots=True)
class IndependentPositions(IndependentWords):
    """Independent Bernoulli distributions over T positions, which stand in the place of words."""


def positions_policy(prob_CT: Tensor) -> IndependentPositions:
    """Every position by its own probability; (C, T), with gradient."""
    everywhere_CT = torch.ones_like(prob_CT, dtype=torch.bool)
    return IndependentPositions(everywhere_CT, ~everywhere_CT, word_logits(prob_CT))


def words_kept(chunk: Chunk, keep_T: Mask) -> Mask:
    """The words (W,) of which no piece was dropped that could be.

    Args:
        chunk: W words.
        keep_T: what was drawn for its positions, and for the pads behind them.
    """
    dropped_T = ~keep_T[: len(chunk.word_of_piece)] & ~chunk.piece_forced
    of_word_T = chunk.word_of_piece >= 0
    dropped = np.bincount(chunk.word_of_piece[of_word_T & dropped_T], minlength=len(chunk.words))
    kept: Mask = dropped == 0
    return kept
