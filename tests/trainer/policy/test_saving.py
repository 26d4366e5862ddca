"""Saved compressors: deployable by the stock package, whole or not at all."""

import pytest
import torch
from transformers import AutoTokenizer

from tests.tiny_models import CORPUS, load_stock
from trainer.errors import ModelError
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.families import BERT, XLM_ROBERTA
from trainer.policy.inference import compress
from trainer.policy.saving import replaced_at_once
from trainer.policy.words import CompressionOptions

OPTIONS = CompressionOptions(
    force_tokens=("\n", ".", "today is"), force_reserve_digit=True, drop_consecutive=True
)


def train_a_little(model: torch.nn.Module) -> None:
    """Moves every weight, those of the added tokens too."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


@pytest.mark.parametrize("keep_added_tokens", [False, True])
def test_what_was_trained_is_what_the_stock_package_serves(pair, tmp_path, keep_added_tokens):
    """Texts of the saved compressor in the stock package equal ours before saving, word for word.

    With force tokens that were trained through added tokens, if those are kept.
    """
    ours = PromptCompressorReinforce(str(pair.path), "cpu", length_tokenizer="policy")
    train_a_little(ours.model)
    path = ours.save(tmp_path / "out", keep_added_tokens=keep_added_tokens)
    options = OPTIONS if keep_added_tokens else CompressionOptions(force_reserve_digit=True)
    stock = load_stock(path, ours.length_tokenizer)
    for text in [*CORPUS, "\n".join(CORPUS * 4)]:
        expected = stock.compress_prompt_llmlingua2(
            [text],
            rate=0.4,
            force_tokens=list(options.force_tokens),
            force_reserve_digit=True,
            drop_consecutive=options.drop_consecutive,
        )
        assert compress(ours, [text], options, rate=0.4).text == expected["compressed_prompt"]


def test_saved_vocabulary_is_the_one_loaded(pair, tmp_path):
    """The added tokens are left out unless asked for, and saving twice adds none."""
    size = len(AutoTokenizer.from_pretrained(pair.path))
    once = pair.ours.save(tmp_path / "once")
    kept = pair.ours.save(tmp_path / "kept", keep_added_tokens=True)
    again = PromptCompressorReinforce(str(kept), "cpu", length_tokenizer="policy").save(
        tmp_path / "again"
    )
    sizes = [len(AutoTokenizer.from_pretrained(path)) for path in (once, kept, again)]
    assert sizes == [size, size + 100, size + 100]


def test_saving_leaves_the_live_model_alone(bert, tmp_path):
    """An optimiser's parameters keep their identity and their size."""
    before = [(id(p), p.shape) for p in bert.model.parameters()]
    bert.save(tmp_path / "out")
    assert [(id(p), p.shape) for p in bert.model.parameters()] == before
    assert bert.model.config.vocab_size == bert.model.get_input_embeddings().weight.shape[0]


def test_path_carries_the_family(bert, tmp_path):
    """The stock package looks for the family's name in the path, so it is put there if need be."""
    assert bert.save(tmp_path / "out") == tmp_path / "out" / BERT
    assert bert.save(tmp_path / f"my-{BERT}") == tmp_path / f"my-{BERT}"


def test_path_of_the_other_family_is_refused(bert, tmp_path):
    """A folder named after the other family would be joined by the wrong rule."""
    with pytest.raises(ModelError, match=f"names {XLM_ROBERTA}.*Choose another"):
        bert.save(tmp_path / XLM_ROBERTA)


def test_save_replaces_and_leaves_no_drafts(bert, tmp_path):
    """Saving to the same place again leaves one folder, with the newer weights."""
    bert.save(tmp_path / BERT)
    train_a_little(bert.model)
    path = bert.save(tmp_path / BERT)
    again = PromptCompressorReinforce(str(path), "cpu", length_tokenizer="policy")
    torch.testing.assert_close(again.model.classifier.weight, bert.model.classifier.weight)
    assert [child.name for child in tmp_path.iterdir()] == [BERT]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_save_keeps_what_was_there(tmp_path, fault):
    """A full disk or Ctrl-C in the middle of saving costs the new weights, not the old ones."""

    def save(content: str, fault: BaseException | None = None) -> None:
        with replaced_at_once(tmp_path / BERT) as draft:
            (draft / "weights").write_text(content)
            if fault:
                raise fault

    save("old")
    with pytest.raises((ModelError, KeyboardInterrupt)):
        save("new", fault)
    assert (tmp_path / BERT / "weights").read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == [BERT]


def test_failed_swap_is_undone(tmp_path):
    """Where the new folder cannot take its place, the old one gets it back."""
    target = tmp_path / BERT
    target.mkdir()
    (target / "weights").write_text("old")
    with pytest.raises(ModelError, match="still there"), replaced_at_once(target) as draft:
        draft.rmdir()
    assert (target / "weights").read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == [BERT]
