"""`taco train`: find the teacher, or start one, and hand over to the trainer."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from taco.own_service import own_service
from taco.progress import live_progress
from trainer.config import Config
from trainer.config_file import load_config, restored
from trainer.rollouts.connection import find_teacher

_console = Console(highlight=False, soft_wrap=True)


def train_run(
    path: Path,
    overrides: Sequence[str],
    teacher: Path | None,
    store: Path | str | None,
    *,
    go_on: bool = False,
) -> None:
    """Train from the start, or go on with the newest run of the same config."""
    config = load_config(path, overrides)
    from trainer.learning import launch

    with _interruptible(), teacher_for(config, teacher, store) as url:
        name = config.run.name or path.stem
        begin = launch.train_or_resume if go_on else launch.train_new
        with live_progress(_console) as watch:
            begin(config, name, teacher_url=url, report=_console.print, watch=watch)


def resume_run(
    folder: Path, overrides: Sequence[str], teacher: Path | None, store: Path | str | None
) -> None:
    """Go on with a run that was stopped; overrides may raise its budget."""
    from trainer.learning import launch

    config = launch.recorded_config(folder)
    with (
        _interruptible(),
        teacher_for(config, teacher, store) as url,
        live_progress(_console) as watch,
    ):
        launch.resume(folder, overrides, teacher_url=url, report=_console.print, watch=watch)


def replay_run(
    lock_path: Path,
    config_path: Path | None,
    overrides: Sequence[str],
    store: Path | str | None,
    *,
    locked_masks: bool,
) -> None:
    """Do a recorded run again: the store answers, and nobody else.

    Args:
        lock_path: of the recorded run.
        config_path: where data and base lie elsewhere than they did; None: the lock's own config.
        overrides: of that config.
        store: where the completions are; None: TACO_TEACHER_URL, else the default store.
        locked_masks: train on the recorded masks, on any machine.
    """
    from trainer.learning import launch
    from trainer.learning.lockfile import Lock

    lock = Lock(lock_path)
    recorded = restored(lock.header.get("config"), lock_path)
    config = load_config(config_path, overrides) if config_path else recorded
    run_folder = lock_path.resolve().parent
    with (
        _interruptible(),
        _replay_service(store, lock.header.get("teacher")) as url,
        live_progress(_console) as watch,
    ):
        result = launch.train_new(
            config,
            f"{run_folder.name}-replay",
            teacher_url=url,
            runs=run_folder.parent,
            replay=lock,
            locked_masks=locked_masks,
            report=_console.print,
            watch=watch,
        )
    if before := launch.recorded_weights(run_folder):
        same = "bit for bit" if result.weights_digest == before else "not to the bit"
        _console.print(f"weights: {same} the recorded ones")


@contextmanager
def _replay_service(store: Path | str | None, teacher: str | None) -> Iterator[str]:
    """The named service, asked for stored answers only; else one of our own with no backend."""
    named = os.environ.get("TACO_TEACHER_URL")
    if named and store is None:
        yield named
        return
    with own_service(mode="replay", store=store, teacher=teacher) as url:
        yield url


@contextmanager
def teacher_for(config: Config, teacher: Path | None, store: Path | str | None) -> Iterator[str]:
    """The URL of a teacher: one that runs already, unless one is described to be started."""
    url = None if teacher or store else find_teacher(config)
    if url:
        yield url
        return
    _console.print(f"starting a teacher service: {teacher or 'the built-in teacher'}")
    with own_service(teacher, store=store) as url:
        yield url


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends with the trainer's own message, which names what was saved."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
