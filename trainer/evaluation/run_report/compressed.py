"""Examples compressed at many rates, by the base and by what runs made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer.config import Config
from trainer.errors import CheckpointError
from trainer.learning.checkpoint import load_latest
from trainer.learning.run_folder import CHECKPOINTS
from trainer.learning.setup import compression_options
from trainer.learning.trainable import adapt
from trainer.policy.calibration import calibrate
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.inference import Compression, compress_at
from trainer.types import Example


@dataclass(frozen=True, slots=True)
class Compressed:
    """What one compressor makes of the examples."""

    label: str
    at: tuple[tuple[Compression, ...], ...]
    """For each rate, one for each example."""


def compress_with(
    label: str, path: str, config: Config, examples: Sequence[Example], rates: Sequence[float]
) -> Compressed:
    """Compress by a saved compressor, as the config deploys it.

    Raises:
        ModelError: there is no such compressor.
    """
    return _compressed(label, _load(path, config), config, examples, rates)


def compress_with_checkpoint(
    label: str, run: Path, config: Config, examples: Sequence[Example], rates: Sequence[float]
) -> Compressed:
    """Compress by what an unfinished run has learnt so far.

    Raises:
        ModelError: its base is gone.
        CheckpointError: it has no checkpoint, or one that does not belong to its base.
    """
    compressor = _load(config.model.model_load_path, config)
    progress, tensors = load_latest(run / CHECKPOINTS, torch.device(compressor.device))
    # A checkpoint has LoRA's adapters beside the weights that they adapt.
    compute = config.compute.model_copy(update={"compile": None})
    merge_adapters = adapt(compressor.model, compute, config.run.seed)
    try:
        compressor.model.load_state_dict(tensors["model"])
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{run}: expected a checkpoint of {config.model.model_load_path}, and its weights do "
            "not fit that model"
        ) from error
    merge_adapters()
    return _compressed(f"{label}, step {progress.step}", compressor, config, examples, rates)


def _load(path: str, config: Config) -> PromptCompressorReinforce:
    device = config.device.device_map if config.device.use_cuda else "cpu"
    return PromptCompressorReinforce(path, device, length_tokenizer=config.policy.length_tokenizer)


def _compressed(
    label: str,
    compressor: PromptCompressorReinforce,
    config: Config,
    examples: Sequence[Example],
    rates: Sequence[float],
) -> Compressed:
    prompts, options = [example.contexts for example in examples], compression_options(config)
    thresholds = None
    if config.evaluation.rate == "threshold":
        segmenter = compressor.segmenter(options)
        calibrated = calibrate(compressor, segmenter, prompts, rates)
        thresholds = [each.threshold for each in calibrated]
    exact = config.evaluation.rate == "exact"
    by_rate = compress_at(compressor, prompts, options, rates, exact=exact, thresholds=thresholds)
    return Compressed(label, tuple(map(tuple, by_rate)))
