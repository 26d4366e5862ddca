"""The memory where a run would train, against what it would take there."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taco.doctor.accelerator import Gpu
from taco.doctor.findings import Finding, ok, warning, wrong
from trainer.config import Config

_BYTES = 4
"""Of a parameter: weights, gradients and moments are in float32."""
_TRAINED_COPIES = 3
"""Of what is trained, beside the weights: gradients, and AdamW's two moments."""
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Shape:
    """What a compressor's size is known by."""

    parameters: int
    layers: int
    hidden: int
    heads: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Need:
    """What training would take, in bytes."""

    weights: int
    """With a second copy where the KL to the start is asked for, and one of 16 bits where those
    compute."""
    states: int
    """Gradients and moments of what is trained."""
    activations: int
    """What a forward pass keeps for its backward pass."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.states + self.activations


def need_of(shape: Shape, config: Config) -> Need:
    """What a run would take when every prompt of a micro-batch fills one chunk."""
    compute, hyperparams = config.compute, config.hyperparams
    weights = _BYTES * shape.parameters
    copies = 2 if config.policy.kl_coeff else 1
    halved = compute.precision != "fp32"
    chunks = compute.micro_batch_size or hyperparams.train_batch_size
    kept = activation_bytes(shape, chunks, hyperparams.max_seq_len)
    if compute.gradient_checkpointing:  # One layer's, and what goes into each of the others.
        inputs = _BYTES * shape.layers * chunks * hyperparams.max_seq_len * shape.hidden
        kept = kept // shape.layers + inputs
    return Need(
        copies * weights + (weights // 2 if halved else 0),
        _TRAINED_COPIES * _BYTES * _trained_parameters(shape, config),
        kept // 2 if halved else kept,
    )


def _trained_parameters(shape: Shape, config: Config) -> int:
    compute = config.compute
    if compute.lora_rank:  # Two thin matrices for each of a layer's, six at the most.
        return 2 * 6 * shape.layers * compute.lora_rank * shape.hidden
    embeddings = min(shape.vocabulary * shape.hidden, shape.parameters)
    in_layers = (shape.parameters - embeddings) // shape.layers
    frozen = min(compute.frozen_layers, shape.layers) * in_layers
    return shape.parameters - frozen - (embeddings if compute.freeze_embeddings else 0)


def check_memory(shape: Shape | None, gpu: Gpu | None, config: Config) -> Finding:
    """The memory where the run would train, against what it would take.

    Args:
        shape: of the compressor; None: it is not on this machine.
        gpu: to train on; None: the CPU.
        config: of the run.
    """
    where, free = (gpu.name, gpu.free) if gpu else ("CPU", available_memory())
    said = f"{free / _GB:.1f} GB free ({where})"
    if shape is None:
        return ok("memory", f"{said}; what the compressor takes is not known before it is here")
    need = need_of(shape, config)
    said = f"{said}, training takes about {need.total / _GB:.1f} GB"
    if need.total <= free:
        return ok("memory", said)
    if need.weights + need.states > free:
        return wrong(
            "memory",
            f"{said}, {(need.weights + need.states) / _GB:.1f} GB of it before the first example",
            "use more memory or a smaller compressor, or train less of it (compute.lora_rank, "
            "compute.frozen_layers, compute.freeze_embeddings)",
        )
    return warning(
        "memory",
        f"{said}: micro-batches would be made smaller until they fit",
        "set compute.micro_batch_size, compute.gradient_checkpointing or compute.precision: bf16",
    )


def activation_bytes(shape: Shape, chunks: int, pieces: int) -> int:
    """What a forward pass keeps for its backward pass, in float32.

    By layer s b h (34 + 5 a s / h) bytes in 16 bits (Korthikanti et al. 2022, eq. 1), twice that
    in 32; s pieces, b chunks, h hidden size, a heads.
    """
    by_hidden = 34 + 5 * shape.heads * pieces / shape.hidden
    return int(2 * shape.layers * pieces * chunks * shape.hidden * by_hidden)


def available_memory() -> int:
    """Bytes that a process here may still take: the machine's, or less where a container says."""
    if (info := Path("/proc/meminfo")).exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    else:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used -= int(statistics["inactive_file"])  # Cached files, which make room when asked to.
    except (OSError, ValueError, KeyError):  # No control group, or one without a limit ("max").
        return free
    return min(free, limit - used)


def read_shape(folder: Path) -> Shape | None:
    """A compressor's size, from its config and the headers of its weights; None where unknown."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        parameters = sum(map(_count_parameters, folder.glob("*.safetensors")))
        if not parameters:
            stored = sum(file.stat().st_size for file in folder.glob("pytorch_model*.bin"))
            parameters = stored // _BYTES
        sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
        return Shape(parameters, *(int(config[name]) for name in sizes)) if parameters else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # Whether it loads is another check's matter.


def _count_parameters(file: Path) -> int:
    """Of a safetensors file: its header says the shape of every tensor."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")  # A damaged one may be any number.
        header: dict[str, Any] = json.loads(stream.read(min(size, file.stat().st_size)))
    header.pop("__metadata__", None)
    total = 0
    for tensor in header.values():
        count = 1
        for length in tensor["shape"]:
            count *= length
        total += count
    return total
