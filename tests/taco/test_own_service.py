"""A teacher service of our own, as a process."""

import subprocess
import sys
import time

import pytest

from cache import CompletionStore
from taco.errors import UserError
from taco.own_service import STOP_TIMEOUT_S, own_service
from trainer.rollouts.teacher_client import recognise


def test_it_serves_until_it_is_no_longer_needed(tmp_path):
    """On a free port, with its store; it is asked to stop, and the store is free again."""
    store = tmp_path / "own.sqlite"
    with own_service(store=store) as url:
        assert recognise(url)
        done = time.monotonic()
    assert time.monotonic() - done < STOP_TIMEOUT_S / 2
    assert not recognise(url)
    CompletionStore.open(store).close()


def test_it_stops_when_the_work_ends_with_an_error(tmp_path):
    """Whatever the error."""
    with pytest.raises(ZeroDivisionError), own_service(store=tmp_path / "own.sqlite") as url:
        _ = 1 / 0
    assert not recognise(url)


def test_any_path_is_a_store(tmp_path):
    """Also one that YAML would read as something else."""
    store = tmp_path / "a: 1 #2" / "it's.sqlite"
    with own_service(store=store):
        assert store.is_file()


def test_settings_come_from_a_file(tmp_path):
    """But for the port, which is free in any case."""
    settings = tmp_path / "teacher.yaml"
    settings.write_text(f"store: {tmp_path / 'named.sqlite'}\nport: 1\n")
    with own_service(settings) as url:
        assert recognise(url)
    assert (tmp_path / "named.sqlite").is_file()


@pytest.mark.parametrize(
    ("settings", "said"),
    [("backnd: builtin", "did you mean 'backend'"), (None, "cannot be read")],
)
def test_a_service_that_does_not_start_is_quoted(tmp_path, settings, said):
    """In its own words."""
    path = tmp_path / "teacher.yaml"
    if settings:
        path.write_text(settings)
    with pytest.raises(UserError, match=rf"(?s)did not start:.*{said}"), own_service(path):
        pytest.fail("started")


def test_two_services_cannot_write_one_store(tmp_path):
    """The second says who holds it."""
    store = tmp_path / "own.sqlite"
    with (
        own_service(store=store),
        pytest.raises(UserError, match="did not start"),
        own_service(store=store),
    ):
        pytest.fail("started")


def test_it_does_not_outlive_a_killed_parent(tmp_path):
    """Otherwise the store would stay locked."""
    code = (
        "import sys, time, pathlib\n"
        "from taco.own_service import own_service\n"
        "with own_service(store=pathlib.Path('own.sqlite')) as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-P", "-c", code]
    parent = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    url = parent.stdout.readline().strip()
    assert recognise(url)
    parent.kill()
    parent.communicate()
    give_up = time.monotonic() + 10
    while recognise(url):
        assert time.monotonic() < give_up
        time.sleep(0.1)
