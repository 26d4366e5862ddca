"""A small compressor made from nothing: a start where no checkpoint can be downloaded."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForTokenClassification, BertTokenizer

from trainer.policy.families import BERT
from trainer.policy.isolation import quiet_transformers
from trainer.policy.saving import deployable_path, replaced_at_once, write_model

_SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_fresh_compressor(
    folder: Path,
    texts: Iterable[str],
    *,
    vocab_size: int = 2000,
    layers: int = 2,
    hidden: int = 128,
    heads: int = 2,
    seed: int = 0,
) -> Path:
    """Trains a WordPiece vocabulary on texts and writes an untrained BERT token classifier.

    The same texts and seed give the same files. Global random generators are left as they were.

    Args:
        folder: Where to; replaced if it is there.
        texts: What the vocabulary is trained on.
        vocab_size: Pieces at most; fewer where the texts do not hold as many.
        layers: Depth of the encoder.
        hidden: Its width; the feed-forward layers are four times as wide.
        heads: Its attention heads.
        seed: Of the initial weights.

    Returns:
        The path to load it from, which carries the family's name.

    Raises:
        ModelError: The path names the other family, or cannot be written.
    """
    tokenizer = BertTokenizer(vocab=train_vocabulary(texts, vocab_size), do_lower_case=False)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=512,
        num_labels=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForTokenClassification(config)
    target = deployable_path(folder, BERT)
    with replaced_at_once(target) as draft, quiet_transformers():
        write_model(model, tokenizer, draft)
    return target


def train_vocabulary(texts: Iterable[str], vocab_size: int) -> dict[str, int]:
    """Trains a cased WordPiece vocabulary: piece to id, at most `vocab_size` pieces."""
    texts = list(texts)
    trainer = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    inner = _inner_characters(trainer, texts)
    trainer.train_from_iterator(
        texts,
        vocab_size=vocab_size,
        min_frequency=1,
        limit_alphabet=len(inner) + vocab_size,
        show_progress=False,
        # The trainer numbers pieces like "##a" in a random order, on which its ties then depend;
        # named beforehand, they have a fixed one.
        special_tokens=[*_SPECIAL_TOKENS, *(f"##{character}" for character in inner)],
    )
    pieces: dict[str, int] = trainer.get_vocab()
    return pieces


def _inner_characters(trainer: BertWordPieceTokenizer, texts: Iterable[str]) -> list[str]:
    words = {
        word
        for text in texts
        for word, _ in trainer.pre_tokenizer.pre_tokenize_str(
            trainer.normalizer.normalize_str(text)
        )
    }
    return sorted({character for word in words for character in word[1:]})
