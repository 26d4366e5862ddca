"""A server of our own: started, asked whether it works, started again when it does not, stopped.

All of it runs on a thread, so that a server that takes minutes to load delays nobody: the service
is up at once, and what needs the server waits for it.
"""

import asyncio
import logging
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from teacher_service.backends import tied_process
from teacher_service.backends.tied_process import STOP_S
from teacher_service.errors import StartError, UpstreamError

_log = logging.getLogger(__name__)

LOOK_S = 0.2
LONGEST_PAUSE_S = 60.0
STEADY_S = 60.0
"""A server that worked for so long is no longer one that fails to start."""
MOST_STARTS = 3
"""Of a server that has never worked: its command is wrong, and repeating it does not help."""


@dataclass(frozen=True, slots=True)
class Watch:
    """When a server counts as started, and when as stuck."""

    probe: Callable[[float], bool]
    """Whether it does real work, asked with seconds to wait; called on the supervisor's thread."""
    start_timeout_s: float
    hang_timeout_s: float
    """Without any answer for so long, it is probed; a probe that takes as long restarts it."""


class Supervisor:
    """Keeps one server running.

    Args:
        name: For messages.
        command: The program and its arguments.
        environment: All of the server's.
        watch: How to tell that it works.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], watch: Watch
    ) -> None:
        self._name = name
        self._command = command
        self._environment = environment
        self._watch = watch
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
        self._said: deque[str] = deque(maxlen=15)
        self._answered_at = time.monotonic()
        self.state: Literal["starting", "ready", "failed"] = "starting"
        self.starts = 0

    def start(self) -> None:
        """Begin; returns at once.

        Raises:
            StartError: There is no such program.
        """
        if shutil.which(self._command[0], path=self._environment.get("PATH")) is None:
            raise StartError(f"{self._name}: there is no program {self._command[0]}")
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """Why it cannot be asked just now; None where it can."""
        if self.state == "ready":
            return None
        if self.state == "failed":
            return f"{self._name} does not start: the service's log says why"
        return f"{self._name} is starting"

    async def until_ready(self) -> None:
        """Wait for a server that works.

        Raises:
            UpstreamError: It was given up.
        """
        while self.state == "starting" and not self._stopping.is_set():
            await asyncio.sleep(LOOK_S)
        if self.state != "ready":
            raise UpstreamError(self.trouble or f"{self._name} was stopped")

    def answered(self) -> None:
        """Note that it works."""
        self._answered_at = time.monotonic()

    def stop(self) -> None:
        """Stop the server; waits until it is gone, or a while: it ends with us in any case."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S + 10)

    def _keep(self) -> None:
        failures, worked = 0, False
        while not self._stopping.is_set():
            process = self._spawn()
            started = time.monotonic()
            try:
                if self._comes_up(process):
                    worked = True
                    self._stay(process)
            finally:
                self.state = "starting"
                _end(process)
            if self._stopping.is_set():
                return
            failures = 1 if worked and time.monotonic() - started > STEADY_S else failures + 1
            said = "\n".join(self._said)
            _log.error("%s ended (exit code %s):\n%s", self._name, process.returncode, said)
            if not worked and failures == MOST_STARTS:
                self.state = "failed"
                return
            self._stopping.wait(min(LONGEST_PAUSE_S, 2.0 ** (failures - 1)))

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        _log.info("starting %s: %s", self._name, " ".join(self._command))
        # By its path, with nothing else of ours: it needs the standard library alone.
        tie = [sys.executable, "-I", "-S", tied_process.__file__]
        process = subprocess.Popen(
            [*tie, *self._command],
            env=dict(self._environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the service, which lets calls finish first.
        )
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        with process.stdout as output:
            for line in output:
                text = line.decode(errors="replace").rstrip()
                self._said.append(text)
                _log.debug("%s: %s", self._name, text)

    def _comes_up(self, process: subprocess.Popen[bytes]) -> bool:
        give_up = time.monotonic() + self._watch.start_timeout_s
        while process.poll() is None and not self._stopping.wait(LOOK_S):
            left = give_up - time.monotonic()
            if left <= 0:
                _log.error("%s was not ready in time (start_timeout_s)", self._name)
                return False
            if self._watch.probe(left):
                return True
        return False

    def _stay(self, process: subprocess.Popen[bytes]) -> None:
        """Return when the server ends, hangs, or is to be stopped."""
        _log.info("%s is ready", self._name)
        self.answered()
        self.state = "ready"
        hang_s = self._watch.hang_timeout_s
        while process.poll() is None and not self._stopping.wait(LOOK_S):
            if time.monotonic() - self._answered_at > hang_s:
                if not self._watch.probe(hang_s):
                    _log.error("%s answers nothing any more: starting it again", self._name)
                    return
                self.answered()


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()
    try:
        process.wait(STOP_S + 5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
