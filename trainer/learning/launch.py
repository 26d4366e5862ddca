"""A whole training run: connect, prepare, train, save the compressor, seal the lock."""

import json
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from trainer.config import Config, resolved
from trainer.config_file import overridden, restored
from trainer.config_sections.running import Budget
from trainer.errors import ConfigError, TeacherRejected, TrainerError
from trainer.learning.checkpoint import set_damaged_aside
from trainer.learning.devices import make_accelerator
from trainer.learning.lockfile import Lock
from trainer.learning.run import Run, Watch
from trainer.learning.run_folder import (
    CHECKPOINTS,
    DESCRIPTION,
    LOCK,
    RUNS,
    new_run_folder,
    read_description,
    run_folders,
    saved_weights_digest,
    write_description,
)
from trainer.learning.setup import prepare_run
from trainer.learning.train import saved_on_failure, train
from trainer.learning.validation import calibrate_run
from trainer.learning.writing import written
from trainer.policy.calibration import store_thresholds
from trainer.policy.saving import deployable_path
from trainer.rollouts.connection import connect

RESULT = "result.json"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished run made."""

    folder: str
    model_path: str
    """Loads in stock `llmlingua`; carries the family's name, whatever the config called it."""
    weights_digest: str
    lock: str | None
    lock_root: str | None
    """None where the teacher was not our service."""
    teacher_calls: int
    """(text, question) pairs asked in training, cached or not."""
    backend_calls: int | None
    """Generations that the service made while the run went on; None where it is not ours."""
    spent_usd: float | None = None
    """By the service's ledger; None where it is not ours, or keeps it from us. 0 without prices."""
    saved_usd: float | None = None
    """What answers from the store would have cost; likewise."""


def train_new(
    config: Config,
    name: str,
    *,
    teacher_url: str,
    runs: Path = RUNS,
    replay: Lock | None = None,
    locked_masks: bool = False,
    report: Report = print,
    watch: Watch | None = None,
) -> Result:
    """Train from the start, in a folder of its own below `runs`.

    Args:
        config: the whole configuration.
        name: of the folder; a number is added where it is taken.
        teacher_url: where the teacher is.
        runs: the folder of all runs.
        replay: the recorded run to follow, from stored completions only.
        locked_masks: follow it on the recorded masks, where they could also be drawn again.
        report: told of the progress.
        watch: told of every step's figures; None: a line an interval is reported instead.
    """
    with connect(config, teacher_url, stored_only=replay is not None) as teacher:
        accelerator = make_accelerator(config)
        report = report if accelerator.is_main_process else _silent
        folder = _shared_folder(accelerator, name, runs)
        report(f"run folder: {folder}")
        try:
            run = prepare_run(
                config, folder, teacher, accelerator, recorded=replay, locked_masks=locked_masks
            )
        except TrainerError:
            with suppress(OSError):  # The name stays free for the next try.
                folder.rmdir()
            raise
        if run.replay:
            report(run.replay.announcement)
        with closing(run):
            run.watch = watch if accelerator.is_main_process else None
            return _finish(run, report)


def resume(
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    teacher_url: str,
    report: Report = print,
    watch: Watch | None = None,
) -> Result:
    """Go on with a run that was stopped, from its newest checkpoint and with its own config.

    Of a finished one, whose checkpoints may be gone or never have been, only the result is told.

    Args:
        folder: of the run.
        overrides: of its budget, such as `budget.calls=2000`; kept for a further resume.
        teacher_url: where the teacher is.
        report: told of the progress.
        watch: see `train_new`.

    Raises:
        ConfigError: an override of anything else, which would make it another run.
    """
    config = recorded_config(folder)
    if overrides:
        config = _with_budget(config, overrides, folder / DESCRIPTION)
        write_description(folder, {**read_description(folder), "config": resolved(config)})
    if finished := _recorded_result(folder):
        report(f"{folder} is finished; trained compressor: {finished.model_path}")
        return finished
    with connect(config, teacher_url) as teacher:
        accelerator = make_accelerator(config)
        report = report if accelerator.is_main_process else _silent
        with closing(prepare_run(config, folder, teacher, accelerator, resume=True)) as run:
            run.watch = watch if accelerator.is_main_process else None
            return _finish(run, report)


def train_or_resume(
    config: Config,
    name: str,
    *,
    teacher_url: str,
    runs: Path = RUNS,
    report: Report = print,
    watch: Watch | None = None,
) -> Result:
    """Go on with the newest run of this name and config, or train from the start.

    What a scheduler starts again and again until it is done. A run that has no whole checkpoint yet
    is left where it is. Arguments as for `train_new`.
    """
    newest = _newest_run(config, name, runs)
    if newest is None:
        return train_new(
            config, name, teacher_url=teacher_url, runs=runs, report=report, watch=watch
        )
    budget = config.budget.model_dump(mode="json")
    overrides = [f"budget.{key}={json.dumps(value)}" for key, value in budget.items()]
    if recorded_config(newest).budget == config.budget:
        overrides = []
    return resume(newest, overrides, teacher_url=teacher_url, report=report, watch=watch)


