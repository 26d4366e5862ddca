"""The compressor made from nothing."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification

from tests.tiny_models import CORPUS, load_stock
from trainer.errors import ModelError
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.families import BERT, XLM_ROBERTA
from trainer.policy.fresh import make_fresh_compressor, sinusoids


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


def test_a_piece_attends_to_its_neighbours_before_anything_is_learnt(tmp_path):
    """In every layer and head: itself first, and what is near before what is far."""
    path = make_fresh_compressor(tmp_path / "base", CORPUS, vocab_size=300)
    model = AutoModelForTokenClassification.from_pretrained(path, attn_implementation="eager")
    ids = torch.randint(5, 300, (4, 90), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layers = model.eval()(input_ids=ids, output_attentions=True).attentions
    far = (torch.arange(90)[:, None] - torch.arange(90)).abs()
    for attention in layers:
        heads = attention.mean(0)
        itself, near, distant = (
            heads[:, part].mean().item() for part in (far == 0, (far > 0) & (far < 6), far > 30)
        )
        assert itself > near > 1.5 * distant


def test_sinusoids_tell_places_apart_by_how_far_they_lie():
    """The likeness of two places depends on their distance alone, and falls at first."""
    places = sinusoids(60, 32)
    assert places[0].tolist() == [0.0, 1.0] * 16
    likeness = places @ places.T
    for distance in (1, 7):
        assert torch.diagonal(likeness, distance).std() < 1e-4
    assert (likeness[0, :4].diff() < 0).all()


def test_path_of_the_other_family_is_refused(tmp_path):
    """It is a BERT, whatever the folder's name says."""
    with pytest.raises(ModelError, match=f"names {XLM_ROBERTA}"):
        make_fresh_compressor(tmp_path / XLM_ROBERTA, CORPUS)
