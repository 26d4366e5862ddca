"""The trainer's errors: one tree, one place.

TrainerError
├── ConfigError          the config file or an override; carries every problem found
├── DataError            the data file; carries every bad record
├── ModelError           the compressor's folder cannot be loaded or saved
├── TeacherError
│   ├── TeacherUnreachable   no connection, or the service went away
│   ├── TeacherRejected      the service refused the request as a whole (4xx)
│   ├── TeacherSpent         the budget or the account of the teacher has nothing left
│   └── TooManyFailures      a step lost more rollouts than `teacher.max_failed_share` allows
├── StepError
│   ├── NotFinite            a loss or a gradient is NaN or infinite; the step was not taken
│   ├── OutOfMemory          not even one example fits
│   └── ProcessLost          another process of the run has ended, or does not answer
├── CheckpointError      nothing to resume from, or what is there belongs to another run
├── ReplayError          the run departs from its lock file
└── WriteError           a file of the run cannot be written: a full disk, a read-only folder
"""

from collections.abc import Sequence


class TrainerError(Exception):
    """Base of everything that the trainer raises on purpose.

    The message says what was expected, what came, and what to do.
    """


class ConfigError(TrainerError):
    """The configuration is wrong; `problems` lists every fault, one sentence each."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join([f"{source}: {_count(len(problems), 'problem')}", *problems]))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[str, tuple[str, ...]]]:
        return type(self), (self.source, self.problems)


class DataError(TrainerError):
    """The data file is wrong; `problems` lists every bad record, one sentence each."""

    def __init__(self, source: str, problems: Sequence[str], advice: str = "") -> None:
        self.source = source
        self.problems = tuple(problems)
        self.advice = advice
        lines = [f"{source}: {_count(len(problems), 'problem')}", *problems, advice]
        super().__init__("\n".join(filter(None, lines)))

    def __reduce__(self) -> tuple[type["DataError"], tuple[str, tuple[str, ...], str]]:
        return type(self), (self.source, self.problems, self.advice)


class ModelError(TrainerError):
    """The compressor's folder cannot be loaded or saved."""


class TeacherError(TrainerError):
    """The teacher did not do its part."""


class TeacherUnreachable(TeacherError):
    """No connection to the teacher, or it went away in the middle of a request."""


class TeacherRejected(TeacherError):
    """The teacher refused a request as a whole, for a reason that asking again cannot mend."""


class TeacherSpent(TeacherError):
    """The teacher's budget, or its account upstream, has nothing left for another answer."""


class TooManyFailures(TeacherError):
    """A step lost more rollouts than the config allows; it was not trained on."""


class StepError(TrainerError):
    """A step could not be taken; the weights are what they were before it."""


class NotFinite(StepError):
    """A loss or a gradient is NaN or infinite, so the step was refused."""


class OutOfMemory(StepError):
    """Not even one example fits into memory."""


class ProcessLost(StepError):
    """Another process of the run has ended, or does not answer."""


class CheckpointError(TrainerError):
    """There is nothing to resume from, or what is there belongs to another run."""


class ReplayError(TrainerError):
    """The run departs from its lock file; the message names the first divergence."""


class WriteError(TrainerError):
    """A file of the run cannot be written; what was saved before is still there."""


def first_line(error: BaseException) -> str:
    """What a foreign error says, in short; its kind where it says nothing (MemoryError)."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
