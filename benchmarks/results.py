"""How every benchmark ends: a table for people, then one JSON object, printed and on disk."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent / "results"
_PACKAGES = (
    "taco-rewards",
    "torch",
    "transformers",
    "llmlingua",
    "fastapi",
    "uvicorn",
    "SQLAlchemy",
    "diskcache",
    "langchain-community",
)


def publish(name: str, figures: Mapping[str, Any]) -> None:
    """Write `results/NAME.json` and print the same object as the last line."""
    result = {**figures, "measured": _circumstances()}
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    table = Table(title=title)
    for index, column in enumerate(header):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _circumstances() -> dict[str, Any]:
    """Date, commit, machine and versions; no host name."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": dict(filter(all, map(_versioned, _PACKAGES))),
    }


def _versioned(package: str) -> tuple[str, str | None]:
    try:
        return package, version(package)
    except PackageNotFoundError:  # An environment that needs only a part of them.
        return package, None


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(
        command, cwd=FOLDER.parent, capture_output=True, text=True, check=True
    ).stdout.strip()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
