"""How many examples go through the compressor at once: as many as the memory takes.

The gradients of micro-batches add up to the whole batch's, so that a smaller one changes where the
sum is rounded, and nothing else.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from trainer.errors import OutOfMemory, first_line

Made = TypeVar("Made")

_log = logging.getLogger(__name__)


@dataclass
class Memory:
    """What one process has found to fit; remembered from step to step."""

    micro_batch_size: int | None = None
    """Examples in a forward pass; None: all of a process's share."""
    keep_graphs: bool = True
    """Learn from the very forward passes that drew; otherwise run them again, one at a time, so
    that the graph of a single micro-batch is in memory."""

    def parts(self, examples: int) -> list[tuple[int, int]]:
        """Start and stop of each micro-batch of so many examples."""
        size = self.micro_batch_size or examples
        return [(start, min(start + size, examples)) for start in range(0, examples, size)]

    def fit(self, examples: int, attempt: Callable[[], Made], give_up: Callable[[], None]) -> Made:
        """What an attempt makes; where memory runs out, another with half the micro-batch.

        Args:
            examples: that the attempt is about.
            attempt: goes by `parts` and `keep_graphs`; must be possible more than once.
            give_up: drops what a failed attempt has left behind.

        Raises:
            OutOfMemory: not even one example fits.
        """
        while True:
            try:
                return attempt()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = first_line(error)
            # Only here, where the error no longer holds the attempt's tensors.
            give_up()
            clear_device_cache(garbage_collection=True)
            self._shrink(examples, reason)

    def _shrink(self, examples: int, reason: str) -> None:
        size = min(self.micro_batch_size or examples, examples)
        if size == 1 and not self.keep_graphs:
            raise OutOfMemory(
                f"expected memory for one example at a time, and it ran out ({reason}); set "
                "compute.gradient_checkpointing, compute.precision: bf16 or compute.lora_rank, or "
                "train where there is more of it"
            )
        self.micro_batch_size, self.keep_graphs = max(size // 2, 1), False
        _log.warning(
            "out of memory with %d examples in a forward pass (%s): going on with %d, which makes "
            "the same update; set compute.micro_batch_size to begin with it",
            size,
            reason,
            self.micro_batch_size,
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and should_reduce_batch_size(error)
    )
