"""What a run reads beside the teacher's answers, and whether it is what was recorded."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainer.config import Config
from trainer.errors import TrainerError
from trainer.policy.compressor import PromptCompressorReinforce, disable_dropout
from trainer.policy.saving import tensors_digest
from trainer.rollouts.scores import uses_model
from trainer.rollouts.scoring import load_scorer
from trainer.tasks.data import data_digest

_log = logging.getLogger(__name__)


def load_compressor(config: Config, device: torch.device) -> PromptCompressorReinforce:
    """The compressor to start from, ready to be trained.

    Raises:
        ModelError: it cannot be loaded.
    """
    compressor = PromptCompressorReinforce(
        config.model.model_load_path,
        device_map=str(device),
        use_llmlingua2=True,
        length_tokenizer=config.policy.length_tokenizer,
    )
    # In training mode, because eval() would switch gradient checkpointing off.
    disable_dropout(compressor.model)
    compressor.model.train()
    if config.hyperparams.max_seq_len != 512:
        _log.warning(
            "hyperparams.max_seq_len is %d, and the stock llmlingua package deploys 512: it will "
            "cut chunks elsewhere than training did",
            config.hyperparams.max_seq_len,
        )
    return compressor


def describe_inputs(config: Config, compressor: PromptCompressorReinforce) -> dict[str, Any]:
    """Digests of the data and of the model to start from, and what lengths are counted with.

    Raises:
        DataError: a data file cannot be read.
    """
    paths = {"train": config.data.train_file_path, "validation": config.data.val_file_path}
    return {
        "data_digests": {
            name: data_digest(Path(path)) for name, path in paths.items() if path is not None
        },
        "base_digest": tensors_digest(compressor.model.state_dict().items()),
        "length_tokenizer": compressor.length_tokenizer.name,
    }


def describe_metric(config: Config, device: str) -> dict[str, str]:
    """The signature of a reward that a model measures; nothing of one that is code alone.

    Raises:
        ConfigError, ModelError: the model cannot be used.
    """
    if not uses_model(config.reward.metric):
        return {}
    return {"metric": load_scorer(config, device=device).signature}


def check_same_inputs(
    inputs: Mapping[str, Any],
    recorded: Mapping[str, Any],
    source: Path,
    error: type[TrainerError],
) -> None:
    """Hold what `describe_inputs` found against a record of an earlier run.

    Raises:
        TrainerError: of the given kind; something differs.
    """
    for name, what in (
        ("data_digests", "the data is not the recorded one"),
        ("base_digest", "the model to start from is not the recorded one"),
        ("length_tokenizer", "lengths are counted with another tokenizer"),
        ("metric", "the reward is measured by another model, or otherwise"),
        ("reused", "the runs of reuse.runs are not the recorded ones"),
    ):
        if inputs.get(name) != recorded.get(name):
            raise error(f"{source}: {what}: expected {recorded.get(name)}, got {inputs.get(name)}")
