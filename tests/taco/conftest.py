"""The command line, in this process and as an installed command."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import RunTaco, Said
from tests.tiny_runs import tiny_document


@pytest.fixture
def installed_taco(tmp_path: Path) -> RunTaco:
    """Run the installed command as a process, from a folder of its own."""
    command = Path(sys.executable).with_name("taco")

    def run(*arguments: object, cwd: Path = tmp_path, **environment: str) -> Said:
        done = subprocess.run(
            [str(command), *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def config_file(tmp_path: Path, meetings: Path, base: Path) -> Path:
    """A good config of a run of four steps."""
    path = tmp_path / "config.yaml"
    document = tiny_document(meetings, base, hyperparams={"epochs": 1})
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be written to, for root neither."""
    folder = tmp_path / "read_only"
    folder.mkdir(mode=0o555)
    if os.geteuid() != 0:
        yield folder
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("root writes everywhere, and a read-only mount takes the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
