"""`taco cache bundle`: a finished run and all that it needs, in one archive."""

import gzip
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from cache.exporting import export_store
from cache.lock_checking import check_needs
from cache.new_file import new_file
from cache.run_locks import needed_keys
from cache.selection import Selection
from taco.bundle_format import (
    BASE,
    COMPLETIONS,
    MANIFEST,
    METRIC_BASELINE,
    METRIC_MODEL,
    TIKTOKEN,
    TOKENIZER,
    TRAIN_DATA,
    VALIDATION_DATA,
    BundleError,
    Manifest,
    check_names,
    seal_file,
)
from trainer.config_file import restored
from trainer.config_sections.scoring import BertScore
from trainer.errors import ReplayError
from trainer.learning.lockfile import LockSummary, check_lock
from trainer.rollouts.scores import uses_model

Progress = Callable[[int, int], None]

_RUN_FILES = ("run.json", "result.json")
_GZIP_LEVEL = 1  # Most of it are weights, which no level makes smaller.


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What was put into a bundle."""

    files: int
    entries: int
    """Of the store, each with its alternates."""
    bytes: int
    """Of the archive."""


def bundle_run(
    run_folder: Path, target: Path, place: Path | str, progress: Progress
) -> BundleReport:
    """Write a finished run with its inputs and answers to the new file `target`.

    Args:
        run_folder: of the run; the paths in its config are looked up from the current folder.
        target: the archive.
        place: the store with the run's answers.
        progress: told of bytes read, and of how many.

    Raises:
        BundleError: an answer or an input is missing, or a file's name cannot be one elsewhere.
        ReplayError: the lock is unfinished or was changed, or an input is not the recorded one.
        DataError, ModelError, CacheError: data, base, or store and archive, cannot be used.
    """
    lock_path = run_folder / "run.lock"
    summary = check_lock(lock_path)
    if summary.header.get("reused"):
        raise BundleError(
            f"{run_folder}: it learnt from the rollouts of other runs (reuse.runs), which a bundle "
            "does not hold; hand on those runs' folders with its own, and replay it beside them"
        )
    _require_answers(place, lock_path)
    inputs = dict(_inputs(summary, lock_path))
    name = run_folder.resolve().name
    with tempfile.TemporaryDirectory(prefix="taco-bundle-") as scratch:
        completions = Path(scratch, COMPLETIONS)
        exported = export_store(place, completions, Selection(keys=set(needed_keys(lock_path))))
        paths = {COMPLETIONS: completions, f"runs/{name}/run.lock": lock_path}
        paths |= {f"runs/{name}/{file}": run_folder / file for file in _RUN_FILES}
        paths |= inputs
        present = {inside: path for inside, path in paths.items() if path.exists()}
        seals = {inside: seal_file(path) for inside, path in present.items()}
        manifest = Manifest(name, summary.root, seals)
        check_names(manifest)
        with new_file(target) as partial, partial.open("wb") as file:
            _write_archive(file, manifest, present, progress)
    return BundleReport(len(seals), exported.entries, target.stat().st_size)


def _require_answers(place: Path | str, lock_path: Path) -> None:
    report = check_needs(place, lock_path)
    if report.missing:
        first = report.named[0].needed
        raise BundleError(
            f"{report.missing:,} of {report.answers:,} answers of {lock_path} are not in the store "
            f"(the first: {first.place}, key {first.key.hex()}); name the store that the run "
            "filled (--store). `taco cache verify-lock` lists what is missing"
        )


def _inputs(summary: LockSummary, lock_path: Path) -> Iterator[tuple[str, Path]]:
    """Name in the archive and place on the disk of everything that the run read.

    Raises:
        ReplayError: something was replaced since; a replay would refuse it.
    """
    # Imported here: torch takes seconds, and a run whose answers are lost needs none.
    import torch

    from trainer.learning.inputs import (
        check_same_inputs,
        describe_inputs,
        describe_metric,
        load_compressor,
    )
    from trainer.policy.lengths import CL100K, cl100k_file

    config = restored(summary.header.get("config"), lock_path)
    compressor = load_compressor(config, torch.device("cpu"))
    found = describe_inputs(config, compressor) | describe_metric(config, "cpu")
    check_same_inputs(found, summary.header, lock_path, ReplayError)
    yield TRAIN_DATA, Path(config.data.train_file_path)
    if config.data.val_file_path is not None:
        yield VALIDATION_DATA, Path(config.data.val_file_path)
    for path in _model_files(config.model.model_load_path):
        yield f"{BASE}/{compressor.family}/{path.name}", path
    if uses_model(config.reward.metric):
        yield from _metric_inputs(config.bertscore)
    counted_by = config.policy.length_tokenizer
    if found["length_tokenizer"] == CL100K:
        if not (file := cl100k_file()):
            raise BundleError(
                f"{lock_path}: lengths were counted with cl100k_base, and tiktoken has no copy of "
                "it on disk: set TIKTOKEN_CACHE_DIR to the folder that holds one"
            )
        yield f"{TIKTOKEN}/{file.name}", file
    elif counted_by not in ("auto", "policy"):
        yield f"{TOKENIZER}/{Path(counted_by).name}", Path(counted_by)


def _metric_inputs(settings: BertScore) -> Iterator[tuple[str, Path]]:
    """What the reward is measured by, likewise."""
    assert settings.model
    name = settings.model.rstrip("/").rpartition("/")[2]
    for path in _model_files(settings.model, settings.revision):
        yield f"{METRIC_MODEL}/{name}/{path.name}", path
    if settings.baseline_file_path is not None:
        baseline = Path(settings.baseline_file_path)
        yield f"{METRIC_BASELINE}/{baseline.name}", baseline


def _model_files(model: str, revision: str | None = None) -> Iterator[Path]:
    """The files of a model; one of the hub is in the hub's cache, for it was just loaded."""
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith("."):
            yield path


def _write_archive(
    file: BinaryIO, manifest: Manifest, paths: Mapping[str, Path], progress: Progress
) -> None:
    total, done = sum(seal.bytes for seal in manifest.files.values()), 0
    # No name and no time: the same run gives the same bytes.
    with (
        gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        encoded = manifest.encode()
        archive.addfile(_member(MANIFEST, len(encoded)), BytesIO(encoded))
        for name in sorted(manifest.files):
            size = manifest.files[name].bytes
            with paths[name].open("rb") as source:
                archive.addfile(_member(name, size), source)
            done += size
            progress(done, total)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member
