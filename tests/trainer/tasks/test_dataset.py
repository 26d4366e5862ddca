import pytest
import torch
from torch.utils.data import DataLoader
from transformers import BertTokenizer

from trainer.tasks.data import write_records
from trainer.tasks.dataset import GenericRLDataset

RECORDS = {
    "0": {"original_prompt": "ada leads", "gpt_output": "Ada"},
    "1": {
        "original_prompt": "bo eats ada leads",
        "questions": [
            {"question": "Who?", "gpt_output": "Bo"},
            {"question": "Why?", "gpt_output": "Food"},
        ],
    },
}


@pytest.fixture
def tokenizer(tmp_path):
    """A real word-piece tokenizer with four words."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ada", "leads", "bo", "eats"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    return BertTokenizer(vocab=str(tmp_path / "vocab.txt"))


@pytest.fixture
def path(tmp_path):
    """A data file with the records above."""
    write_records(tmp_path / "data.json", RECORDS)
    return tmp_path / "data.json"


def test_items_have_the_reference_fields(path, tokenizer):
    """Token ids with [CLS] and [SEP], the text, and what the teacher said of it."""
    first, second = GenericRLDataset(str(path), tokenizer)
    assert first["input_ids"].tolist() == [2, 5, 6, 3]
    assert first["attention_mask"].tolist() == [1, 1, 1, 1]
    assert (first["org_prompt"], first["gpt_output"]) == ("ada leads", "Ada")
    assert second["gpt_output"] == ["Bo", "Food"]


def test_long_texts_are_cut(path, tokenizer):
    """`max_seq_len` counts the special tokens."""
    dataset = GenericRLDataset(path, tokenizer, max_seq_len=4)
    assert dataset[1]["input_ids"].tolist() == [2, 7, 8, 3]


def test_a_batch_is_padded_to_its_longest_text(path, tokenizer):
    """As a `DataLoader` hands it over."""
    dataset = GenericRLDataset(path, tokenizer)
    (batch,) = DataLoader(dataset, batch_size=2, collate_fn=dataset.collate)
    assert torch.equal(batch["input_ids"], torch.tensor([[2, 5, 6, 3, 0, 0], [2, 7, 8, 5, 6, 3]]))
    assert batch["attention_mask"].sum(1).tolist() == [4, 6]
    assert batch["gpt_output"] == ["Ada", ["Bo", "Food"]]
