"""Keep probabilities of words: value, gradient, padding."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny_models import CORPUS
from trainer.policy.compressor import word_keep_probs
from trainer.policy.scoring import first_piece_probabilities, keep_probabilities
from trainer.policy.words import HIDDEN, NO_WORD, Chunk, CompressionOptions


class LogitPerPiece(nn.Module):
    """A classifier that gives each piece id a keep logit of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.linspace(-2.0, 2.0, 10))
        self.attended: torch.Tensor | None = None

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        self.attended = attention_mask
        keep = self.logit[input_ids]
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(keep), keep], dim=-1))


def chunk(piece_ids: list[int], word_of_piece: list[int], forced: list[int]) -> Chunk:
    """A chunk whose pieces at the indices `forced` are overridden."""
    words = max(word_of_piece) + 1
    is_forced = np.isin(np.arange(len(piece_ids)), forced)
    return Chunk(
        piece_ids=np.array(piece_ids),
        word_of_piece=np.array(word_of_piece),
        piece_forced=is_forced,
        words=tuple("abcdef"[:words]),
        word_forced=np.zeros(words, bool),
        word_in_force_tokens=np.zeros(words, bool),
        word_tokens=np.ones(words, np.int64),
    )


def test_word_probability_is_the_mean_of_its_pieces():
    """Specials do not count, forced pieces count as 1, gradient flows to the others alone."""
    model = LogitPerPiece()
    first = chunk([0, 3, 4, 5, 6, 1], [NO_WORD, 0, 0, 1, 1, NO_WORD], forced=[4])
    second = chunk([0, 7, 9, 1], [NO_WORD, 0, HIDDEN, NO_WORD], forced=[])
    prob_CW, is_word_CW = word_keep_probs(model, [first, second], 9, "cpu")
    p = torch.sigmoid(model.logit.detach())
    expected = torch.tensor([[(p[3] + p[4]) / 2, (p[5] + 1) / 2], [p[7], 0]])
    torch.testing.assert_close(prob_CW, expected)
    assert is_word_CW.tolist() == [[True, True], [True, False]]
    assert model.attended is not None
    assert model.attended.tolist() == [[True] * 6, [True, True, False, True, False, False]]
    prob_CW.sum().backward()
    slope = p * (1 - p)
    hand = torch.zeros(10)
    hand[[3, 4, 5, 7]] = torch.stack([slope[3] / 2, slope[4] / 2, slope[5] / 2, slope[7]])
    torch.testing.assert_close(model.logit.grad, hand)


def test_padding_changes_nothing(pair):
    """A chunk has the same probabilities alone and beside a longer one."""
    prompt = pair.ours.segmenter(CompressionOptions()).segment([*CORPUS, " ".join(CORPUS)])
    together = keep_probabilities(pair.ours, prompt.chunks)
    for one, expected in zip(prompt.chunks, together, strict=True):
        np.testing.assert_allclose(
            keep_probabilities(pair.ours, [one])[0], expected, rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_padding_is_hidden_from_every_kind_of_attention(bert, implementation):
    """Each is told of it in the form that it takes, and gives what the model gives without it."""
    chunks = bert.segmenter(CompressionOptions()).segment(CORPUS).chunks
    short, *_, long = sorted(chunks, key=lambda chunk: len(chunk.piece_ids))
    bert.model.set_attn_implementation(implementation)
    try:
        prob_CW, is_word_CW = word_keep_probs(bert.model, [short, long], 0, "cpu")
        (alone_CW, _) = word_keep_probs(bert.model, [short], 0, "cpu")
    finally:
        bert.model.set_attn_implementation("sdpa")
    torch.testing.assert_close(prob_CW[0][is_word_CW[0]], alone_CW[0], rtol=0, atol=1e-6)
    assert not is_word_CW[0].all()


def test_results_come_in_the_order_asked(bert):
    """Batches are sorted by length, results are not."""
    bert.max_batch_size = 2
    prompt = bert.segmenter(CompressionOptions()).segment(CORPUS)
    sizes = [len(prob_W) for prob_W in keep_probabilities(bert, prompt.chunks)]
    assert sizes == [len(chunk.words) for chunk in prompt.chunks]


def test_real_model_gets_a_gradient(bert):
    """The probabilities that training sees reach every layer of the compressor."""
    prompt = bert.segmenter(CompressionOptions()).segment(CORPUS[:2])
    prob_CW, is_word_CW = word_keep_probs(bert.model, prompt.chunks, 0, "cpu")
    prob_CW[is_word_CW].log().sum().backward()
    without = [name for name, p in bert.model.named_parameters() if p.grad is None]
    assert without == []


def test_context_filter_takes_the_first_piece_for_the_word(bert):
    """Nothing is overridden for the context-level filter, and a word is its first piece."""
    plain = bert.segmenter(CompressionOptions()).segment(["The reports"]).chunks
    forced = (
        bert.segmenter(CompressionOptions(force_tokens=("The",))).segment(["The reports"]).chunks
    )
    (expected,) = first_piece_probabilities(bert, plain)
    (got,) = first_piece_probabilities(bert, forced)
    with torch.no_grad():
        logits = bert.model(input_ids=torch.tensor(plain[0].piece_ids[None])).logits
    probs = logits.softmax(-1)[0, :, 1].numpy()
    np.testing.assert_allclose(expected, probs[[1, 2]], atol=1e-6)
    assert got == pytest.approx(expected)
