"""Writes compressors so that the stock package can deploy them, whole or not at all; names them."""

import copy
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trainer.errors import ModelError
from trainer.policy.families import FAMILIES


def deployable_path(folder: Path, family: str) -> Path:
    """Where to save a compressor so that the stock package joins its word pieces rightly.

    It looks for the family's name in the path, and nowhere else.

    Raises:
        ModelError: The path names the other family.
    """
    wrong = [other for other in FAMILIES if other != family and other in str(folder)]
    if wrong:
        raise ModelError(
            f"The folder {str(folder)!r} names {wrong[0]}, but the compressor is of the family "
            f"{family}, and the stock package believes the name. Choose another "
            "`model.trained_model_output_dir_hf`."
        )
    return folder if family in str(folder) else folder / family


def require_place(target: Path) -> None:
    """Finds out before a long training whether its compressor will have a place.

    Raises:
        ModelError: The folder can be made by nobody, or not written to.
    """
    nearest = next(place for place in (target, *target.absolute().parents) if place.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise ModelError(
            f"Expected to save the compressor to {str(target)!r}, and {str(nearest)!r} is no "
            "folder that can be written to. Choose another `model.trained_model_output_dir_hf`."
        )


def write_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes weights, configuration and tokenizer, with one embedding per token of the tokenizer.

    The live model keeps its size, because an optimiser holds its parameters.
    """
    rows = len(tokenizer)
    embedding = model.get_input_embeddings().weight
    state = {
        name: tensor[:rows].clone() if tensor.data_ptr() == embedding.data_ptr() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state)
    config = copy.deepcopy(model.config)
    config.vocab_size = rows
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def replaced_at_once(target: Path) -> Iterator[Path]:
    """Gives a folder to write into, which takes the target's place when all of it is there.

    Raises:
        ModelError: The folder cannot be written; what was at the target before is still there.
    """
    draft = target.with_name(f".{target.name}.draft-{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        yield draft
        _swap(draft, target)
    except OSError as error:
        raise ModelError(
            f"Could not save the compressor to {str(target)!r}: {error}. What was there before "
            "is still there. Make room or choose another folder, then save again."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _swap(draft: Path, target: Path) -> None:
    """Puts the draft in the target's place, and removes what was there."""
    if not target.exists():
        draft.rename(target)
        return
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    target.rename(old)
    try:
        draft.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def tensors_digest(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """SHA-256 over named tensors, 64 hex digits; the order of the names does not matter.

    Of the tensors, not of a file: a file's metadata says nothing about the model.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(raw.numpy().tobytes())
    return digest.hexdigest()