def _newest_run(config: Config, name: str, runs: Path) -> Path | None:
    """The folder of the newest run that can go on or is finished; its budget may be another."""
    wanted = resolved(config.model_copy(update={"budget": Budget()}))
    for folder in reversed(run_folders(name, runs)):
        try:
            recorded = recorded_config(folder).model_copy(update={"budget": Budget()})
        except TrainerError:
            continue  # Killed before it was described, or of another version.
        if resolved(recorded) == wanted and (
            _recorded_result(folder) or set_damaged_aside(folder / CHECKPOINTS)
        ):
            return folder
    return None


def _with_budget(config: Config, overrides: Sequence[str], source: Path) -> Config:
    if others := [text for text in overrides if not text.startswith("budget.")]:
        problem = "expected an override of the budget: a resumed run is otherwise as it began"
        raise ConfigError(str(source), [f"{text!r}: {problem}" for text in others])
    return overridden(config, overrides, source)


def recorded_config(folder: Path) -> Config:
    """The config of an earlier run."""
    return restored(read_description(folder)["config"], folder / DESCRIPTION)


def recorded_weights(folder: Path) -> str | None:
    """The digest of the weights that an earlier run ended with; None where it says nothing."""
    result = _recorded_result(folder)
    return result.weights_digest if result else None


def _recorded_result(folder: Path) -> Result | None:
    try:
        return Result(**json.loads((folder / RESULT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _shared_folder(accelerator: Accelerator, name: str, runs: Path) -> Path:
    """The run's folder: made by the main process, known to all."""
    made = [new_run_folder(name, runs) if accelerator.is_main_process else None]
    (folder,) = broadcast_object_list(made)
    return Path(folder)


def _silent(_line: str) -> None:
    """What the other processes report."""


def _finish(run: Run, report: Report) -> Result:
    calls_before = _backend_calls(run)
    train(run, report)
    run.accelerator.wait_for_everyone()
    wanted = run.folder / run.config.model.trained_model_output_dir_hf
    model_path = deployable_path(wanted, run.compressor.family)
    if run.accelerator.is_main_process:
        with saved_on_failure(run, report):  # Nothing since the last checkpoint is lost with it.
            run.finish_model()
            run.compressor.save(wanted, keep_added_tokens=run.segmenter.uses_added_tokens)
            if run.config.evaluation.rate == "threshold":
                _calibrate(run, model_path, report)
    run.accelerator.wait_for_everyone()
    root = run.lock.finish() if run.lock else None
    result = Result(
        folder=str(run.folder),
        model_path=str(model_path),
        weights_digest=saved_weights_digest(model_path),
        lock=str(run.folder / LOCK) if root else None,
        lock_root=root,
        teacher_calls=run.teacher_calls,
        backend_calls=_calls_since(run, calls_before),
        **_money(run),
    )
    if run.accelerator.is_main_process:
        _announce(run, result, report)
    return result


def _calibrate(run: Run, model_path: Path, report: Report) -> None:
    """Store beside the model the thresholds for the rates that it was trained for."""
    rates = run.config.policy.rates or (run.config.hyperparams.compression_rate,)
    thresholds = calibrate_run(run, rates)
    with written(model_path):
        store_thresholds(model_path, thresholds)
    for each in thresholds:
        report(
            f"threshold {each.threshold:.4f} for rate {each.rate:g}: {each.texts} texts come out "
            f"at {each.achieved_rate:g}"
        )


def _announce(run: Run, result: Result, report: Report) -> None:
    text = json.dumps(asdict(result), indent=2)
    with written(run.folder / RESULT):
        (run.folder / RESULT).write_text(text + "\n", encoding="utf-8")
    best = f" (of step {run.standing.best_step})" if run.config.evaluation.keep_best else ""
    report(f"trained compressor: {result.model_path}{best}")
    if result.lock:
        report(f"lock: {result.lock} (root {result.lock_root})")


def _money(run: Run) -> dict[str, float]:
    if not run.teacher.is_ours:
        return {}
    try:
        spent = run.teacher.spent()
    except TeacherRejected:  # Who may ask for completions need not be allowed to read the ledger.
        return {}
    return {"spent_usd": spent.usd, "saved_usd": spent.saved_usd}


def _backend_calls(run: Run) -> int | None:
    stats = run.teacher.stats()
    return None if stats is None else int(stats["since_start"]["backend_calls"])


def _calls_since(run: Run, before: int | None) -> int | None:
    now = _backend_calls(run)
    return None if now is None or before is None else now - before
