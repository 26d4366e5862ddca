"""Bundles made by hand, as `taco cache bundle` would never make them."""

import gzip
import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from taco.bundle_format import COMPLETIONS, MANIFEST, TRAIN_DATA, FileSeal, Manifest

FILES = {
    COMPLETIONS: b"no export\n",
    TRAIN_DATA: b"{}",
    "base/bert/config.json": b"{}",
    "runs/trial/run.lock": b"no lock\n",
}
"""Every part of a bundle, and nothing in it that could be used."""


def seal(content: bytes) -> FileSeal:
    """What a manifest says of a content."""
    return FileSeal(len(content), hashlib.sha256(content).hexdigest())


def manifest_of(files: Mapping[str, bytes], /, **changes: Any) -> bytes:
    """A manifest of these files, with entries of the document changed."""
    seals = {name: seal(content) for name, content in files.items()}
    document = json.loads(Manifest("trial", "ab" * 32, seals).encode())
    return json.dumps({**document, **changes}).encode()


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A file as it stands in an archive; `fields` make something else of it."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def members_of(files: Mapping[str, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Files as they stand in an archive."""
    return [member(name, content) for name, content in files.items()]


def write_archive(
    path: Path,
    manifest: bytes,
    members: Sequence[tuple[tarfile.TarInfo, bytes]],
    after: bytes = b"",
) -> Path:
    """Write an archive, with something after its end."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info, content in [member(MANIFEST, manifest), *members]:
            archive.addfile(info, BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue() + after, 1))
    return path
