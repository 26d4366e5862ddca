"""The devices and processes that a run is spread over."""

import logging
import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration

from trainer.config import Config
from trainer.errors import ConfigError
from trainer.learning.tracking import require_trackers

HANGING_AFTER = timedelta(minutes=10)
"""When a process that does not answer the others counts as lost, beyond the teacher's time. One
that has ended is noticed at once."""

_log = logging.getLogger(__name__)


def make_accelerator(config: Config) -> Accelerator:
    """The devices and processes to train on; the CPU, with a warning, where there is no GPU."""
    _require_whole_copies()
    wants_gpu = config.device.use_cuda and config.device.device_map != "cpu"
    if wants_gpu and not torch.cuda.is_available():
        _log.warning("device.use_cuda is true, and there is no GPU here: training on the CPU")
    on_gpu = wants_gpu and torch.cuda.is_available()
    if on_gpu and ":" in config.device.device_map:
        _choose_gpu(int(config.device.device_map.partition(":")[2]))
    if config.compute.precision == "fp16" and not on_gpu:
        raise ConfigError(
            "compute.precision",
            ["fp16 needs a GPU, and the training is on the CPU; set bf16, which needs none"],
        )
    # A process may be waiting for one that waits for the teacher, and that is no fault.
    AcceleratorState._reset_state()  # Of an earlier run in this program, with another precision.
    patience = timedelta(seconds=config.teacher.timeout_s) + HANGING_AFTER
    require_trackers(config.logging.trackers)
    return Accelerator(
        cpu=not on_gpu,
        mixed_precision=config.compute.precision.replace("fp32", "no"),
        log_with=list(config.logging.trackers) or None,
        # The run's folder is not known yet; `start_trackers` names it.
        project_config=ProjectConfiguration(logging_dir="."),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=patience)],
    )


def _require_whole_copies() -> None:
    """Refuse what would split the model: processes work by themselves until gradients are summed.

    Raises:
        ConfigError: `accelerate launch` was told to.
    """
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            problem = (
                f"{name} splits a model over processes, and a compressor fits on one GPU whole; "
                "use --multi_gpu alone, and where memory is short set compute.lora_rank, "
                "compute.precision: bf16 or compute.gradient_checkpointing"
            )
            raise ConfigError("accelerate launch", [problem])


def _choose_gpu(number: int) -> None:
    """Make one GPU the one that Accelerate takes.

    Raises:
        ConfigError: it is not there, or every process would take it.
    """
    found = torch.cuda.device_count()
    if number >= found:
        problem = f"expected the number of one of {found} GPUs, got cuda:{number}"
        raise ConfigError("device.device_map", [problem])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        problem = f"cuda:{number} is one GPU for several processes; set cuda: each takes its own"
        raise ConfigError("device.device_map", [problem])
    torch.cuda.set_device(number)
