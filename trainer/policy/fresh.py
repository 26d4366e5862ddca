"""A small compressor made from nothing: a start where no checkpoint can be downloaded."""

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor
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

    Its weights are random, but for what `attend_nearby` sets. The same texts and seed give the same
    files. Global random generators are left as they were.

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
        attend_nearby(model)
    target = deployable_path(folder, BERT)
    with replaced_at_once(target) as draft, quiet_transformers():
        write_model(model, tokenizer, draft)
    return target


@torch.no_grad()
def attend_nearby(model: BertForTokenClassification) -> None:
    """Lets every piece attend to itself and its neighbours from the first step on, in place.

    Positions are sinusoids, twice as loud as the words' embeddings, and in each layer keys are
    queries ("mimetic" weights; Trockman and Kolter, 2023): a score is then the likeness of two
    pieces and of their places. Small random weights attend to all pieces alike, and what is learnt
    from them is which kinds of words matter, hardly ever in which sentence.
    """
    std, width = model.config.initializer_range, model.config.hidden_size
    positions = model.bert.embeddings.position_embeddings.weight
    loudness = 2 * std * math.sqrt(2)  # A sinusoid's root mean square is 1 / sqrt(2).
    positions.copy_(loudness * sinusoids(*positions.shape))
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self
        attention.query.weight.normal_(std=width**-0.5)
        attention.key.weight.copy_(attention.query.weight)


def sinusoids(count: int, width: int) -> Tensor:
    """The places of a text (Vaswani et al., 2017): sin and cos of p / 10000^(2i / width), (P, H).

    Args:
        count: how many places (P).
        width: numbers for each (H), even.
    """
    place_P1 = torch.arange(count)[:, None]
    angle_PI = place_P1 / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angle_PI.sin(), angle_PI.cos()], dim=-1).flatten(1)


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
