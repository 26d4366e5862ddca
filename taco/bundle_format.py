"""A bundle: all that a run needs to be done again, in one archive (tar, gzip).

    manifest.json                 first: every other file with its length and SHA-256
    base/FAMILY/…                 the model to start from
    completions.jsonl             the answers, as `taco cache export` writes them
    data/train.json               and data/validation.json, where the run had such a file
    runs/NAME/run.lock            with run.json and result.json
    metric/…                      the model that the reward is measured by, where there is one
    tiktoken/… or tokenizer/…     what lengths were counted with, where it is no part of the base

Nothing in it depends on when or where it was made.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from taco.errors import UserError

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 2**20
COMPLETIONS = "completions.jsonl"
TRAIN_DATA = "data/train.json"
VALIDATION_DATA = "data/validation.json"
BASE = "base"
METRIC_MODEL = "metric/model"
METRIC_BASELINE = "metric/baseline"
TIKTOKEN = "tiktoken"
TOKENIZER = "tokenizer"
_FOLDERS = {BASE, "data", "metric", "runs", TIKTOKEN, TOKENIZER}

_BLOCK_BYTES = 2**20


class BundleError(UserError):
    """A bundle cannot be made, or is not what it says it is."""


@dataclass(frozen=True, slots=True)
class FileSeal:
    """What a file in the bundle must be."""

    bytes: int
    sha256: str
    """64 hex digits."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds."""

    run: str
    """The run's name: its files are in runs/NAME."""
    lock_root: str
    """Of the run's lock, 64 hex digits."""
    files: Mapping[str, FileSeal]
    """By name within the archive, the manifest itself left out."""

    def encode(self) -> bytes:
        """As it stands in the archive."""
        files = {name: asdict(seal) for name, seal in sorted(self.files.items())}
        document = {"bundle": FORMAT, "run": self.run, "lock_root": self.lock_root, "files": files}
        return json.dumps(document, indent=1).encode() + b"\n"

    @property
    def run_folder(self) -> str:
        """Where the run's files are."""
        return f"runs/{self.run}"

    @property
    def lock(self) -> str:
        """The lock file's name."""
        return f"{self.run_folder}/run.lock"

    def names_in(self, folder: str) -> list[str]:
        """The files below a folder."""
        return [name for name in self.files if name.startswith(f"{folder}/")]


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest, trusting nothing in it.

    Raises:
        BundleError: it is none, or of another format, or a name in it leads out of the bundle.
    """
    try:
        document = json.loads(data)
        found = document["bundle"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError("the manifest is none: expected what `taco cache bundle` wrote") from None
    if found != FORMAT:
        raise BundleError(
            f"expected bundle format {FORMAT}, got {found}: use the version of taco-rewards that "
            "wrote it"
        )
    try:
        files = {name: _decode_seal(seal) for name, seal in document["files"].items()}
        manifest = Manifest(str(document["run"]), str(document["lock_root"]), files)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BundleError(f"the manifest is damaged: {error}") from None
    check_names(manifest)
    return manifest


def _decode_seal(seal: Mapping[str, object]) -> FileSeal:
    size, sha256 = seal["bytes"], str(seal["sha256"])
    if not isinstance(size, int) or size < 0 or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"expected a length and a SHA-256, got {dict(seal)}")
    return FileSeal(size, sha256)


def check_names(manifest: Manifest) -> None:
    """Require that all parts are named, and that each has its place within the bundle.

    Raises:
        BundleError: it names the first that has not, or is not there.
    """
    if "/" in manifest.run or not is_plain(manifest.run):
        raise BundleError(
            f"the manifest calls the run {manifest.run!r}: expected a folder's plain name"
        )
    for name in manifest.files:
        folder, slash, _ = name.partition("/")
        inside = name == COMPLETIONS or (folder in _FOLDERS and slash)
        if not (inside and is_plain(name)):
            raise BundleError(f"the manifest names {name!r}, which is no place within a bundle")
    for name in (manifest.lock, COMPLETIONS, TRAIN_DATA, BASE):
        if name not in manifest.files and not manifest.names_in(name):
            raise BundleError(f"the manifest lacks {name}: expected every part of a bundle")


def is_plain(path: str) -> bool:
    """Whether a relative path goes down only, on every system that may read it."""
    parts = path.split("/")
    return path.isprintable() and not any(
        part in ("", ".", "..") or set(part) & set("\\:") for part in parts
    )


def seal_file(path: Path) -> FileSeal:
    """The length and the digest of a file."""
    with path.open("rb") as file:
        return copy_sealed(file, None)


def copy_sealed(source: BinaryIO, target: BinaryIO | None, limit: int | None = None) -> FileSeal:
    """Copy a stream and seal what was read; None: only seal it.

    Args:
        source: read to its end, or to one byte over the limit.
        target: gets what was read.
        limit: bytes after which it is clear that this is not the file that was expected.
    """
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK_BYTES):
        digest.update(block)
        size += len(block)
        if limit is not None and size > limit:
            break
        if target:
            target.write(block)
    return FileSeal(size, digest.hexdigest())
