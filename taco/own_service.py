"""A teacher service of our own: started in a process of its own, stopped when no longer needed."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from taco.errors import UserError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


@contextmanager
def own_service(
    settings: Path | None = None,
    *,
    mode: str = "record",
    store: Path | str | None = None,
    teacher: str | None = None,
) -> Iterator[str]:
    """Start the service on a free port; gives its URL and stops it in the end.

    Args:
        settings: its YAML file; None: the defaults, which is the built-in teacher.
        mode: `record` or `replay`.
        store: the store's file or URL; None: the settings'.
        teacher: in replay, which teacher of the store; None: the settings', else its only one.

    Raises:
        UserError: it did not start; with what it said.
    """
    with tempfile.TemporaryDirectory(prefix="taco-service-") as scratch:
        announcement, log = Path(scratch, "announcement.json"), Path(scratch, "log")
        environment = _environment(mode, store, teacher)
        # It is on loopback and for this run alone: the keys of a shared service are not its own.
        environment["TACO_SERVICE__KEYS_FILE"] = json.dumps(str(Path(scratch, "no-keys.json")))
        process = _start(settings, environment, announcement, log)
        try:
            yield _wait_until_ready(process, announcement, log)
        finally:
            _stop(process)


def _start(
    settings: Path | None, environment: Mapping[str, str], announcement: Path, log: Path
) -> subprocess.Popen[bytes]:
    # -P: the packages are the installed ones, whatever lies in the current folder.
    command = [sys.executable, "-P", "-m", "teacher_service"]
    command += ["--announce-file", str(announcement), "--stop-with-parent"]
    if settings:
        command += ["--config", str(settings)]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            # Ctrl-C is for the trainer, which still needs the service while it saves.
            start_new_session=True,
        )


def _environment(mode: str, store: Path | str | None, teacher: str | None) -> dict[str, str]:
    environment = {"TACO_SERVICE__PORT": "0", "TACO_SERVICE__MODE": mode}
    if teacher:
        environment["TACO_SERVICE__TEACHER"] = json.dumps(teacher)
    if store:
        # In quotes, because the service reads its variables as YAML.
        environment["TACO_SERVICE__STORE"] = json.dumps(
            str(store.absolute()) if isinstance(store, Path) else store
        )
    return environment


def _wait_until_ready(process: subprocess.Popen[bytes], announcement: Path, log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not announcement.exists():
        if process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip()
            raise UserError(f"the teacher service did not start:\n{said}")
        if time.monotonic() > deadline:
            raise UserError(f"the teacher service was not ready within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.02)
    return str(json.loads(announcement.read_text(encoding="utf-8"))["url"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
