"""Which weights move, and how the model that holds them is computed.

Nothing here changes what the saved compressor is: frozen weights are the base's, LoRA's are merged
into the matrices that they adapt, and precision is that of the computation, never of the weights.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config_sections.learning import Compute
from trainer.errors import ConfigError

_ADAPTED = ("query", "key", "value", "dense")
"""The matrices of a BERT or XLM-R layer, by the last part of their names."""

MergeAdapters = Callable[[], None]


def adapt(model: Any, compute: Compute, seed: int) -> MergeAdapters:
    """Freeze, add LoRA, switch on checkpointing of activations and compilation, as configured.

    Args:
        model: the token classifier, changed in place.
        compute: what is asked for.
        seed: of LoRA's first weights; torch's own generator is left alone.

    Returns:
        What makes a model without adapters of it again, in place.

    Raises:
        ConfigError: the model or this machine cannot do it.
    """
    _freeze(model, compute)
    merge = _add_lora(model, compute, seed) if compute.lora_rank else _nothing
    if compute.gradient_checkpointing:
        with _transformers_renaming():
            model.gradient_checkpointing_enable({"use_reentrant": False})
    if compute.compile:
        _compile(model, compute.compile)
    return merge


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The weights that move."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights that move, by name."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@contextmanager
def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The same model, with these weights within the block."""
    own = trained_weights(model)
    _put(model, weights)
    try:
        yield
    finally:
        _put(model, own)


@torch.no_grad()
def _put(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, weight in weights.items():
        parameters[name].copy_(weight)


def _nothing() -> None:
    """There is nothing to merge."""


def _freeze(model: Any, compute: Compute) -> None:
    layers = model.base_model.encoder.layer
    if compute.frozen_layers > len(layers):
        raise ConfigError(
            "compute.frozen_layers",
            [f"expected at most the model's {len(layers)} layers, got {compute.frozen_layers}"],
        )
    frozen = list(layers[: compute.frozen_layers])
    if compute.freeze_embeddings:
        frozen.append(model.base_model.embeddings)
    for module in frozen:
        module.requires_grad_(False)


def _add_lora(model: Any, compute: Compute, seed: int) -> MergeAdapters:
    """Low-rank updates beside every matrix of the layers that are not frozen, and a free head."""
    from peft import LoraConfig, get_peft_model  # Takes a second to import.

    adapted = list(_matrices(model))
    if not adapted:
        raise ConfigError(
            "compute.lora_rank",
            ["expected a layer to adapt, and compute.frozen_layers leaves none"],
        )
    config = LoraConfig(r=compute.lora_rank, lora_alpha=compute.lora_alpha, target_modules=adapted)
    with _transformers_renaming(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapters = get_peft_model(model, config)
    model.classifier.requires_grad_(True)

    def merge() -> None:
        adapters.merge_and_unload()

    return merge


@contextmanager
def _transformers_renaming() -> Iterator[None]:
    """Newer versions have another name for gradient checkpointing, and warn of the old one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _matrices(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        trained = isinstance(module, nn.Linear) and module.weight.requires_grad
        if trained and ".encoder." in f".{name}" and name.rpartition(".")[2] in _ADAPTED:
            yield name


def _compile(model: nn.Module, backend: str) -> None:
    """In place, so that weights keep their names; for any shape, since texts differ in length."""
    try:
        model.compile(backend=backend, dynamic=True)
    except torch._dynamo.exc.InvalidBackend as error:
        known = ", ".join(torch._dynamo.list_backends())
        raise ConfigError(
            "compute.compile", [f"expected a backend of torch.compile ({known}), got {backend!r}"]
        ) from error
