"""The reference's policy over positions, by hand."""

import math

import numpy as np
import pytest
import torch

from trainer.learning import reinforce
from trainer.policy.positions import positions_policy, words_kept
from trainer.policy.words import HIDDEN, NO_WORD, Chunk

KEEP = torch.tensor([[[True, True, False, False], [True, False, True, True]]])
PROBABILITIES = torch.tensor([[0.5, 0.8, 0.4, 0.1], [0.25, 0.5, 0.5, 0.9]])


def _chunk(word_of_piece, piece_forced):
    words = tuple(f"word{index}" for index in range(max(word_of_piece) + 1))
    return Chunk(
        piece_ids=np.arange(len(word_of_piece)),
        word_of_piece=np.array(word_of_piece),
        piece_forced=np.array(piece_forced, bool),
        words=words,
        word_forced=np.zeros(len(words), bool),
        word_in_force_tokens=np.zeros(len(words), bool),
        word_tokens=np.ones(len(words), np.int64),
    )


@pytest.mark.parametrize(
    ("drawn", "kept"),
    [
        ([0, 1, 1, 1, 1, 0], [True, True]),
        ([0, 1, 1, 0, 1, 0], [True, False]),
        ([1, 0, 1, 1, 0, 1], [False, True]),  # The last piece of the second is forced.
        ([1, 0, 0, 0, 0, 1], [False, False]),
    ],
)
def test_a_word_is_kept_if_all_of_its_pieces_are(drawn, kept):
    """Specials decide nothing, and neither do the pads behind a shorter chunk."""
    chunk = _chunk([NO_WORD, 0, 1, 1, 1, HIDDEN], [0, 0, 0, 0, 1, 0])
    for pads in ([], [True], [False] * 3):
        assert words_kept(chunk, np.array([*map(bool, drawn), *pads])).tolist() == kept


def test_the_loss_is_a_mean_over_positions_pads_and_all():
    """-mean(log p(action) * reward) - 0.01 * mean(entropy), over two texts of four positions."""
    policy, rewards = positions_policy(PROBABILITIES), torch.tensor([[1.0], [-0.4]])
    words_C = policy.free_CW.sum(-1)
    advantage_SCW = (rewards / words_C[:, None]).T[:, :, None]
    objective_SC = reinforce.score_function(policy.word_log_probs(KEEP), advantage_SCW).sum(-1)
    loss = reinforce.policy_loss(
        objective_SC.T,
        policy.entropy(),
        torch.zeros(2),
        torch.zeros(2),
        words_C,
        torch.ones(2, 1, dtype=torch.bool),
        entropy_coeff=0.01,
        entropy_per_word=0.0,
        kl_coeff=0.0,
        imitation=0.0,
    )
    log_probs = [
        1.0 * math.log(0.5 * 0.8 * 0.6 * 0.9),
        -0.4 * math.log(0.25 * 0.5 * 0.5 * 0.9),
    ]
    entropy = sum(
        -p * math.log(p) - (1 - p) * math.log(1 - p) for p in PROBABILITIES.flatten().tolist()
    )
    expected = -sum(log_probs) / 8 - 0.01 * entropy / 8
    assert float(loss) / 2 == pytest.approx(expected, rel=1e-5)
