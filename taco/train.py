"""`taco train`: find the teacher, or start one, and hand over to the trainer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from taco.own_service import own_service
from trainer.config import Config, load_config

_console = Console(highlight=False, soft_wrap=True)


def train_run(
    path: Path, overrides: Sequence[str], teacher: Path | None, store: Path | None
) -> None:
    """Train from the start."""
    config = load_config(path, overrides)
    from trainer.learning import launch

    with _saved_on_interrupt(), teacher_for(config, teacher, store) as url:
        launch.train_new(config, path.stem, teacher_url=url, report=_console.print)


def resume_run(folder: Path, teacher: Path | None, store: Path | None) -> None:
    """Go on with a run that was stopped."""
    from trainer.learning import launch

    with _saved_on_interrupt(), teacher_for(launch.recorded_config(folder), teacher, store) as url:
        launch.resume(folder, teacher_url=url, report=_console.print)


def replay_run(lock_path: Path, store: Path | None) -> None:
    """Do a recorded run again: the store answers, and nobody else."""
    from trainer.learning import launch
    from trainer.learning.lockfile import Lock

    lock = Lock(lock_path)
    config = Config.model_validate(lock.header["config"])
    name = f"{lock_path.parent.name}-replay"
    with _saved_on_interrupt(), own_service(mode="replay", store=store) as url:
        launch.train_new(config, name, teacher_url=url, replay=lock, report=_console.print)


@contextmanager
def teacher_for(config: Config, teacher: Path | None, store: Path | None) -> Iterator[str]:
    """The URL of a teacher: one that runs already, unless one is described to be started."""
    from trainer.learning.launch import find_teacher

    url = None if teacher or store else find_teacher(config)
    if url:
        yield url
        return
    _console.print(f"starting a teacher service: {teacher or 'the built-in teacher'}")
    with own_service(teacher, store=store) as url:
        yield url


@contextmanager
def _saved_on_interrupt() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _console.print("stopped; what was learnt is saved: go on with taco train --resume RUN")
        raise typer.Exit(130) from None
