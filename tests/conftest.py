"""What tests of training share: a data file, a compressor, a teacher service."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taco.cli import main
from taco.own_service import own_service
from tests.browser import running_browser
from tests.postgres_server import PostgresServer, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_OURS = ("TACO_TEACHER_", "TACO_SERVICE__", "TACO_HOME")


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """A developer's own teacher, key and store have no part in the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(_OURS)]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def meetings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve meetings with two questions each."""
    from tests.tiny_runs import write_meetings

    return write_meetings(tmp_path_factory.mktemp("data") / "meetings.json", 12)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, meetings: Path) -> Path:
    """An untrained compressor of one layer; torch has one thread from here on."""
    import torch

    from tests.tiny_runs import make_tiny_compressor

    torch.set_num_threads(1)
    return make_tiny_compressor(tmp_path_factory.mktemp("base"), meetings)


@pytest.fixture(scope="session")
def teacher_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service of `teacher_url` keeps its completions."""
    return tmp_path_factory.mktemp("store") / "completions.sqlite"


@pytest.fixture(scope="session")
def teacher_url(teacher_store: Path) -> Iterator[str]:
    """A service with the built-in teacher, in a process of its own."""
    with own_service(store=teacher_store) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the tests' own."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of the test's own, with a store that holds nothing."""
    with postgres_server.database() as url:
        yield url


# By module, not by session: in its thread Playwright keeps an event loop, beside which no test can
# run one of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A real browser; see `tests.browser.watched_page`."""
    with running_browser() as started:
        yield started


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


RunTaco = Callable[..., Said]


@pytest.fixture
def taco(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> RunTaco:
    """Run `taco ARGUMENTS` in this process: what it imports is imported once for all tests."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["taco", *map(str, arguments)])
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        else:
            code = 0
        return Said(code, *capfd.readouterr())

    return run
