"""The tasks that ship with the project: where the examples of each come from.

A task of your own needs none of this: a data file and a config are enough (docs/tasks.md).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainer.errors import DataError
from trainer.tasks.assembling import Draft
from trainer.tasks.meetings import generate_meetings
from trainer.tasks.own_records import own_records
from trainer.tasks.public_data import CONVERTERS
from trainer.tasks.stdlib_code import standard_library_functions

VALIDATION_SHARE = 20
TEST_SHARE = 5
"""Of the generator's training records, one in so many is made beside them."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a task."""

    source: str | None
    """A folder, or a name on the hub; None: the task's own."""
    count: int
    """Training records to generate, where a task generates them."""
    seed: int


@dataclass(frozen=True, slots=True)
class TaskData:
    """One task's source of records."""

    description: str
    licence: str
    drafts: Callable[[Order], Iterator[Draft]]


def find_task(name: str) -> TaskData:
    """The task of a name, or that of a file of one's own records.

    Raises:
        DataError: there is neither.
    """
    if name in TASKS:
        return TASKS[name]
    path = Path(name)
    if not path.is_file():
        raise DataError(
            name, [f"expected one of {', '.join(TASKS)}, or a file of records of your own"]
        )
    return TaskData(name, "your own", lambda _order: own_records(path))


def _meetings(order: Order, *, questions: bool) -> Iterator[Draft]:
    """Validation meetings are drawn after the training ones; those of the test have other names."""
    validation = max(order.count // VALIDATION_SHARE, 1)
    test = max(order.count // TEST_SHARE, 1)
    made = generate_meetings(order.count + validation, order.seed, "train")
    for split, records in (
        ("train", made[: order.count]),
        ("validation", made[order.count :]),
        ("test", generate_meetings(test, order.seed, "test")),
    ):
        for number, record in enumerate(records):
            if not questions:
                record = {"original_prompt": record["original_prompt"]}
            yield Draft(f"{split}/{number}", record, split)


def _public(name: str, order: Order) -> Iterator[Draft]:
    convert, hub_name, _ = CONVERTERS[name]
    return convert(order.source or hub_name)


TASKS: dict[str, TaskData] = {
    "meeting-qa": TaskData(
        "questions about generated meetings", "MIT", partial(_meetings, questions=True)
    ),
    "meeting-summary": TaskData(
        "generated meetings to summarise", "MIT", partial(_meetings, questions=False)
    ),
    "code-summary": TaskData(
        "functions of the running Python's standard library to summarise",
        "PSF licence, version 2",
        lambda _order: standard_library_functions(),
    ),
    **{
        name: TaskData(f"{hub_name} on the hub", licence, partial(_public, name))
        for name, (_, hub_name, licence) in CONVERTERS.items()
    },
}
