"""Which checks there are for a config, a run, or neither; each is small, and made here."""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cache import default_store_path, parse_place
from taco.compress import config_of_run, model_of_run
from taco.doctor import accelerator, disk, inputs, memory, packages, services
from taco.doctor.findings import Finding
from taco.doctor.probes import probe_model
from taco.errors import UserError
from teacher_service.errors import StartError
from trainer.config import Config
from trainer.config_file import load_config

_QUICK_S = 20.0
_LOAD_S = 90.0
"""For what imports torch or loads a model."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a run would be made of."""

    config: Config | None = None
    model: str | None = None
    """The compressor to start from, or that a run made."""
    runs: Path = Path("runs")
    """Where runs are kept."""


@dataclass(frozen=True, slots=True)
class Check:
    """One look at one thing."""

    what: str
    look: Callable[[], Sequence[Finding]]
    seconds: float = _QUICK_S
    """After which it is given up."""


def subject_of(target: Path | None, overrides: Sequence[str]) -> Subject:
    """What a config or a run's folder names.

    Raises:
        ConfigError: the config cannot be used; with every problem.
        UserError: the folder is no run's.
    """
    if target is None:
        return Subject()
    if not target.is_dir():
        config = load_config(target, overrides)
        return Subject(config, config.model.model_load_path)
    recorded = config_of_run(target)
    if recorded is None:
        raise UserError(f"{target}: expected a config, or a run's folder with run.json")
    finished = (target / "result.json").is_file()
    model = model_of_run(target) if finished else recorded.model.model_load_path
    return Subject(recorded, model, target.parent)


def checks_for(subject: Subject, settings: Path | None, store: str | None) -> Iterator[Check]:
    """Every check, in the order in which its findings are told.

    Args:
        subject: of the run.
        settings: of the service that it would start.
        store: as `--store` names it; None: the settings', else the default one.
    """
    config = subject.config
    shape = partial(_shape_of, subject.model)
    place = partial(_place_of_store, settings, store)

    yield Check("python", _look_at_python)
    yield Check("packages", partial(_look_at_packages, place, trains=config is not None))
    yield Check("torch", partial(_look_at_torch, config, shape), _LOAD_S + 10)
    kept = config.logging.keep_checkpoints if config else 0
    yield Check("disk", lambda: [disk.check_disk("disk", subject.runs, shape(), kept)])
    asked = config.task.gpt_model if config else None
    yield Check("settings", lambda: [services.check_settings(settings, asked)])
    yield Check("weights", partial(_look_at_weights, settings))
    yield Check("teacher", partial(_look_at_teacher, config))
    yield Check("store", lambda: _look_at_store(place(), named=store is not None))
    length_tokenizer = config.policy.length_tokenizer if config else "auto"
    yield Check("tokenizer", lambda: [inputs.check_length_tokenizer(length_tokenizer)])
    if config:
        yield Check("metric", lambda: [inputs.check_metric(config)], _LOAD_S)
        yield from _data_checks(config)
    if (model := subject.model) is not None:
        yield Check("model", partial(_look_at_model, model), _LOAD_S + 10)


def _data_checks(config: Config) -> Iterator[Check]:
    asks = "{question}" in config.task.prompt
    files = {"data": config.data.train_file_path, "validation": config.data.val_file_path}
    for what, file in files.items():
        if file is not None:
            yield Check(what, partial(_look_at_data, what, Path(file), asks))


def _look_at_data(what: str, file: Path, asks: bool) -> list[Finding]:
    return [inputs.check_data(what, file, asks=asks)]


def _look_at_python() -> list[Finding]:
    return [packages.check_python(platform.python_version(), packages.required_python())]


def _look_at_packages(place: Callable[[], Path | str], *, trains: bool) -> list[Finding]:
    extras = {"train"} if trains else set()
    with suppress(StartError):  # That is said where the settings are looked at.
        if not isinstance(place(), Path):
            extras.add("postgres")
    return [packages.check_packages(packages.installed_requirements(), extras)]


def _look_at_torch(
    config: Config | None, shape: Callable[[], memory.Shape | None]
) -> list[Finding]:
    """Where the run would train, and whether it fits there."""
    torch = accelerator.probe_torch(_LOAD_S)
    if isinstance(torch, Finding):
        return [torch]
    findings = accelerator.check_torch(torch, config)
    if config:
        gpu = accelerator.chosen_gpu(torch, config)
        findings.append(memory.check_memory(shape(), gpu, config))
    return findings


def _look_at_teacher(config: Config | None) -> list[Finding]:
    url = (config.teacher.url if config else None) or os.environ.get("TACO_TEACHER_URL")
    model = config.task.gpt_model if config else None
    return [services.check_teacher(url, model, os.environ.get("TACO_TEACHER_KEY"))]


def _look_at_weights(settings: Path | None) -> list[Finding]:
    with suppress(StartError):  # That is said where the settings are looked at.
        return services.check_weights(settings, inputs.local_folder)
    return []


def _look_at_store(place: Path | str, *, named: bool) -> list[Finding]:
    findings = [services.check_store(place, named=named)]
    if isinstance(place, Path):
        findings.append(disk.check_disk("disk of store", place.parent, None))
    return findings


def _look_at_model(model: str) -> list[Finding]:
    load = partial(probe_model, seconds=_LOAD_S)
    return [inputs.check_model(model, inputs.local_folder(model), load)]


def _place_of_store(settings: Path | None, store: str | None) -> Path | str:
    # Imported here: the service takes longer to import than most checks take.
    from teacher_service import load_settings

    place = store or load_settings(settings).store
    return parse_place(place) if place else default_store_path()


def _shape_of(model: str | None) -> memory.Shape | None:
    folder = inputs.local_folder(model) if model else None
    return memory.read_shape(folder) if folder else None
