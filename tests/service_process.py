"""The service as a process of its own, whose memory can be read."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

START_S = 60


@dataclass(frozen=True)
class ServiceProcess:
    """One that answers."""

    url: str
    pid: int

    def memory_kib(self) -> int:
        """What it holds in RAM (Linux)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")


@contextmanager
def service_process(folder: Path, **settings: Any) -> Iterator[ServiceProcess]:
    """`python -m teacher_service` with these settings, until the block ends."""
    config, announcement = folder / "service.yaml", folder / "announcement.json"
    store = str(folder / "completions.sqlite")
    config.write_text(yaml.safe_dump({"store": store, "port": 0, **settings}))
    command = [sys.executable, "-P", "-m", "teacher_service", "--config", str(config)]
    process = subprocess.Popen(
        [*command, "--announce-file", str(announcement)], stderr=subprocess.DEVNULL, cwd=folder
    )
    try:
        give_up = time.monotonic() + START_S
        while not announcement.exists():
            assert process.poll() is None, "the service did not start"
            assert time.monotonic() < give_up
            time.sleep(0.02)
        yield ServiceProcess(json.loads(announcement.read_text())["url"], process.pid)
    finally:
        process.terminate()
        process.wait(30)
