"""What the processes of one run do together: sum, collect, and stop."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from trainer.errors import ProcessLost, TrainerError, first_line

Thing = TypeVar("Thing")


def reduced(accelerator: Accelerator, value: Tensor) -> float:
    """The sum over all processes, so that each decides alike."""
    with _others_answer():
        return float(accelerator.reduce(value.detach()).item())


def collected(accelerator: Accelerator, own: Sequence[Thing]) -> list[Thing]:
    """Every process's things, in the order of the processes."""
    if accelerator.num_processes == 1:
        return list(own)
    with _others_answer():
        return list(gather_object(list(own)))


def add_gradients(accelerator: Accelerator, model: torch.nn.Module) -> None:
    """Put the sum over all processes in the place of every gradient.

    Once a step, after the last micro-batch: until then a process is by itself, and may run out of
    memory and try again without another one waiting in a sum that it has begun.
    """
    if accelerator.num_processes == 1:
        return
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with _others_answer():
        for parameter in parameters:
            if parameter.grad is None:  # Not in this process's graph, but perhaps in another's.
                parameter.grad = torch.zeros_like(parameter)
        sums = [
            torch.distributed.all_reduce(parameter.grad, async_op=True) for parameter in parameters
        ]
        for one in sums:
            one.wait()


@contextmanager
def stopping_together(accelerator: Accelerator) -> Iterator[None]:
    """What stops one process within the block stops all of them at its end, with the same error."""
    error: TrainerError | None = None
    try:
        yield
    except TrainerError as caught:
        error = caught
    errors = collected(accelerator, [error])
    if first := error or next(filter(None, errors), None):
        raise first


@contextmanager
def _others_answer() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            "expected an answer from the run's other processes, and one of them has ended or hangs "
            f"({first_line(error)}); the first error above, of the process that ended, "
            "tells why. Mend that, then resume the run"
        ) from error
