"""Room on the disk, and the right to write there."""

import os
import shutil
from pathlib import Path

from taco.doctor.findings import Finding, ok, warning, wrong
from taco.doctor.memory import Shape

_BYTES = 4
_CHECKPOINT_COPIES = 3
"""Of the weights in a checkpoint: themselves and AdamW's two moments."""
_LOW_DISK_BYTES = 10**9
_GB = 1e9


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
