"""A token classifier from an encoder that was never one."""

import pytest
import torch
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForMaskedLM

from tests.tiny_models import MAKERS
from trainer.errors import ModelError
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.encoder import make_classifier
from trainer.policy.families import XLM_ROBERTA


@pytest.fixture
def encoder(tmp_path):
    """A masked language model, as xlm-roberta-large is on the hub."""
    tokenizer = AutoTokenizer.from_pretrained(MAKERS[XLM_ROBERTA](tmp_path / "tokenizer"))
    model = XLMRobertaForMaskedLM(
        XLMRobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=514,
        )
    )
    folder = tmp_path / "encoder"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model


def test_an_encoder_gets_a_head_and_keeps_the_rest(encoder, tmp_path):
    """It loads as a compressor from the path that comes back; the same seed, the same head."""
    folder, model = encoder
    state = torch.random.get_rng_state()
    paths = [make_classifier(str(folder), tmp_path / str(n), seed=n % 2) for n in range(3)]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, other, again = [
        PromptCompressorReinforce(str(path), "cpu", length_tokenizer="policy").model
        for path in paths
    ]
    words = model.roberta.embeddings.word_embeddings.weight
    assert torch.equal(first.roberta.embeddings.word_embeddings.weight[: len(words)], words)
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_what_is_no_encoder_is_refused(tmp_path):
    """An empty folder."""
    with pytest.raises(ModelError, match="to be an encoder's folder"):
        make_classifier(str(tmp_path), tmp_path / "out", seed=0)
