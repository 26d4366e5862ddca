"""The reference's data set class, for code that feeds a `DataLoader` of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from trainer.tasks.data import load_examples
from trainer.types import Example


class GenericRLDataset(Dataset[dict[str, Any]]):
    """Examples as the reference's items: `input_ids, attention_mask, org_prompt, gpt_output`.

    An item's tensors have the text's own length T, at most `max_seq_len`; give `collate` to the
    `DataLoader`, which pads a batch to its longest text. `gpt_output` is a string, or a list where
    the record asks several questions.

    Args:
        data: A data file in the reference's JSON, or examples.
        tokenizer: The policy's, from `transformers`.
        max_seq_len: Longest text in tokens, special ones included; what is beyond is cut off.

    Raises:
        DataError: The file is bad; every bad record is named.
    """

    def __init__(
        self, data: str | Path | Sequence[Example], tokenizer: Any, max_seq_len: int = 512
    ) -> None:
        self.examples = load_examples(Path(data)) if isinstance(data, str | Path) else list(data)
        self.tokenizer = tokenizer
        self.max_seq_len = max_seq_len

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.examples[index]
        encoded = self.tokenizer(
            example.original_prompt, truncation=True, max_length=self.max_seq_len
        )
        references = [question.reference_completion for question in example.questions]
        return {
            "input_ids": torch.tensor(encoded["input_ids"]),
            "attention_mask": torch.tensor(encoded["attention_mask"]),
            "org_prompt": example.original_prompt,
            "gpt_output": references[0] if len(references) == 1 else references,
        }

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Stacks B items: tensors (B, T) padded to the longest, texts in lists of B."""
        pads = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0}
        tensors = {
            name: pad_sequence(
                [item[name] for item in items], batch_first=True, padding_value=padding
            )
            for name, padding in pads.items()
        }
        texts = {name: [item[name] for item in items] for name in ("org_prompt", "gpt_output")}
        return tensors | texts
