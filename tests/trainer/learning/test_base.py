"""A base compressor: supervised labels first, REINFORCE second."""

import numpy as np
import pytest
import torch

from trainer.errors import DataError
from trainer.learning import base as base_module
from trainer.learning.base import make_base
from trainer.learning.warm_start import warm_start
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.inference import compress
from trainer.policy.scoring import keep_probabilities
from trainer.policy.words import CompressionOptions
from trainer.tasks.data import load_examples


@pytest.fixture(scope="module")
def texts(meetings):
    """A few meetings."""
    return [example.original_prompt for example in load_examples(meetings)]


def _silent(_line):
    pass


def test_texts_without_a_word_teach_nothing(tmp_path):
    """Among others they are passed over; alone they are an error with a sentence."""
    with pytest.raises(DataError, match="expected texts with words to learn from; none has any"):
        make_base(tmp_path, ["\u200b", "\u200b\u200b"], rate=0.3, seed=0, report=_silent)


def test_labelled_words_become_likelier_than_the_others(base, texts):
    """Capitalised words, here; smoothed labels keep every probability off 0 and 1."""
    compressor = PromptCompressorReinforce(str(base), "cpu", length_tokenizer="policy")
    segmenter = compressor.segmenter(CompressionOptions())
    chunks = [chunk for text in texts for chunk in segmenter.segment([text]).chunks]
    labels = [np.array([word[0].isupper() for word in chunk.words]) for chunk in chunks]
    reported = []
    warm_start(
        compressor, [list(zip(chunks, labels, strict=True))] * 40, lr=5e-3, report=reported.append
    )
    probs = np.concatenate(keep_probabilities(compressor, chunks))
    wanted = np.concatenate(labels)
    assert probs[wanted].mean() > probs[~wanted].mean() + 0.3
    assert 0.01 < probs.min() < probs.max() < 0.99
    assert [line.partition("  ")[0] for line in reported] == [
        "warm start 20/40",
        "warm start 40/40",
    ]


def test_a_base_is_made_from_texts_alone(texts, tmp_path, monkeypatch):
    """It loads from the path that comes back, and the same seed gives the same weights."""
    monkeypatch.setattr(base_module, "STEPS", 3)
    state = torch.random.get_rng_state()
    paths = [
        make_base(tmp_path / name, texts, rate=0.3, seed=seed, report=_silent)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, again, other = [(path / "model.safetensors").read_bytes() for path in paths]
    assert first == again != other
    compressor = PromptCompressorReinforce(str(paths[0]), "cpu", length_tokenizer="policy")
    compressed = compress(compressor, [texts[0]], CompressionOptions(), rate=0.3)
    assert 0 < compressed.compressed_tokens < compressed.original_tokens / 2
