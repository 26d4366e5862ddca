"""The set-up's decisions, with an interpreter that only notes what it is asked to do."""

import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "requirements/install.sh"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

PYTHON = """#!/bin/sh
echo "$@" >> "$NOTES"
case "$*" in
    "-m venv "*) [ -z "$NO_VENV" ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *urllib*) [ -n "$INDEX_ANSWERS" ] ;;
esac
"""


@dataclass
class Machine:
    """A folder of commands that stand before the real ones, and what was asked of Python."""

    folder: Path

    def command(self, name: str, text: str) -> None:
        """Put a shell script of this name on the path."""
        (self.folder / "bin").mkdir(exist_ok=True)
        file = self.folder / "bin" / name
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def install(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        return subprocess.run(
            [str(SCRIPT), str(self.folder / "venv")],
            env={
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "NOTES": str(self.folder / "notes"),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def asked(self, text: str) -> list[str]:
        """The calls of Python that contain a text."""
        return [line for line in (self.folder / "notes").read_text().splitlines() if text in line]


@pytest.fixture
def machine(tmp_path):
    """Linux with Python, no GPU and no way to PyTorch's own index."""
    machine = Machine(tmp_path)
    machine.command("python3", PYTHON)
    machine.command("uname", "echo Linux\n")
    machine.command("nvidia-smi", "exit 9\n")
    return machine


def _index_of_torch(machine: Machine) -> str | None:
    [call] = [line for line in machine.asked("pip") if line.split()[-3:].count("torch")]
    return call.partition("--index-url ")[2] or None


@pytest.mark.parametrize(
    ("commands", "environment", "index"),
    [
        ({}, {}, None),
        ({}, {"INDEX_ANSWERS": "yes"}, CPU_INDEX),
        ({"nvidia-smi": "echo 'GPU 0: one'\n"}, {"INDEX_ANSWERS": "yes"}, None),
        ({"uname": "echo Darwin\n"}, {"INDEX_ANSWERS": "yes"}, None),
        ({}, {"TORCH": "cpu"}, CPU_INDEX),
        ({}, {"TORCH": "cuda", "INDEX_ANSWERS": "yes"}, None),
    ],
)
def test_the_machine_decides_which_torch(machine, commands, environment, index):
    """The small build from its own index where there is no GPU and it answers; or as asked for."""
    for name, text in commands.items():
        machine.command(name, text)
    done = machine.install(**environment)
    assert done.returncode == 0, done.stderr
    assert _index_of_torch(machine) == index


def test_torch_comes_first_and_all_of_it_by_constraints(machine):
    """What depends on it would bring another build along."""
    machine.install()
    installs = machine.asked("pip --disable-pip-version-check install")
    assert [line.split()[-1].partition("[")[0] for line in installs] == [
        "torch",
        str(SCRIPT.parents[1]),
    ]
    assert all(f"--constraint {SCRIPT.parent / 'constraints.txt'}" in line for line in installs)
    assert "--editable" in installs[-1]


def test_an_environment_is_made_once(machine):
    """Again only where it has no pip: an earlier try was stopped."""
    for _ in range(2):
        assert machine.install().returncode == 0
    assert len(machine.asked("-m venv")) == 1
    (machine.folder / "venv/bin/python").write_text("#!/bin/sh\nexit 1\n")
    assert machine.install().returncode == 0
    assert len(machine.asked("-m venv")) == 2


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"NO_VENV": "yes"}, "venv module is missing; on Debian and Ubuntu: apt install"),
        ({"PYTHON": "/nowhere/python"}, "expected Python 3.11 or newer and found none"),
        ({"TORCH": "gpu"}, "expected TORCH=cpu or TORCH=cuda, got TORCH=gpu"),
    ],
)
def test_what_is_missing_is_said(machine, environment, said):
    """With what to do."""
    done = machine.install(**environment)
    assert done.returncode == 1
    assert said in done.stderr
