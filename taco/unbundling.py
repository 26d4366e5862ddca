"""`taco cache unbundle`: check every byte of a bundle, and lay it out so that one command runs it.

A bundle comes from somebody else: nothing is written outside of the new folder, nothing in it is
believed before its digest is checked, no more is unpacked than its manifest states, and the config
that is written names places in the folder.
"""

import gzip
import shlex
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from cache import CacheError
from cache.importing import import_store
from cache.lock_checking import check_needs
from taco.bundle_format import (
    BASE,
    COMPLETIONS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    METRIC_BASELINE,
    METRIC_MODEL,
    TIKTOKEN,
    TOKENIZER,
    TRAIN_DATA,
    VALIDATION_DATA,
    BundleError,
    Manifest,
    copy_sealed,
    decode_manifest,
    is_plain,
)
from trainer.config import resolved
from trainer.config_file import restored
from trainer.errors import TrainerError
from trainer.learning.lockfile import LockSummary, check_lock
from trainer.rollouts.scores import is_built_in

Progress = Callable[[int, int], None]

STORE = "completions.sqlite"
CONFIG = "config.yaml"

_AROUND_BYTES = 2**16
"""Of tar between the contents of two files, read-ahead included."""


@dataclass(frozen=True, slots=True)
class Unbundled:
    """Where a bundle's content is now, and what to do with it."""

    folder: Path
    command: str
    """For a shell: reproduces the run."""
    foreign_metric: str | None
    """The reward's function where it is not ours: code that the bundle does not hold."""


def unbundle(archive: Path, folder: Path, progress: Progress) -> Unbundled:
    """Lay out a bundle in the new folder `folder`: all of it, or nothing.

    Args:
        archive: what `taco cache bundle` wrote.
        folder: must not exist.
        progress: told of bytes unpacked, and of how many.

    Raises:
        BundleError: the archive is no bundle, or was cut short or changed; or `folder` exists.
    """
    if folder.exists():
        raise BundleError(f"{folder} exists: name a new folder, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise BundleError(f"{folder} cannot be made: {error.strerror}") from error
    try:
        with _told(archive):
            manifest = _unpack(archive, scratch, progress)
            config = relocated(_checked_lock(manifest, scratch), manifest)
            text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
            (scratch / CONFIG).write_text(text, encoding="utf-8")
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    metric = config["reward"]["metric"]
    return Unbundled(folder, _command(manifest, folder), None if is_built_in(metric) else metric)


def relocated(lock: LockSummary, manifest: Manifest) -> dict[str, Any]:
    """The recorded config as plain data, with every path in it below the bundle's folder.

    Raises:
        ConfigError: another version of the trainer wrote it.
    """
    config = restored(lock.header.get("config"), Path(manifest.lock))
    sections = {name: dict(section) for name, section in resolved(config).items()}
    sections["data"]["train_file_path"] = TRAIN_DATA
    if sections["data"]["val_file_path"] is not None:
        sections["data"]["val_file_path"] = VALIDATION_DATA
    base_files = manifest.names_in(BASE)
    sections["model"]["model_load_path"] = base_files[0].rpartition("/")[0]
    if files := manifest.names_in(METRIC_MODEL):
        sections["bertscore"] |= {"model": files[0].rpartition("/")[0], "revision": None}
    if files := manifest.names_in(METRIC_BASELINE):
        sections["bertscore"]["baseline_file_path"] = files[0]
    # What `auto` came to is told, because it may come to something else here.
    counted_with = manifest.names_in(TOKENIZER) or [str(lock.header.get("length_tokenizer"))]
    sections["policy"]["length_tokenizer"] = counted_with[0]
    for section, key, plain in (
        ("model", "trained_model_output_dir_hf", "model"),
        ("logging", "log_dir", "logs"),
    ):
        if not is_plain(sections[section][key]):
            sections[section][key] = plain
    return sections


def _command(manifest: Manifest, folder: Path) -> str:
    tiktoken = f"TIKTOKEN_CACHE_DIR={TIKTOKEN} " if manifest.names_in(TIKTOKEN) else ""
    train = f"taco train {CONFIG} --replay {shlex.quote(manifest.lock)} --store {STORE}"
    return f"cd {shlex.quote(str(folder))} && {tiktoken}{train}"


@contextmanager
def _told(archive: Path) -> Iterator[None]:
    """Whatever is wrong is said of the archive, and nothing was left behind."""
    try:
        yield
    except (BundleError, TrainerError, CacheError) as error:
        raise BundleError(f"{archive}: {error}; nothing was unpacked") from error
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError, RecursionError) as error:
        raise BundleError(
            f"{archive} is no bundle, or was cut short or changed: {error}; nothing was unpacked. "
            "Copy the file again"
        ) from error
    except OSError as error:
        raise BundleError(f"{archive} cannot be unpacked: {error.strerror}") from error


