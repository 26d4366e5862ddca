"""What may hang, crash or take much memory is looked at by a process of its own.

python -m taco.doctor.probes torch
python -m taco.doctor.probes model NAME
"""

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_SAMPLE = "The council met on Tuesday to discuss the budget of 2024 for parks, roads and schools."


class ProbeFailed(Exception):
    """The process ended with an error; the message is the reason."""


class ProbeTookTooLong(ProbeFailed):
    """It was not done in its time, for whatever reason."""


def probe(
    arguments: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a probe and read what it found.

    Args:
        arguments: of this module.
        seconds: after which it is killed.
        environment: more variables for it.

    Raises:
        ProbeFailed: with its last line.
        ProbeTookTooLong: with its time.
    """
    command = [sys.executable, "-P", "-m", "taco.doctor.probes", *arguments]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **_OFFLINE, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProbeTookTooLong(f"not done after {seconds:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ProbeFailed(last)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def probe_model(model: str, seconds: float) -> dict[str, Any]:
    """`load_in_stock` in a process that sees no GPU.

    Raises:
        ProbeFailed: it did not load, or not in its time.
    """
    return probe(["model", model], seconds, {"CUDA_VISIBLE_DEVICES": ""})


def look_at_torch() -> dict[str, Any]:
    """What `accelerator.Torch` has: versions, and each GPU that torch can use."""
    import torch

    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        numbers = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": [_look_at_gpu(number) for number in numbers],
        "built_for": torch.cuda.get_arch_list(),
        "complaint": " ".join(str(each.message) for each in complaints).partition(" (Triggered")[0],
        "driver": nvidia_driver(),
    }


def _look_at_gpu(number: int) -> dict[str, Any]:
    import torch

    free, total = torch.cuda.mem_get_info(number)
    name = torch.cuda.get_device_name(number)
    capability = torch.cuda.get_device_capability(number)
    return {"name": name, "free": free, "total": total, "capability": capability}


def nvidia_driver(information: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The driver's version, as its kernel module tells it; '': there is none."""
    try:
        words = information.read_text(encoding="utf-8").split()
    except OSError:
        return ""
    return next((word for word in words if re.fullmatch(r"\d+\.\d+(\.\d+)?", word)), "unknown")


def load_in_stock(model: str) -> dict[str, Any]:
    """Load a compressor in the stock package, on the CPU, and compress a sentence with it.

    tiktoken's part, which may be a download, is the model's own tokenizer's.
    """
    from trainer.policy.families import FAMILIES
    from trainer.policy.isolation import quiet_transformers, tiktoken_left_alone
    from trainer.policy.lengths import resolve_length_tokenizer

    with tiktoken_left_alone(), quiet_transformers():
        from llmlingua import PromptCompressor

        stock = PromptCompressor(
            model,
            device_map="cpu",
            model_config={"trust_remote_code": False},
            use_llmlingua2=True,
            llmlingua2_config={},
        )
    stock.oai_tokenizer = resolve_length_tokenizer("policy", stock.tokenizer)
    if not any(family in model for family in FAMILIES):  # It would not know how words are joined.
        return {"compressed": None}
    return {"compressed": stock.compress_prompt_llmlingua2([_SAMPLE])["compressed_prompt"]}


if __name__ == "__main__":
    _PROBES = {"torch": look_at_torch, "model": load_in_stock}
    print(json.dumps(_PROBES[sys.argv[1]](*sys.argv[2:])))  # type: ignore[operator]
