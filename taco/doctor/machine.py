"""The machine, against what a run needs of it: torch, GPU, memory, disk."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taco.doctor.findings import Finding, ok, warning, wrong
from taco.doctor.probes import ProbeFailed, probe

_BYTES = 4
"""Of a parameter: training is in float32."""
_TRAINED_COPIES = 4
"""Of the weights: themselves, their gradients, and AdamW's two moments."""
_CHECKPOINT_COPIES = 3
"""The same in a checkpoint: themselves and the moments."""
_LOW_DISK_BYTES = 10**9
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Shape:
    """What a compressor's size is known by."""

    parameters: int
    layers: int
    hidden: int
    heads: int


@dataclass(frozen=True, slots=True)
class Torch:
    """What torch says of itself and of the GPUs."""

    version: str
    cuda: str | None
    """The CUDA that it was built for; None for a CPU build."""
    gpus: tuple[tuple[str, int, int], ...]
    """(name, free bytes, all bytes) of each."""


def probe_torch(seconds: float) -> Torch | Finding:
    """Import torch in another process; a finding where that fails."""
    try:
        found = probe(["torch"], seconds)
    except ProbeFailed as error:
        return wrong(
            "torch",
            f"cannot be imported: {error}",
            "`make install`, or pip install 'taco-rewards[train]' with the torch that fits here",
        )
    return Torch(found["version"], found["cuda"], tuple(tuple(gpu) for gpu in found["gpus"]))


def check_torch(torch: Torch | Finding, *, wants_gpu: bool) -> Finding:
    """Which torch there is, and whether it has the GPU that the config asks for."""
    if isinstance(torch, Finding):
        return torch
    built = f"for CUDA {torch.cuda}" if torch.cuda else "for the CPU"
    if torch.gpus:
        names = ", ".join(f"{name} ({total / _GB:.0f} GB)" for name, _, total in torch.gpus)
        return ok("torch", f"{torch.version} {built}; {names}")
    if not wants_gpu:
        return ok("torch", f"{torch.version} {built}")
    return warning(
        "torch",
        f"{torch.version} {built} sees no GPU, and the config asks for one (device.use_cuda): it "
        "would train on the CPU",
        "install the CUDA build of torch where there is a GPU, or set device.use_cuda=false",
    )


def check_memory(
    shape: Shape | None, gpus: Sequence[tuple[str, int, int]], chunks: int, pieces: int
) -> Finding:
    """The memory where the run would train, against what it would take.

    Args:
        shape: of the compressor; None: it is not on this machine.
        gpus: to train on, as in `Torch`; none: the CPU.
        chunks: in one forward pass, when every prompt is one chunk.
        pieces: in each.
    """
    where, free = (gpus[0][0], gpus[0][1]) if gpus else ("CPU", available_memory())
    said = f"{free / _GB:.1f} GB free ({where})"
    if shape is None:
        return ok("memory", f"{said}; what the compressor takes is not known before it is here")
    weights = _BYTES * shape.parameters
    needed = _TRAINED_COPIES * weights + activation_bytes(shape, chunks, pieces)
    said = f"{said}, training takes about {needed / _GB:.1f} GB"
    advice = "use a larger machine, a smaller compressor, or a smaller compute.micro_batch_size"
    if free < weights:
        return wrong("memory", f"{said}, the weights alone {weights / _GB:.1f} GB", advice)
    return ok("memory", said) if needed <= free else warning("memory", said, advice)


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


def check_disk(what: str, folder: Path, shape: Shape | None, checkpoints: int = 0) -> Finding:
    """Room, and the right to write, where a run or a store grows.

    Args:
        what: is kept there.
        folder: may be missing yet.
        shape: of the compressor that is saved there; None: nothing large.
        checkpoints: how many of a run are kept beside it.
    """
    folder = folder.expanduser().absolute()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        return wrong(what, f"{nearest} cannot be written to", "make it writable, or go elsewhere")
    free = shutil.disk_usage(nearest).free
    said = f"{free / _GB:.1f} GB free at {nearest}"
    copies = checkpoints * _CHECKPOINT_COPIES + 1
    needed = copies * _BYTES * shape.parameters if shape else 0
    if free < needed:
        kept = f"{checkpoints} checkpoints and the compressor take {needed / _GB:.1f} GB"
        return wrong(what, f"{said}, and {kept}", "make room on that disk")
    if free < _LOW_DISK_BYTES:
        return warning(what, f"{said}: a full disk stops a run", "make room on that disk")
    return ok(what, said)


def read_shape(folder: Path) -> Shape | None:
    """A compressor's size, from its config and the headers of its weights; None where unknown."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        parameters = sum(map(_count_parameters, folder.glob("*.safetensors")))
        if not parameters:
            stored = sum(file.stat().st_size for file in folder.glob("pytorch_model*.bin"))
            parameters = stored // _BYTES
        sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads")
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
