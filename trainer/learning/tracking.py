"""A run's figures for TensorBoard, Weights & Biases or trackio, through Accelerate's trackers."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from trainer.errors import ConfigError

PROJECT = "taco-rewards"


def require_trackers(names: Sequence[str]) -> None:
    """Refuse what is not installed, which Accelerate would leave out without a word.

    Raises:
        ConfigError: with what to install.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise ConfigError(
            "logging.trackers",
            [f"{name}: it is not installed; pip install {name}" for name in missing],
        )


def start_trackers(
    accelerator: Accelerator,
    log_dir: Path,
    *,
    run_id: str,
    name: str,
    config: Mapping[str, Any],
    finished_steps: int,
) -> None:
    """Open the trackers that the accelerator was made with; none is no work.

    Args:
        accelerator: with `log_with`.
        log_dir: where trackers that write files put them, in a folder of their own.
        run_id: so that a resumed run goes on in the same place.
        name: of the run, for people.
        config: the resolved configuration.
        finished_steps: what a tracker has of later steps does not count any more.
    """
    if not accelerator.log_with:
        return
    accelerator.project_configuration.logging_dir = str(log_dir)
    accelerator.init_trackers(
        PROJECT,
        config=_flattened(config),
        init_kwargs={
            "tensorboard": {"purge_step": finished_steps + 1} if finished_steps else {},
            "wandb": {"id": run_id, "name": name, "resume": "allow"},
            "trackio": {"name": run_id, "resume": "allow"},
        },
    )


def finish_trackers(accelerator: Accelerator) -> None:
    """Write what they still hold, and close them."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers = []


def _flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """`section/key` -> value, with a text in the place of what is no plain value."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{prefix}{key}/")
        else:
            plain = isinstance(value, bool | int | float | str)
            flat[f"{prefix}{key}"] = value if plain else json.dumps(value)
    return flat
