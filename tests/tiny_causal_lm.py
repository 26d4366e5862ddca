"""Tiny random language models with a tokenizer and a chat template, to be teachers in tests."""

import warnings
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from trainer.policy.isolation import quiet_transformers

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

_MARKS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>"]
_FAMILIES: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}


def make_causal_lm(
    folder: Path, family: str = "qwen2", *, seed: int = 1, template: str | None = TEMPLATE
) -> Path:
    """Writes a model of two layers over single bytes; returns its folder.

    Weights are wide, so that logits differ and texts with them.
    """
    tokenizer = _byte_tokenizer(template)
    config_class, model_class = _FAMILIES[family]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _byte_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(_MARKS)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=512
    )
    tokenizer.chat_template = template
    return tokenizer


def make_adapter(folder: Path, model: Path, *, seed: int = 5) -> Path:
    """Writes a LoRA adapter that changes what this model says; returns its folder."""
    # Imported here: most tests need no adapter, and it takes seconds.
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"])
    with (
        torch.random.fork_rng(devices=[]),
        quiet_transformers(),
        warnings.catch_warnings(action="ignore"),  # peft asks transformers for an old name.
    ):
        torch.manual_seed(seed)
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.3)
        adapted.save_pretrained(folder)
    return folder
