"""`taco compress`: texts in, what is left of them out, as the stock package would deploy it."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from taco.errors import UserError
from trainer.config import Config
from trainer.config_file import restored

if TYPE_CHECKING:
    from trainer.policy.inference import Compression

STDIN = Path("-")
DEFAULT_RATE = 0.5
AUTO = "auto"
Spacing: TypeAlias = Literal["stock", "original"]


def compress_files(
    files: Sequence[Path],
    model: str,
    rate: float | None,
    *,
    force_tokens: Sequence[str] | None,
    length_tokenizer: str | None,
    spacing: Spacing | None = None,
    exact: bool,
    threshold: str | None = None,
    as_json: bool,
) -> None:
    """Compress each file, and write the results to stdout in the files' order.

    Args:
        files: "-" is stdin; none at all likewise.
        model: the folder of a run or of a compressor, or a name on the Hugging Face Hub.
        rate: compressed / original tokens; None: the run's own, else 0.5.
        force_tokens: always kept; None: the run's own.
        length_tokenizer: what lengths are counted with; None: the run's own.
        spacing: of the kept words, see `CompressionOptions`; None: the run's own.
        exact: meet the rate on the final text, instead of cutting as the stock package does.
        threshold: keep the words above this probability, whatever the rate; `auto`: above the one
            that the compressor was calibrated to for the rate.
        as_json: one object a line, with lengths, rate, words and their probabilities.

    Raises:
        UserError: a file cannot be read, or the rate or the run is none to compress with.
    """
    if rate is not None and not 0 < rate <= 1:
        raise UserError(f"--rate: expected a share of the tokens, above 0 and up to 1; got {rate}")
    if threshold is not None and exact:
        raise UserError("--exact meets the rate text by text, and --threshold does not: choose one")
    above = _probability(threshold)
    _require_folder(model)
    texts = [_read(file) for file in files or [STDIN]]
    config = config_of_run(Path(model))
    name = model if config is None else model_of_run(Path(model))
    if not any(texts) and not as_json:
        return  # Nothing in, nothing out, and no model to wait for.

    from trainer.policy.calibration import stored_threshold
    from trainer.policy.compressor import PromptCompressorReinforce
    from trainer.policy.contexts import Target
    from trainer.policy.inference import compress_many
    from trainer.policy.words import CompressionOptions

    own = config.hyperparams if config else None
    options = CompressionOptions(
        force_tokens=tuple(force_tokens or (own.force_tokens if own else ())),
        force_reserve_digit=own.force_reserve_digit if own else False,
        drop_consecutive=own.drop_consecutive if own else False,
        spacing=spacing or (config.evaluation.spacing if config else "stock"),
    )
    lengths = length_tokenizer or (config.policy.length_tokenizer if config else "auto")
    target = Target(rate or (own.compression_rate if own else DEFAULT_RATE))
    if threshold == AUTO:
        above = stored_threshold(Path(name), target.rate)
    compressor = PromptCompressorReinforce(name, "auto", length_tokenizer=lengths)
    results = compress_many(
        compressor, [[text] for text in texts], options, target, exact=exact, threshold=above
    )
    for file, result in zip(files or [STDIN], results, strict=True):
        line = json.dumps(_as_object(file, result), ensure_ascii=False) if as_json else result.text
        sys.stdout.write(f"{line}\n" if line else "")


def _probability(threshold: str | None) -> float | None:
    """What a threshold given as text is; None: none, or one that the compressor knows."""
    if threshold is None or threshold == AUTO:
        return None
    try:
        number = float(threshold)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        raise UserError(f"--threshold: expected auto, or a probability below 1; got {threshold}")
    return number


def _require_folder(model: str) -> None:
    """Of a name that could be a folder here or one on the hub, see which is meant."""
    folder = Path(model)
    if folder.exists() or folder.parent == Path() or not folder.parent.is_dir():
        return
    there = sorted(each.name for each in folder.parent.iterdir() if each.is_dir())
    raise UserError(
        f"--model: there is no folder {model}; {folder.parent} has {', '.join(there) or 'none'}"
    )


def _read(file: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
        return content.decode("utf-8")
    except OSError as error:
        raise UserError(f"{file}: expected a text file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: expected text in UTF-8, got byte 0x{content[error.start]:02x} at "
            f"{error.start}; convert it first (iconv -t utf-8)"
        ) from error


def config_of_run(folder: Path) -> Config | None:
    """The config of a run; None where the folder is none of a run."""
    description = folder / "run.json"
    if not description.is_file():
        return None
    try:
        document = json.loads(description.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{description}: expected what `taco train` wrote: {error}") from error
    return restored(document.get("config"), description)


def model_of_run(folder: Path) -> str:
    """Where a run saved its compressor: below its folder, wherever that is now."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        model, saved_in = Path(result["model_path"]), Path(result["folder"])
    except OSError as error:
        raise UserError(
            f"{folder}: expected a finished run, and it has no result.json; finish it with "
            f"`taco train --resume {folder}`, or give the folder of a compressor"
        ) from error
    return (
        str(folder / model.relative_to(saved_in)) if model.is_relative_to(saved_in) else str(model)
    )


def _as_object(file: Path, result: "Compression") -> dict[str, Any]:
    return {
        "file": str(file),
        "text": result.text,
        "rate": round(result.rate, 4),
        "original_tokens": result.original_tokens,
        "compressed_tokens": result.compressed_tokens,
        "chunks": [
            {
                "threshold": cut.threshold,
                "words": [word.lstrip("▁") for word in cut.words],
                "keep": cut.keep.tolist(),
                "probabilities": None if cut.probabilities is None else cut.probabilities.tolist(),
            }
            for cut in result.cuts
        ],
    }
