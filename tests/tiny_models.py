"""Tiny random compressors of both families, and the stock package to hold ours against."""

from collections import Counter
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

import torch
from llmlingua import PromptCompressor
from transformers import (
    BertConfig,
    BertForTokenClassification,
    BertModel,
    BertTokenizer,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
    XLMRobertaTokenizer,
)

from trainer.policy.families import BERT, XLM_ROBERTA
from trainer.policy.fresh import train_vocabulary
from trainer.policy.isolation import global_state_kept, quiet_transformers, tiktoken_left_alone
from trainer.policy.lengths import LengthTokenizer

# Weights wide enough for keep probabilities that differ from word to word.
_TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 2,
    "initializer_range": 0.2,
}

CORPUS = (
    "The council met on Tuesday to discuss the budget of 2024 for parks, roads and schools.",
    "Councillor Garcia moved to approve item 12; the motion was seconded and carried 5-2.",
    "Is there any objection? Hearing none, the minutes are approved as amended, thank you.",
    "A resident asked why the bridge on Main Street (built in 1967) is still closed to traffic.",
    "def compress(words, rate=0.5):\n    return [word for word in words if keep[word] > rate]\n",
    "She doesn't think it's unreasonable; they've re-evaluated the well-known half-measures.",
    "Die Straße wurde über Nacht geöffnet. Où est le café? El niño comió una piña.",
    "今天的会议讨论了明年的预算。请在星期五之前提交报告。",
    "Prices rose by 3.5% to $1,250.75 while wages fell; see https://example.org/report?id=42.",
    "email: office@example.org, phone +44 20 7946 0958, reference #A-113/B.",
)


def make_bert(folder: Path, texts: Sequence[str] = CORPUS, *, seed: int = 1) -> Path:
    """Writes a BERT compressor of one layer; returns the path to load it from."""
    tokenizer = BertTokenizer(vocab=train_vocabulary(texts, 600), do_lower_case=False)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **_TINY)
    return _write(BertForTokenClassification, config, tokenizer, folder / BERT, seed)


def make_xlm_roberta(folder: Path, texts: Sequence[str] = CORPUS, *, seed: int = 1) -> Path:
    """Writes an XLM-R compressor of one layer; returns the path to load it from."""
    tokenizer = XLMRobertaTokenizer(vocab=_unigram_vocabulary(texts))
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=514,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **_TINY,
    )
    return _write(XLMRobertaForTokenClassification, config, tokenizer, folder / XLM_ROBERTA, seed)


def make_encoder(folder: Path, texts: Sequence[str] = CORPUS, *, seed: int = 1) -> Path:
    """Writes a BERT encoder of three layers, for metrics that compare texts by it."""
    tokenizer = BertTokenizer(
        vocab=train_vocabulary(texts, 600), do_lower_case=False, model_max_length=512
    )
    config = BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=512, **_TINY | {"num_hidden_layers": 3}
    )
    return _write(BertModel, config, tokenizer, folder / "tiny-encoder", seed)


MAKERS = {BERT: make_bert, XLM_ROBERTA: make_xlm_roberta}
"""Family to the function that writes a compressor of it."""


def load_stock(path: Path, length_tokenizer: LengthTokenizer) -> PromptCompressor:
    """Loads a compressor in the stock package, which then counts lengths as we do."""
    with tiktoken_left_alone(), quiet_transformers(), global_state_kept():
        stock = PromptCompressor(
            str(path), device_map="cpu", model_config={}, use_llmlingua2=True, llmlingua2_config={}
        )
    stock.oai_tokenizer = length_tokenizer
    return stock


def _write(model_class: Any, config: Any, tokenizer: Any, target: Path, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        model_class(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def _unigram_vocabulary(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Frequent parts of words, scored by how much text they cover.

    Made by hand, because the trainer of `tokenizers` gives another vocabulary each time.
    """
    parts = Counter(
        word[start:end]
        for text in texts
        for word in (f"▁{word}" for word in text.split())
        for start in range(len(word))
        for end in range(start + 1, min(start + 8, len(word)) + 1)
    )
    chosen = sorted(part for part, count in parts.items() if count > 1 or len(part) == 1)
    total = sum(parts.values())
    special = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
    learnt = [(part, log(parts[part] / total)) for part in chosen]
    # Runs of punctuation are pieces of the real vocabulary too.
    return [*special, *learnt, ("()", -1.0), ("./", -1.0), ("<mask>", 0.0)]
