"""A run's folder: where it is, and what it says of how the run came to be."""

import json
import os
import platform
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from trainer.errors import CheckpointError, ModelError
from trainer.learning.writing import written
from trainer.policy.saving import tensors_digest

RUNS = Path("runs")
DESCRIPTION = "run.json"
LOCK = "run.lock"
BEHAVIOUR = "behaviour.jsonl"
CHECKPOINTS = "checkpoints"

_PACKAGES = ("taco-rewards", "torch", "transformers", "tokenizers", "accelerate", "llmlingua")


def new_run_folder(name: str, runs: Path = RUNS) -> Path:
    """Make `runs/NAME`, or `runs/NAME-2` and so on: an earlier run is never written over.

    Raises:
        CheckpointError: the folder cannot be made.
    """
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise CheckpointError(
                f"{folder}: expected a folder that can be made and written to: {error.strerror}"
            ) from error
        else:
            return folder


def run_folders(name: str, runs: Path = RUNS) -> list[Path]:
    """The folders that `new_run_folder` has made for a name, oldest first."""
    numbers = {
        folder: int(folder.name[len(name) + 1 :] or 1)
        for folder in (runs.iterdir() if runs.is_dir() else ())
        if re.fullmatch(rf"{re.escape(name)}(-\d+)?", folder.name)
    }
    return sorted(numbers, key=lambda folder: numbers[folder])


def new_run_id(folder: Path) -> str:
    """How the teacher service is to know a run: its folder's name, and a random end.

    Travels in a header, so it is plain ASCII.
    """
    name = re.sub(r"[^\w.-]", "_", folder.name, flags=re.ASCII)[:100]
    return f"{name}-{secrets.token_hex(4)}"


def describe_run(
    config: Mapping[str, Any],
    *,
    data_digests: Mapping[str, str],
    base_digest: str,
    length_tokenizer: str,
    teacher: str | None,
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """The lock's header: all that the run depends on beside the teacher's answers."""
    return {
        "config": config,
        "data_digests": data_digests,
        "base_digest": base_digest,
        "length_tokenizer": length_tokenizer,
        "teacher": teacher,
        "environment": environment,
    }


def environment(device: torch.device, processes: int) -> dict[str, Any]:
    """What decides whether weights come out bit for bit, and the versions of the code."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "code": _code_state(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": processes,
        "platform": sys.platform,
    }


def write_description(folder: Path, description: Mapping[str, Any]) -> None:
    """Write `run.json`, for people and for a resume."""
    text = json.dumps(description, indent=2, ensure_ascii=False)
    unfinished = folder / f"{DESCRIPTION}.{os.getpid()}.unfinished"
    with written(folder / DESCRIPTION):
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(folder / DESCRIPTION)  # In one piece: a run without it is lost.


def read_description(folder: Path) -> dict[str, Any]:
    """Read `run.json` back.

    Raises:
        CheckpointError: the folder is no run.
    """
    expected = f"{folder}: expected a run's folder with {DESCRIPTION}"
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{expected}: {error}") from error
    if not isinstance(description, dict) or "config" not in description:
        raise CheckpointError(f"{expected}; there is one, but it describes no run")
    return description


def saved_weights_digest(model_folder: Path) -> str:
    """`tensors_digest` of a model saved as safetensors.

    Raises:
        ModelError: the folder has no safetensors file.
    """
    files = sorted(model_folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{model_folder}: expected a model saved as safetensors, found none")
    return tensors_digest(item for file in files for item in load_file(file).items())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _code_state() -> str | None:
    """The commit of the checkout that this file belongs to; None outside of one."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
