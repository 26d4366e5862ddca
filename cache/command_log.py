"""What was promoted and removed by hand: noted, one JSON document a line."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.places import shown_place
from cache.store import default_store_path
from cache.translation import translated


def command_log(place: Path | str) -> Path:
    """Where that is: `<store>.log` beside a file, for every database `$TACO_HOME/postgresql.log`.

    The second is the log of the machine that gave the command.
    """
    if isinstance(place, str):
        return default_store_path().absolute().with_name("postgresql.log")
    path = place.expanduser().absolute()
    return path.with_name(path.name + ".log")


def log_command(place: Path | str, command: str, details: Mapping[str, Any]) -> None:
    """Note what a command is about to commit.

    A removal that cannot be noted must fail, so call it last within `writing`.

    Raises:
        StoreError: the log cannot be written.
    """
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": command, **details}
    if isinstance(place, str):
        entry["store"] = shown_place(place)
    log = command_log(place)
    with translated(log):
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
