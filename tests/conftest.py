"""What tests of training share: a data file, a compressor, a teacher service."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from taco.own_service import own_service
from tests.postgres_server import PostgresServer, running_server

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
