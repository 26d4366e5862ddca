"""A compressor made from an encoder that was never one: the encoder's weights, a new head."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

from trainer.errors import ModelError
from trainer.policy.families import family_of
from trainer.policy.isolation import quiet_transformers
from trainer.policy.saving import deployable_path, replaced_at_once, write_model


def make_classifier(encoder: str, folder: Path, *, seed: int) -> Path:
    """Writes an encoder as a token classifier of two labels (drop, keep), its head untrained.

    Args:
        encoder: Such as xlm-roberta-large or bert-base-multilingual-cased: a folder, or a name on
            the hub. A token classifier keeps the head that it has.
        folder: Where to; replaced if it is there.
        seed: Of the new head's weights. Global random generators are left as they were.

    Returns:
        The path to load it from, which carries the family's name.

    Raises:
        ModelError: There is no such encoder, it is of no family that the stock package can deploy,
            or the folder cannot be written.
    """
    try:
        with torch.random.fork_rng(devices=[]), quiet_transformers():
            torch.manual_seed(seed)
            config = AutoConfig.from_pretrained(encoder, num_labels=2)
            family = family_of(encoder, config)
            tokenizer = AutoTokenizer.from_pretrained(encoder)
            model = AutoModelForTokenClassification.from_pretrained(
                encoder, config=config, dtype=torch.float32
            )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Expected {encoder!r} to be an encoder's folder, or a name that the Hugging Face Hub "
            f"serves or has cached: {error}"
        ) from error
    target = deployable_path(folder, family)
    with replaced_at_once(target) as draft, quiet_transformers():
        write_model(model, tokenizer, draft)
    return target
