"""The reference's names, importable from `trainer`."""

import subprocess
import sys

import pytest

import trainer


def test_the_references_names_are_there():
    """Each is what its home module defines."""
    from trainer import (
        GenericRLDataset,
        PromptCompressorReinforce,
        calculate_rewards,
        initialize_api_config,
    )
    from trainer.policy.compressor import PromptCompressorReinforce as Compressor
    from trainer.rollouts.api_config import initialize_api_config as initialize
    from trainer.rollouts.rewards import calculate_rewards as calculate
    from trainer.tasks.dataset import GenericRLDataset as Dataset

    assert GenericRLDataset is Dataset
    assert PromptCompressorReinforce is Compressor
    assert calculate_rewards is calculate
    assert initialize_api_config is initialize


def test_a_partial_api_config_is_enough():
    """The reference raised KeyError on its own documented example."""
    config = trainer.initialize_api_config({"max_tokens": 100})
    assert (config["max_tokens"], config["temperature"], config["seed"]) == (100, 0, 42)


def test_rewards_come_under_the_references_keys():
    """20 of 100 tokens at a target of 0.2, and the right answer."""
    rewards = trainer.calculate_rewards(
        original_tokens=100,
        compressed_tokens=20,
        rate=0.2,
        answers=["on Monday"],
        references=["on Monday"],
        metric="f1",
    )
    assert rewards == {"comp_ratio": 5.0, "reward": 1.0}


def test_other_names_are_an_attribute_error():
    """As for any module."""
    with pytest.raises(AttributeError, match="no attribute 'PromptCompresor'"):
        _ = trainer.PromptCompresor


def test_importing_the_package_imports_nothing_heavy():
    """What a name needs is imported when the name is asked for."""
    code = "import sys, trainer; print('torch' in sys.modules, 'numpy' in sys.modules)"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
