"""The compressor made from nothing."""

from pathlib import Path

import pytest
import torch

from tests.tiny_models import CORPUS, load_stock
from trainer.errors import ModelError
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.families import BERT, XLM_ROBERTA
from trainer.policy.fresh import make_fresh_compressor


def files(folder: Path) -> dict[str, bytes]:
    """Name to content."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_same_texts_and_seed_make_the_same_files(tmp_path):
    """Bit for bit, although the vocabulary trainer hashes in another order each time."""
    made = [
        files(make_fresh_compressor(tmp_path / name, CORPUS, vocab_size=300, hidden=16, seed=7))
        for name in "abcd"
    ]
    assert made[0].keys() >= {"model.safetensors", "config.json", "tokenizer.json"}
    assert all(other == made[0] for other in made)


def test_stock_package_loads_it(tmp_path):
    """It is an LLMLingua-2 compressor like any other, cased, of the size asked for."""
    state = torch.get_rng_state()
    path = make_fresh_compressor(tmp_path / "base", CORPUS, vocab_size=300, hidden=16)
    assert torch.equal(torch.get_rng_state(), state)
    ours = PromptCompressorReinforce(str(path), "cpu", length_tokenizer="policy")
    stock = load_stock(path, ours.length_tokenizer)
    assert stock.compress_prompt_llmlingua2([CORPUS[0]], rate=0.5)["compressed_prompt"]
    assert path == tmp_path / "base" / BERT
    assert len(ours.tokenizer) == 300 + 100
    assert ours.tokenizer.tokenize("The")[0] == "T"


def test_other_seed_other_weights(tmp_path):
    """The seed decides the initial weights."""
    paths = [
        make_fresh_compressor(tmp_path / str(seed), CORPUS, vocab_size=300, hidden=16, seed=seed)
        for seed in (1, 2)
    ]
    assert (paths[0] / "model.safetensors").read_bytes() != (
        paths[1] / "model.safetensors"
    ).read_bytes()


def test_path_of_the_other_family_is_refused(tmp_path):
    """It is a BERT, whatever the folder's name says."""
    with pytest.raises(ModelError, match=f"names {XLM_ROBERTA}"):
        make_fresh_compressor(tmp_path / XLM_ROBERTA, CORPUS)
