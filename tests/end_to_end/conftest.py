"""A run that nobody disturbed, against which the others are held."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taco.own_service import own_service
from tests.tiny_runs import tiny_document, write_meetings
from trainer.config import Config
from trainer.learning.launch import Result, train_new

MakeDocument = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def document(meetings: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeDocument:
    """Config of a run of eight steps with validation at 3, 6 and 8; sections may be changed."""
    validation = write_meetings(tmp_path_factory.mktemp("validation") / "data.json", 2, seed=9)

    def make(**sections: dict[str, Any]) -> dict[str, Any]:
        data = {"val_file_path": str(validation), **sections.pop("data", {})}
        evaluation = {"val_interval": 3, **sections.pop("evaluation", {})}
        return tiny_document(meetings, base, data=data, evaluation=evaluation, **sections)

    return make


@pytest.fixture(scope="session")
def config(document: MakeDocument) -> Config:
    """The same, parsed."""
    return Config.model_validate(document())


@pytest.fixture(scope="session")
def reported() -> list[str]:
    """What the finished run told, line by line."""
    return []


@pytest.fixture(scope="session")
def finished(
    config: Config,
    teacher_url: str,
    reported: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Result:
    """A whole run, never stopped; tests only read it."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    return train_new(config, "trial", teacher_url=teacher_url, runs=runs, report=reported.append)


@pytest.fixture(scope="session")
def recorded(config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A run and the store that it filled, which was empty; tests only read both."""
    folder = tmp_path_factory.mktemp("recorded")
    store = folder / "completions.sqlite"
    with own_service(store=store) as url:
        result = train_new(
            config, "trial", teacher_url=url, runs=folder / "runs", report=lambda _: None
        )
    return result, store
