"""Keeps the stock constructor's side effects from the rest of the program."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch
import transformers
from llmlingua import prompt_compressor


@contextmanager
def tiktoken_left_alone() -> Iterator[None]:
    """The stock constructor asks tiktoken for a tokenizer, which may mean a download.

    In here it gets None instead; whoever calls it sets `oai_tokenizer` afterwards.
    """
    tiktoken = prompt_compressor.tiktoken
    prompt_compressor.tiktoken = SimpleNamespace(encoding_for_model=lambda _model: None)
    try:
        yield
    finally:
        prompt_compressor.tiktoken = tiktoken


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no advice while models are loaded or saved: errors only."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


@contextmanager
def global_state_kept() -> Iterator[None]:
    """The stock constructor seeds every global generator with 42 and sets flags of cuDNN."""
    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    python, numpy = random.getstate(), np.random.get_state()
    hash_seed = os.environ.get("PYTHONHASHSEED")
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = flags
        random.setstate(python)
        np.random.set_state(numpy)
        os.environ.pop("PYTHONHASHSEED", None)
        if hash_seed is not None:
            os.environ["PYTHONHASHSEED"] = hash_seed