class _Bounded(RawIOBase):
    """A stream that gives no more than was allowed: few bytes can unpack to any number."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source, self._left = source, _AROUND_BYTES

    def allow(self, size: int) -> None:
        """What may come next: a content of this size, and what stands around it."""
        self._left = size + _AROUND_BYTES

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes."""
        block = self._source.read(min(size, self._left + 1))
        self._left -= len(block)
        if self._left < 0:
            raise BundleError("it goes on beyond the sizes that its manifest states")
        return block


def _unpack(archive: Path, folder: Path, progress: Progress) -> Manifest:
    with gzip.open(archive, "rb") as packed:
        bounded = _Bounded(packed)
        with tarfile.open(fileobj=bounded, mode="r|") as members:
            bounded.allow(MAX_MANIFEST_BYTES)
            manifest = _read_manifest(members)
            _require_room(manifest, folder)
            _write_files(members, bounded, manifest, folder, progress)
        bounded.allow(0)
        while bounded.read(2**20):  # To the end, where gzip's own check is.
            pass
    return manifest


def _require_room(manifest: Manifest, folder: Path) -> None:
    needed = sum(seal.bytes for seal in manifest.files.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BundleError(
            f"unpacked it takes {needed:,} bytes, and {free:,} are free where it is to go"
        )


def _read_manifest(members: tarfile.TarFile) -> Manifest:
    first = members.next()
    if first is None or first.name != MANIFEST or first.size > MAX_MANIFEST_BYTES:
        raise BundleError(f"expected {MANIFEST} at its beginning: it is no bundle")
    return decode_manifest(_content(members, first).read())


def _write_files(
    members: tarfile.TarFile,
    bounded: _Bounded,
    manifest: Manifest,
    folder: Path,
    progress: Progress,
) -> None:
    total, done = sum(seal.bytes for seal in manifest.files.values()), 0
    missing = dict(manifest.files)
    bounded.allow(0)
    while member := members.next():
        if (seal := missing.pop(member.name, None)) is None:
            raise BundleError(f"it holds {member.name!r}, which its manifest does not name")
        place = folder / member.name
        place.parent.mkdir(parents=True, exist_ok=True)
        bounded.allow(seal.bytes)
        with place.open("xb") as file:
            found = copy_sealed(_content(members, member), file, limit=seal.bytes)
        if found != seal:
            raise BundleError(
                f"{member.name} is not what the manifest says: expected {seal.bytes} bytes with "
                f"SHA-256 {seal.sha256}, got {found.bytes} with {found.sha256}: copy it again"
            )
        bounded.allow(0)
        done += seal.bytes
        progress(done, total)
    if missing:
        raise BundleError(f"it lacks {', '.join(sorted(missing))}")


def _content(members: tarfile.TarFile, member: tarfile.TarInfo) -> BinaryIO:
    """A plain file's content; a link or a device has none that could be trusted."""
    content = members.extractfile(member) if member.isreg() else None
    if content is None:
        raise BundleError(f"{member.name!r} is no plain file")
    return content  # type: ignore[return-value]


def _checked_lock(manifest: Manifest, folder: Path) -> LockSummary:
    """The run's lock, once the new store has been held against it."""
    lock_path = folder / manifest.lock
    summary = check_lock(lock_path)
    if summary.root != manifest.lock_root:
        raise BundleError(f"its lock has the root {summary.root}, not {manifest.lock_root}")
    import_store(folder / STORE, folder / COMPLETIONS)
    report = check_needs(folder / STORE, lock_path)
    if report.missing:
        raise BundleError(f"it lacks {report.missing:,} of {report.answers:,} answers of its lock")
    return summary
