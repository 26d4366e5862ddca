"""REINFORCE for prompt compressors, with rewards from a teacher over HTTP.

The reference implementation's names are importable from here; each brings in what it needs (torch,
the stock package) only when it is asked for.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "GenericRLDataset": "trainer.tasks.dataset",
    "PromptCompressorReinforce": "trainer.policy.compressor",
    "calculate_rewards": "trainer.rollouts.rewards",
    "initialize_api_config": "trainer.rollouts.api_config",
}

__all__ = [
    "GenericRLDataset",
    "PromptCompressorReinforce",
    "calculate_rewards",
    "initialize_api_config",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
