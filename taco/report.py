"""`taco report`: runs as one HTML file, for people."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cache import default_store_path
from taco.compress import model_of_run
from taco.errors import UserError
from taco.evaluate import held_out_examples
from taco.own_service import own_service
from taco.train import teacher_for
from trainer.config import Config
from trainer.config_file import restored
from trainer.errors import TrainerError
from trainer.rollouts.connection import connect, find_teacher
from trainer.rollouts.scoring import load_scorer, open_judge
from trainer.rollouts.teacher_client import TeacherClient
from trainer.rollouts.teacher_counts import TeacherCounts
from trainer.types import Example, TeacherReply
from trainer.visible import visible

if TYPE_CHECKING:
    from trainer.evaluation.run_report.compressed import Compressed
    from trainer.evaluation.run_report.examples import Gallery
    from trainer.evaluation.run_report.run_files import RunRecord

NAME = "report.html"
RATES = tuple(percent / 100 for percent in range(10, 95, 5))

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    folders: tuple[Path, ...]
    output: Path | None
    """None: `report.html` in the folder of the only run, or in the current one."""
    examples: int
    """How many to show; 0: none."""
    rates: tuple[float, ...]
    """(): tenths and halves between, the run's own, and those of its evaluation."""
    data: Path | None
    """Where the examples are; None: the first run's validation data."""
    teacher: Path | None
    store: Path | str | None
    ask: bool
    """Whether answers that are not stored may be bought."""


def report_runs(request: Request) -> None:
    """Write the report.

    Raises:
        UserError: a rate is none, or the teacher that is to be asked cannot be.
        TrainerError: a folder is no run's, or the report cannot be written.
    """
    if bad := [rate for rate in request.rates if not 0 < rate < 1]:
        raise UserError(f"--rates: expected numbers between 0 and 1, such as 0.2,0.5; got {bad[0]}")
    from trainer.evaluation.run_report.page import write_report
    from trainer.evaluation.run_report.run_files import read_run

    runs = [read_run(folder) for folder in request.folders]
    notes: list[str] = []
    gallery = _gallery(request, runs, notes) if request.examples else None
    alone = len(runs) == 1
    path = request.output or (runs[0].folder if alone else Path()) / NAME
    write_report(runs, path, gallery, notes)
    for problem in [*(problem for run in runs for problem in run.problems), *notes]:
        _console.print(visible(problem), markup=False)
    _console.print(f"report: {path}", markup=False)


def _gallery(request: Request, runs: Sequence["RunRecord"], notes: list[str]) -> "Gallery | None":
    """The examples; None, with a note, where there is nothing to show."""
    first = runs[0]
    try:
        config = restored(first.description.get("config"), first.folder / "run.json")
        _, examples = held_out_examples(config, request.data, request.examples)
        from trainer.evaluation.run_report.examples import arrange
    except (TrainerError, UserError) as error:
        notes.append(f"no examples: {error}")
        return None
    except ModuleNotFoundError as error:
        notes.append(f"no examples: {error.name} is missing; pip install 'taco-rewards[train]'")
        return None
    if config.hyperparams.use_context_level_filter:
        notes.append("examples are shown without the context-level filter")
    rates = request.rates or _rates(first, config)
    sides = _sides(runs, config, examples, rates, notes)
    if not sides:
        return None
    heard = _heard(request, config, first, sides, examples, notes)
    start = config.hyperparams.compression_rate
    return arrange(sides, examples, rates, start, heard, config.reward.metric)


def _rates(run: "RunRecord", config: Config) -> tuple[float, ...]:
    """Steps of the slider: those with answers, by training or evaluation, are among them."""
    evaluated = [row.requested_rate for row in run.evaluation.rows] if run.evaluation else []
    wanted = {*RATES, config.hyperparams.compression_rate, *evaluated}
    return tuple(sorted(rate for rate in wanted if 0 < rate < 1))


def _sides(
    runs: Sequence["RunRecord"],
    config: Config,
    examples: Sequence[Example],
    rates: Sequence[float],
    notes: list[str],
) -> list["Compressed"]:
    """The base's and each run's compressions; those that cannot be had are a note each."""
    from trainer.evaluation.run_report.compressed import (
        compress_with,
        compress_with_checkpoint,
    )
    from trainer.evaluation.run_report.run_files import labels

    names = labels(runs) if len(runs) > 1 else ["trained"]
    sides = []
    try:
        sides.append(compress_with("base", config.model.model_load_path, config, examples, rates))
    except TrainerError as error:
        notes.append(f"no examples of the base: {error}")
    for name, run in zip(names, runs, strict=True):
        try:
            if run.result:
                path = model_of_run(run.folder)
                sides.append(compress_with(name, path, config, examples, rates))
            else:
                sides.append(compress_with_checkpoint(name, run.folder, config, examples, rates))
        except (TrainerError, UserError) as error:
            notes.append(f"no examples of {run.folder}: {error}")
    return sides


def _heard(
    request: Request,
    config: Config,
    run: "RunRecord",
    sides: Sequence["Compressed"],
    examples: Sequence[Example],
    notes: list[str],
) -> Sequence[tuple[TeacherReply, float | None]] | None:
    """What the teacher answered, or may answer now, with scores; None, with a note: who knows."""
    if request.ask:
        with (
            teacher_for(config, request.teacher, request.store) as url,
            connect(config, url) as teacher,
        ):
            heard, counts = _scored(config, teacher, sides, examples)
        _console.print(f"asked {counts.asked}, {counts.misses} generated")
        return heard
    try:
        with (
            _stored_answers(request.store, config, run.description.get("teacher")) as url,
            connect(config, url, stored_only=True) as teacher,
        ):
            return _scored(config, teacher, sides, examples)[0]
    except (TrainerError, UserError) as error:
        notes.append(f"no answers of the teacher: {error}")
        return None


def _scored(
    config: Config,
    teacher: TeacherClient,
    sides: Sequence["Compressed"],
    examples: Sequence[Example],
) -> tuple[list[tuple[TeacherReply, float | None]], TeacherCounts]:
    """The teacher's replies with their scores, and what it was asked."""
    from trainer.evaluation.metrics import score_replies
    from trainer.evaluation.run_report.examples import comparisons_of, items_of

    scorer, judge = load_scorer(config), open_judge(config.judge, teacher)
    replies = teacher.complete(items_of(sides, examples))
    compared = [[each] for each in comparisons_of(sides, examples, replies)]
    scores = score_replies(scorer, replies, compared, judge.complete).values
    return list(zip(replies, scores, strict=True)), teacher.counts + judge.counts


@contextmanager
def _stored_answers(store: Path | str | None, config: Config, teacher: str | None) -> Iterator[str]:
    """A service over the store: one that runs, or one of our own, without a backend."""
    if store is None and (url := find_teacher(config)):
        yield url
        return
    place = store or default_store_path()
    if isinstance(place, Path) and not place.exists():
        raise UserError(
            f"expected a store at {place}, and there is none; name the run's with --store, or have "
            "the teacher asked with --ask"
        )
    with own_service(mode="replay", store=place, teacher=teacher) as url:
        yield url
